"""The comment on a pull request: one per model and champion alias, updated in place.

A comment informs and decides nothing: whatever GitHub does, `comment` answers what became of it and never raises.
REST API: https://docs.github.com/rest/issues/comments
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, TypeVar
from urllib.parse import urljoin, urlsplit

from champion_gate.github import Context, hide, without_secrets
from champion_gate.text import one_line
from champion_gate.time_limit import NoAnswer, bounded

if TYPE_CHECKING:
    from requests import PreparedRequest

T = TypeVar("T")

BODY_CHARACTERS = 65_536
"""The longest comment that GitHub documents, marker included."""
# Room for what ends a body that is cut: closing tags and the notice.
_CUT_CHARACTERS = 1000
_CUT_DETAILS = 20

# Seconds: all of it; one request with its answer; connecting, and each silence.
_TOTAL_SECONDS = 60.0
_REQUEST_SECONDS = 20.0
_SILENCE_SECONDS = 10.0
# Waits before a request is repeated, and before each look for a comment whose sending had no clear answer.
_BACKOFF = (0.5, 1.0, 2.0, 4.0)
_SETTLING = (1.0, 2.0, 4.0)

# GitHub allows 2500 comments on a pull request, of up to 256 KiB each.
_PAGES = 30
_PAGE_ROWS = 100
_ANSWER_BYTES = 64 * 1024 * 1024
_REDIRECTS = 3
_ROUNDS = 3

_ACTIONS_BOT = "github-actions[bot]"
_WITH_REPORT = "The job's summary has the report."
_NOT_GITHUB = "the answer is not of GitHub's API, something else answers in its place"


@dataclass(frozen=True)
class Posted:
    """What became of the comment; `url` shows it, `reason` says why there is none, at the `level` it is worth."""

    state: Literal["created", "updated", "unchanged", "not_posted"]
    reason: str = ""
    level: Literal["notice", "warning"] = "notice"
    url: str = ""


def marker_for(model_name: str, alias: str) -> str:
    """The hidden first line by which the comment of this model and champion alias is found again.

    It holds a digest only, so that no name can end the HTML comment or pass for another pair of names.
    """
    names = json.dumps([model_name, alias]).encode()
    return f"<!-- champion-gate: {hashlib.sha256(names).hexdigest()[:32]} -->"


def comment(job: Context, token: str, marker: str, body: str) -> Posted:
    """Put `body` on the job's pull request, in the one comment of the token's user that starts with `marker`.

    Creates it, updates it in place, or leaves it if nothing changed. Ends within a minute. A body that is longer
    than GitHub takes is cut with a notice.
    """
    token = token.strip()
    hide([token])
    try:
        return _Comments(job, token, marker, body).put()
    except _Stop as stop:
        return Posted("not_posted", str(stop), stop.level)
    except _Unclear as unclear:
        return Posted(
            "not_posted",
            f"GitHub gave no usable answer about the comment on pull request #{job.pull_request}: {unclear}. "
            f"{_WITH_REPORT} Re-run the job for the comment.",
            "warning",
        )


class _Stop(Exception):
    """There will be no comment, for the reason given."""

    def __init__(self, reason: str, level: Literal["notice", "warning"] = "notice") -> None:
        super().__init__(reason)
        self.level: Literal["notice", "warning"] = level


class _Unclear(Exception):
    """No usable answer came back: what was asked for may or may not have been done."""


@dataclass(frozen=True)
class _Comment:
    id: int
    body: str
    author_id: int | None
    author: str
    url: str


@dataclass(frozen=True)
class _Author:
    """The token's user. An id is never given to another; a login is one user's at a time."""

    id: int | None
    logins: frozenset[str]

    def wrote(self, comment: _Comment) -> bool:
        return (self.id is not None and comment.author_id == self.id) or comment.author.casefold() in self.logins


class _Comments:
    """The comments of one pull request, seen by one token, and the text that one of them is to have."""

    def __init__(self, job: Context, token: str, marker: str, body: str) -> None:
        if job.pull_request is None:
            raise _Stop(
                f"No comment: this job (event '{one_line(job.event, 40) or 'none'}') belongs to no pull request. "
                f"{_WITH_REPORT}"
            )
        if not token:
            raise _Stop(
                f"No comment on pull request #{job.pull_request}: there is no token. {_WITH_REPORT} "
                "Give the job's token for it.",
                "warning",
            )
        if not re.fullmatch(r"[\x21-\x7e]+", token):
            raise _Stop(
                f"No comment on pull request #{job.pull_request}: the token holds what no token of GitHub's does. "
                f"{_WITH_REPORT} Check where it comes from.",
                "warning",
            )
        if not re.fullmatch(r"[A-Za-z0-9_-]+/(?!\.{1,2}$)[A-Za-z0-9_.-]+", job.repository):
            raise _Stop(
                f"No comment: '{one_line(job.repository, 120)}' names no repository on GitHub. {_WITH_REPORT}",
                "warning",
            )
        self._job = job
        self._api = _Api(job, token)
        self._repository = f"{job.api_url}/repos/{job.repository}"
        self._pull_request = f"{self._repository}/issues/{job.pull_request}"
        self._marker = marker
        self._text = f"{marker}\n{fit(without_secrets(body), BODY_CHARACTERS - len(marker) - 1, job.run_url)}"

    def put(self) -> Posted:
        """Make the comment say the text."""
        for _ in range(_ROUNDS):
            own = self._own()
            if not own:
                return self._create()
            if posted := self._rewrite(own[-1]):
                return posted
            # It was deleted since: look again.
        raise _Stop(
            f"No comment on pull request #{self._job.pull_request}: it disappears whenever it is updated. "
            f"{_WITH_REPORT} See which other job deletes it.",
            "warning",
        )

    def _own(self) -> list[_Comment]:
        """The comments that the token's user wrote and that start with the marker, oldest first."""
        marked = [each for each in self._all() if each.body.partition("\n")[0].rstrip() == self._marker]
        # Anybody can write the marker; only the author shows whose comment it is. Without one, nobody is asked for.
        return sorted((each for each in marked if self._author.wrote(each)), key=lambda each: each.id)

    def _all(self) -> Iterator[_Comment]:
        for page in range(1, _PAGES + 1):
            url = f"{self._pull_request}/comments?per_page={_PAGE_ROWS}&page={page}"
            answer = self._api.ask("GET", url)
            if answer.status != 200:
                raise self._refusal(answer)
            if not isinstance(answer.document, list):
                raise _Unclear(_NOT_GITHUB)
            yield from filter(None, map(_comment, answer.document))
            # Only that there is a next page is taken from the header: its address could lead the token anywhere.
            if not re.search(r'\brel="?next\b', answer.headers.get("Link", "")):
                return
        raise _Stop(
            f"No comment on pull request #{self._job.pull_request}: it has more than {_PAGES * _PAGE_ROWS} comments, "
            f"and one of ours may be among those not looked at. {_WITH_REPORT}",
            "warning",
        )

    @cached_property
    def _author(self) -> _Author:
        """The token's user: GraphQL names it, also to the tokens of apps, which `GET /user` refuses.

        Where neither does, it is taken for GITHUB_TOKEN's; `_give_way` puts right what that gets wrong.
        """
        query = {"query": "query { viewer { login databaseId } }"}
        try:
            answer = self._api.ask("POST", self._job.graphql_url, query, pauses=_BACKOFF[:1])
            viewer = _author(_at(answer.document, "data", "viewer"), "databaseId")
        except (_Unclear, _Stop):
            viewer = None
        if viewer:
            return viewer
        answer = self._api.ask("GET", f"{self._job.api_url}/user")
        user = _author(answer.document, "id") if answer.status == 200 else None
        return user or _Author(None, frozenset({_ACTIONS_BOT}))

    def _rewrite(self, comment: _Comment) -> Posted | None:
        """Give a comment the text; None if it is not there any more."""
        if _plain(comment.body) == _plain(self._text):
            return Posted("unchanged", url=self._shown(comment))
        answer = self._api.ask("PATCH", f"{self._repository}/issues/comments/{comment.id}", {"body": self._text})
        if answer.status in (404, 410):
            return None
        if answer.status != 200:
            raise self._refusal(answer)
        if _comment(answer.document) is None:
            raise _Unclear(_NOT_GITHUB)
        return Posted("updated", url=self._shown(comment))

    def _create(self) -> Posted:
        """Send the comment once: a second sending after an unclear answer could make two."""
        try:
            answer = self._api.ask("POST", f"{self._pull_request}/comments", {"body": self._text}, pauses=())
        except _Unclear as unclear:
            return self._found_after(unclear)
        if 300 <= answer.status < 500:
            raise self._refusal(answer)
        created = _comment(answer.document)
        if created is None:
            return self._found_after(_Unclear(_NOT_GITHUB))
        return self._give_way(created, _author(_at(answer.document, "user"), "id"))

    def _found_after(self, unclear: _Unclear) -> Posted:
        for pause in _SETTLING:
            self._api.wait(pause)
            if own := self._own():
                posted = self._rewrite(own[-1])
                if posted and posted.state == "unchanged":
                    return Posted("created", url=posted.url)
                return posted or Posted("not_posted", f"The comment was deleted at once. {_WITH_REPORT}", "warning")
        raise unclear

    def _give_way(self, created: _Comment, author: _Author | None) -> Posted:
        """Of two jobs that found no comment and made one each, the later one moves into the earlier's comment.

        The lower number never gives way, so not both do. Only the comment that this call has just made is deleted,
        and only for another by the same author, who is known for certain now.
        """
        posted = Posted("created", url=self._shown(created))
        if author is None:
            return posted
        self._author = author
        try:
            earlier = [each for each in self._own() if each.id < created.id]
            moved = self._rewrite(earlier[0]) if earlier else None
            if moved:
                self._api.ask("DELETE", f"{self._repository}/issues/comments/{created.id}")
        except (_Stop, _Unclear):
            return posted  # there are two then, and the next run updates the newest
        return Posted("updated", url=moved.url) if moved else posted

    def _shown(self, comment: _Comment) -> str:
        """The comment's address for people, if it is one of this GitHub's."""
        return one_line(comment.url, 500) if comment.url.startswith(f"{self._job.server_url}/") else ""

    def _refusal(self, answer: _Answer) -> _Stop:
        said = [_at(answer.document, "message"), _at(answer.document, "errors")]
        texts = [part if isinstance(part, str) else json.dumps(part) for part in said if part]
        shown = one_line(without_secrets(": ".join([str(answer.status), *texts])), 300)
        head = f"No comment on pull request #{self._job.pull_request}: GitHub"
        if answer.status == 401:
            return _Stop(f"{head} does not know the token ({shown}). {_WITH_REPORT} Check the token.", "warning")
        if answer.status not in (403, 404):
            return _Stop(f"{head} refused it ({shown}). {_WITH_REPORT}", "warning")
        fork = "A job for a pull request from a fork has a token that may only read. " if self._job.from_fork else ""
        return _Stop(
            f"{head} does not permit it ({shown}). {fork}{_WITH_REPORT} "
            "A comment needs 'pull-requests: write' in the job's permissions."
        )


@dataclass(frozen=True)
class _Answer:
    """`document` is the body's JSON; None if it is not JSON."""

    status: int
    headers: Mapping[str, str]
    document: Any


class _Api:
    """Requests to GitHub: bounded in time, size and repetition, the token sent to the API's own host only."""

    def __init__(self, job: Context, token: str) -> None:
        for url in (job.api_url, job.graphql_url):
            if not _may_carry_a_token(url, job.server_url):
                raise _Stop(
                    f"No comment: GitHub's API at '{one_line(url, 120)}' is not an https address, and the token is not "
                    f"sent in the clear. {_WITH_REPORT}",
                    "warning",
                )
        self._token = token
        self._deadline = time.monotonic() + _TOTAL_SECONDS

    def ask(
        self, method: str, url: str, document: dict[str, str] | None = None, *, pauses: Iterable[float] | None = None
    ) -> _Answer:
        """GitHub's answer, whatever it says, below 500.

        `pauses`: seconds before each repetition after an unclear answer, empty for what must not be done twice.
        After a rate limit's answer, which did nothing, any request is repeated.

        Raises:
            _Unclear: no answer, or a server's error, after all attempts.
            _Stop: a rate limit that ends too late, or an answer that leads elsewhere.
        """
        left = iter(_BACKOFF if pauses is None else pauses)
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
                unclear = _Unclear(f"it answered {answer.status}")
                retry_after = _retry_after(answer.headers)
            except _Unclear as error:
                unclear = error
            pause = next(left, None)
            if pause is None:
                raise unclear
            self.wait(max(pause, retry_after or 0.0), unclear)

    def wait(self, seconds: float, otherwise: _Unclear | None = None) -> None:
        """Wait, if the time allows.

        Raises:
            _Unclear: it does not; `otherwise`, if given.
        """
        if seconds >= self._left():
            raise otherwise or _Unclear(f"nothing certain within {_TOTAL_SECONDS:g} s")
        time.sleep(seconds)

    def _wait_for_the_limit(self, seconds: float) -> None:
        try:
            self.wait(max(seconds, 1.0))  # also a limit of no length costs time, or the answers could go on for ever
        except _Unclear:
            raise _Stop(
                f"No comment: GitHub limits how often this token may ask, for longer than this job waits. "
                f"{_WITH_REPORT} Re-run the job later for the comment.",
                "warning",
            ) from None

    def _left(self) -> float:
        return self._deadline - time.monotonic()

    def _follow(self, method: str, url: str, document: dict[str, str] | None) -> _Answer:
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
                raise _Stop(
                    f"No comment: GitHub's API redirects to '{one_line(without_secrets(target), 120)}', and the token "
                    f"is for its own host only. {_WITH_REPORT}",
                    "warning",
                )
            url = target
        raise _Unclear("it redirects in a circle")

    def _send(self, method: str, url: str, document: dict[str, str] | None) -> _Answer:
        """Send the request once.

        Raises:
            _Unclear: no answer came, or not in time.
        """
        import requests  # 0.25 s, which a job without a pull request does not pay

        def call() -> _Answer:
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
                        raise _Unclear("the answer has no end")
                try:
                    parsed = json.loads(raw)
                except (ValueError, RecursionError):
                    parsed = None
                return _Answer(response.status_code, response.headers, parsed)

        try:
            return _within(call, min(_REQUEST_SECONDS, self._left()))
        except _Unclear:
            raise
        except Exception as error:  # networks fail in many classes, and none may change a verdict
            said = without_secrets(str(error))
            raise _Unclear(one_line(said.partition("(Caused by ")[2].removesuffix(")") or said, 300)) from error

    def _sign(self, request: PreparedRequest) -> PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


def _within(call: Callable[[], T], seconds: float) -> T:
    if seconds <= 0:
        raise _Unclear(f"nothing certain within {_TOTAL_SECONDS:g} s")
    try:
        return bounded(call, seconds)
    except NoAnswer:
        raise _Unclear(f"no whole answer within {seconds:.0f} s") from None


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


def _limited_for(answer: _Answer) -> float | None:
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
    told = str(_at(answer.document, "message")).casefold()
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


def _comment(row: Any) -> _Comment | None:
    """A comment as the REST API shows it; None if it is not one."""
    number, body = _at(row, "id"), _at(row, "body")
    if not isinstance(number, int):
        return None
    author_id, login, url = _at(row, "user", "id"), _at(row, "user", "login"), _at(row, "html_url")
    return _Comment(
        number,
        body if isinstance(body, str) else "",
        author_id if isinstance(author_id, int) else None,
        login if isinstance(login, str) else "",
        url if isinstance(url, str) else "",
    )


def _author(user: Any, id_key: str) -> _Author | None:
    login, number = _at(user, "login"), _at(user, id_key)
    if not isinstance(login, str) or not login:
        return None
    logins = {login.casefold()}
    if login == _ACTIONS_BOT.removesuffix("[bot]"):
        logins = {_ACTIONS_BOT}  # GraphQL may leave out what REST adds
    return _Author(number if isinstance(number, int) else None, frozenset(logins))


def _at(document: Any, *keys: str) -> Any:
    for key in keys:
        document = document.get(key) if isinstance(document, dict) else None
    return document


def _plain(body: str) -> str:
    """A body as it compares: GitHub may keep other line ends than it was given."""
    return body.replace("\r\n", "\n").rstrip()


def fit(body: str, limit: int, more_url: str = "") -> str:
    """`body` as GitHub takes it in at most `limit` characters: cut at a line's end, what is open closed, and said so.

    Characters are code points; of these any 65 536 stay below the 262 144 bytes that GitHub stores.
    """
    # Half of a surrogate pair is no text, and a NUL is not kept.
    body = body.encode("utf-8", "replace").decode().replace("\0", "\ufffd")
    if len(body) <= limit:
        return body
    kept = body[: max(0, limit - _CUT_CHARACTERS - len(more_url))]
    kept = kept[: kept.rfind("\n") + 1] or kept
    fence = ""
    for line in kept.splitlines():
        mark = re.match(r" {0,3}(`{3,}|~{3,})", line)
        if mark and not fence:
            fence = mark[1]
        elif mark and mark[1].startswith(fence) and line.strip() == mark[1]:
            fence = ""
    # What stays open would swallow the notice: a code block, a comment, folded sections.
    if fence:
        kept += f"\n{fence[:100]}\n"
    if kept.rfind("<!--") > kept.rfind("-->"):
        kept += "\n-->\n"
    kept += "\n</details>" * max(0, min(_CUT_DETAILS, kept.count("<details") - kept.count("</details>")))
    where = f"[the job's summary]({more_url})" if more_url else "The job's summary"
    return f"{kept}\n\n_Cut here: GitHub takes no more in a comment. The rest: {where}._\n"
