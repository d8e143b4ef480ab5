"""The comment on a pull request: one per model and champion alias, updated in place.

A comment informs and decides nothing: whatever GitHub does, `comment` answers what became of it and never raises.
REST API: https://docs.github.com/rest/issues/comments
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from champion_gate.github import Context, hide, without_secrets
from champion_gate.github_api import (
    BACKOFF,
    NOT_GITHUB,
    Answer,
    Api,
    NotAsked,
    TooLong,
    Unclear,
    at,
    may_be_a_token,
    names_a_repository,
)
from champion_gate.text import one_line

BODY_CHARACTERS = 65_536
"""The longest comment that GitHub documents, marker included."""
# Room for what ends a body that is cut: closing tags and the notice.
_CUT_CHARACTERS = 1000
_CUT_DETAILS = 20

# Seconds before each look for a comment whose sending had no clear answer.
_SETTLING = (1.0, 2.0, 4.0)
_ROUNDS = 3

_ACTIONS_BOT = "github-actions[bot]"
_WITH_REPORT = "The job's summary has the report."


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
    except NotAsked as error:
        reason = " ".join(filter(None, (f"No comment: {error}", _WITH_REPORT, error.do)))
        return Posted("not_posted", reason, "warning")
    except Unclear as unclear:
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
                "It comes from the input github-token, which is the job's token unless it is given.",
                "warning",
            )
        if not may_be_a_token(token):
            raise _Stop(
                f"No comment on pull request #{job.pull_request}: the token holds what no token of GitHub's does. "
                f"{_WITH_REPORT} Check where it comes from.",
                "warning",
            )
        if not names_a_repository(job.repository):
            raise _Stop(
                f"No comment: '{one_line(job.repository, 120)}' names no repository on GitHub. {_WITH_REPORT}",
                "warning",
            )
        self._job = job
        self._api = Api(job, token)
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
        try:
            for answer in self._api.pages(f"{self._pull_request}/comments"):
                if answer.status != 200:
                    raise self._refusal(answer)
                if not isinstance(answer.document, list):
                    raise Unclear(NOT_GITHUB)
                yield from filter(None, map(_comment, answer.document))
        except TooLong as error:
            raise _Stop(
                f"No comment on pull request #{self._job.pull_request}: it has more than {error.rows} comments, "
                f"and one of ours may be among those not looked at. {_WITH_REPORT}",
                "warning",
            ) from None

    @cached_property
    def _author(self) -> _Author:
        """The token's user: GraphQL names it, also to the tokens of apps, which `GET /user` refuses.

        Where neither does, it is taken for GITHUB_TOKEN's; `_give_way` puts right what that gets wrong.
        """
        query = {"query": "query { viewer { login databaseId } }"}
        try:
            answer = self._api.ask("POST", self._job.graphql_url, query, pauses=BACKOFF[:1])
            viewer = _author(at(answer.document, "data", "viewer"), "databaseId")
        except (Unclear, NotAsked):
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
            raise Unclear(NOT_GITHUB)
        return Posted("updated", url=self._shown(comment))

    def _create(self) -> Posted:
        """Send the comment once: a second sending after an unclear answer could make two."""
        try:
            answer = self._api.ask("POST", f"{self._pull_request}/comments", {"body": self._text}, pauses=())
        except Unclear as unclear:
            return self._found_after(unclear)
        if 300 <= answer.status < 500:
            raise self._refusal(answer)
        created = _comment(answer.document)
        if created is None:
            return self._found_after(Unclear(NOT_GITHUB))
        return self._give_way(created, _author(at(answer.document, "user"), "id"))

    def _found_after(self, unclear: Unclear) -> Posted:
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
        except (_Stop, NotAsked, Unclear):
            return posted  # there are two then, and the next run updates the newest
        return Posted("updated", url=moved.url) if moved else posted

    def _shown(self, comment: _Comment) -> str:
        """The comment's address for people, if it is one of this GitHub's."""
        return one_line(comment.url, 500) if comment.url.startswith(f"{self._job.server_url}/") else ""

    def _refusal(self, answer: Answer) -> _Stop:
        shown = answer.said()
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


def _comment(row: Any) -> _Comment | None:
    """A comment as the REST API shows it; None if it is not one."""
    number, body = at(row, "id"), at(row, "body")
    if not isinstance(number, int):
        return None
    author_id, login, url = at(row, "user", "id"), at(row, "user", "login"), at(row, "html_url")
    return _Comment(
        number,
        body if isinstance(body, str) else "",
        author_id if isinstance(author_id, int) else None,
        login if isinstance(login, str) else "",
        url if isinstance(url, str) else "",
    )


def _author(user: Any, id_key: str) -> _Author | None:
    login, number = at(user, "login"), at(user, id_key)
    if not isinstance(login, str) or not login:
        return None
    logins = {login.casefold()}
    if login == _ACTIONS_BOT.removesuffix("[bot]"):
        logins = {_ACTIONS_BOT}  # GraphQL may leave out what REST adds
    return _Author(number if isinstance(number, int) else None, frozenset(logins))


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
