"""Requests to GitHub's REST API: bounded in time, size and repetition, the token sent to the API's own host only.

https://docs.github.com/rest/using-the-rest-api/best-practices-for-using-the-rest-api
"""

from __future__ import annotations

import ipaddress
import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urljoin, urlsplit

from champion_gate.github import Context, without_secrets
from champion_gate.text import one_line
from champion_gate.time_limit import NoAnswer, bounded

if TYPE_CHECKING:
    from requests import PreparedRequest

T = TypeVar("T")

# Seconds: all of it; one request with its answer; connecting, and each silence.
_TOTAL_SECONDS = 60.0
_REQUEST_SECONDS = 20.0
_SILENCE_SECONDS = 10.0
# Waits before a request is repeated.
BACKOFF = (0.5, 1.0, 2.0, 4.0)

# GitHub allows 2500 comments on a pull request, of up to 256 KiB each; no list that is read here may be longer.
_PAGES = 30
_PAGE_ROWS = 100
_ANSWER_BYTES = 64 * 1024 * 1024
_REDIRECTS = 3

NOT_GITHUB = "the answer is not of GitHub's API, something else answers in its place"


class Unclear(Exception):
    """No usable answer came back: what was asked for may or may not have been done. The text is a clause."""


class NotAsked(Exception):
    """GitHub is not asked, or not any more: the text says why, and `do` what to do next, each a sentence or empty."""

    def __init__(self, why: str, do: str = "") -> None:
        super().__init__(why)
        self.do = do


class TooLong(Exception):
    """A list has more than `rows` rows, and the others were not looked at."""

    def __init__(self, rows: int) -> None:
        super().__init__(f"more than {rows} rows")
        self.rows = rows


def may_be_a_token(text: str) -> bool:
    """Whether it can stand in a header as GitHub's tokens do: printable ASCII, no spaces, not empty."""
    return re.fullmatch(r"[\x21-\x7e]+", text) is not None


def names_a_repository(text: str) -> bool:
    """Whether it is "owner/name" of GitHub's characters, so that no part of it leads elsewhere in an address."""
    return re.fullmatch(r"[A-Za-z0-9_-]+/(?!\.{1,2}$)[A-Za-z0-9_.-]+", text) is not None


def at(document: Any, *keys: str) -> Any:
    """The value at a path of keys; None where anything of it is missing or is no object."""
    for key in keys:
        document = document.get(key) if isinstance(document, dict) else None
    return document


@dataclass(frozen=True)
class Answer:
    """`document` is the body's JSON; None if it is not JSON."""

    status: int
    headers: Mapping[str, str]
    document: Any

    def said(self) -> str:
        """The status and what GitHub says of it, to show to people."""
        told = [at(self.document, "message"), at(self.document, "errors")]
        texts = [part if isinstance(part, str) else json.dumps(part) for part in told if part]
        return one_line(without_secrets(": ".join([str(self.status), *texts])), 300)


class Api:
    """The API of the job's GitHub, asked with one token, for a minute from now on.

    Raises:
        NotAsked: its addresses are none that a token may be sent to.
    """

    def __init__(self, job: Context, token: str) -> None:
        for url in (job.api_url, job.graphql_url):
            if not _may_carry_a_token(url, job.server_url):
                raise NotAsked(
                    f"GitHub's API at '{one_line(url, 120)}' is not an https address, and the token is not sent in the "
                    "clear."
                )
        self._token = token
        self._deadline = time.monotonic() + _TOTAL_SECONDS

    def ask(
        self, method: str, url: str, document: dict[str, str] | None = None, *, pauses: Iterable[float] | None = None
    ) -> Answer:
        """GitHub's answer, whatever it says, below 500.

        `pauses`: seconds before each repetition after an unclear answer, empty for what must not be done twice.
        After a rate limit's answer, which did nothing, any request is repeated.

        Raises:
            Unclear: no answer, or a server's error, after all attempts.
            NotAsked: a rate limit that ends too late, or an answer that leads elsewhere.
        """
        left = iter(BACKOFF if pauses is None else pauses)
        while True:
            retry_after = None
            try:
                answer = self._follow(method, url, document)
                limited = _limited_for(answer)
                if limited is not None:
                    self._wait_for_the_limit(limited)
                    continue
                if answer.status < 500:
                    return answer
                unclear = Unclear(f"it answered {answer.status}")
                retry_after = _retry_after(answer.headers)
            except Unclear as error:
                unclear = error
            pause = next(left, None)
            if pause is None:
                raise unclear
            self.wait(max(pause, retry_after or 0.0), unclear)

    def pages(self, url: str) -> Iterator[Answer]:
        """The answers for the pages of a list, whatever they say, until there is no next one.

        Raises:
            Unclear, NotAsked: as `ask`.
            TooLong: there is no end to them.
        """
        for page in range(1, _PAGES + 1):
            answer = self.ask("GET", f"{url}?per_page={_PAGE_ROWS}&page={page}")
            yield answer
            # Only that there is a next page is taken from the header: its address could lead the token anywhere.
            if not re.search(r'\brel="?next\b', answer.headers.get("Link", "")):
                return
        raise TooLong(_PAGES * _PAGE_ROWS)

    def wait(self, seconds: float, otherwise: Unclear | None = None) -> None:
        """Wait, if the time allows.

        Raises:
            Unclear: it does not; `otherwise`, if given.
        """
        if seconds >= self._left():
            raise otherwise or Unclear(f"nothing certain within {_TOTAL_SECONDS:g} s")
        time.sleep(seconds)

    def _wait_for_the_limit(self, seconds: float) -> None:
        try:
            self.wait(max(seconds, 1.0))  # also a limit of no length costs time, or the answers could go on for ever
        except Unclear:
            raise NotAsked(
                "GitHub limits how often this token may ask, for longer than this job waits.", "Re-run the job later."
            ) from None

    def _left(self) -> float:
        return self._deadline - time.monotonic()

    def _follow(self, method: str, url: str, document: dict[str, str] | None) -> Answer:
        """Send the request, and again where GitHub says that it has moved, as for a renamed repository."""
        for _ in range(_REDIRECTS + 1):
            answer = self._send(method, url, document)
            if answer.status not in (301, 302, 307, 308):
                return answer
            try:
                target = urljoin(url, answer.headers.get("Location", ""))
            except ValueError:
                target = ""
            if _origin(target) != _origin(url):
                raise NotAsked(
                    f"GitHub's API redirects to '{one_line(without_secrets(target), 120)}', and the token is for its "
                    "own host only."
                )
            url = target
        raise Unclear("it redirects in a circle")

    def _send(self, method: str, url: str, document: dict[str, str] | None) -> Answer:
        """Send the request once.

        Raises:
            Unclear: no answer came, or not in time.
        """
        import requests  # 0.25 s, which a job without a pull request does not pay

        def call() -> Answer:
            with requests.request(
                method,
                url,
                json=document,
                headers={
                    "Accept": "application/vnd.github+json",
                    "X-GitHub-Api-Version": "2022-11-28",
                    "User-Agent": "champion-gate",
                },
                # Not among the headers: there, a .netrc of this machine would replace it.
                auth=self._sign,
                timeout=(_SILENCE_SECONDS, _SILENCE_SECONDS),
                allow_redirects=False,
                stream=True,
            ) as response:
                raw = bytearray()
                for chunk in response.iter_content(65_536):
                    raw += chunk
                    if len(raw) > _ANSWER_BYTES:
                        raise Unclear("the answer has no end")
                try:
                    parsed = json.loads(raw)
                except (ValueError, RecursionError):
                    parsed = None
                return Answer(response.status_code, response.headers, parsed)

        try:
            return _within(call, min(_REQUEST_SECONDS, self._left()))
        except Unclear:
            raise
        except Exception as error:  # networks fail in many classes, and none may change a verdict
            said = without_secrets(str(error))
            raise Unclear(one_line(said.partition("(Caused by ")[2].removesuffix(")") or said, 300)) from error

    def _sign(self, request: PreparedRequest) -> PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


def _within(call: Callable[[], T], seconds: float) -> T:
    if seconds <= 0:
        raise Unclear(f"nothing certain within {_TOTAL_SECONDS:g} s")
    try:
        return bounded(call, seconds)
    except NoAnswer:
        raise Unclear(f"no whole answer within {seconds:.0f} s") from None


def _may_carry_a_token(url: str, server_url: str) -> bool:
    """Whether it is https; plain http is for this machine, and for an Enterprise Server that has nothing else."""
    try:
        parts = urlsplit(url)
        if parts.username is not None or not parts.hostname:
            return False
        if parts.scheme == "https":
            return True
        return parts.scheme == "http" and (_is_loopback(parts.hostname) or _origin(server_url)[:2] == _origin(url)[:2])
    except ValueError:
        return False


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _origin(url: str) -> tuple[str, str, int | None]:
    try:
        parts = urlsplit(url)
        return parts.scheme, parts.hostname or "", parts.port or {"https": 443, "http": 80}.get(parts.scheme)
    except ValueError:
        return "", url, None


def _limited_for(answer: Answer) -> float | None:
    """Seconds until GitHub answers again, if this answer is a rate limit's; infinite if it does not say.

    https://docs.github.com/rest/using-the-rest-api/rate-limits-for-the-rest-api
    """
    if answer.status not in (403, 429):
        return None
    if (seconds := _retry_after(answer.headers)) is not None:
        return seconds
    if answer.headers.get("x-ratelimit-remaining", "").strip() == "0":
        reset = _number(answer.headers.get("x-ratelimit-reset", ""))
        return float("inf") if reset is None else reset - time.time()
    told = str(at(answer.document, "message")).casefold()
    return float("inf") if answer.status == 429 or "rate limit" in told else None


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that the answer asks to wait: a number, or (RFC 9110) a date."""
    value = headers.get("Retry-After", "")
    if (seconds := _number(value)) is not None:
        return seconds
    try:
        when = parsedate_to_datetime(value)
    except (TypeError, ValueError, IndexError, OverflowError):
        return None
    return (when if when.tzinfo else when.replace(tzinfo=timezone.utc)).timestamp() - datetime.now(
        timezone.utc
    ).timestamp()


def _number(text: str) -> float | None:
    return float(text) if re.fullmatch(r"[0-9]{1,12}", text.strip()) else None
