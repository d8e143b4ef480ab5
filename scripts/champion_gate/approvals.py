"""Who approved this workflow run: the reviews of its environments, as GitHub keeps them.

REST API: https://docs.github.com/rest/actions/workflow-runs#get-the-review-history-for-a-workflow-run
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from champion_gate.errors import OutsideWorldFailed
from champion_gate.github import Context, hide, log, without_secrets
from champion_gate.github_api import (
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

# Characters that are kept: GitHub's logins have up to 39 (and a bot's suffix), names of environments up to 255.
_LOGIN = 100
_ENVIRONMENT = 300
_COMMENT = 1000
# Rows and names beyond any run's; what has more is no history of reviews.
_REVIEWS = 3000
_SHOWN = 20

_UNREAD = "Who approved this run could not be read."
_PERMISSIONS = (
    "Give the job `permissions: {actions: read, contents: read}` (what is not named there is taken away), "
    "and pass its `${{ github.token }}`."
)


@dataclass(frozen=True)
class Approval:
    """An approval of the run by a reviewer; each text is on one line and capped."""

    reviewer: str
    """Login of the user, as GitHub has it; a bot's ends in "[bot]"."""
    comment: str
    environment: str
    """What was approved; of several environments in one review, their names joined by ", "."""
    also: tuple[str, ...]
    """Logins of the others whose approvals count as well, newest first."""
    self_approved: bool
    """Whether the reviewer also started the run, or the attempt that this job belongs to."""
    attempt: int | None
    """The attempt that was approved: 1 in a run that nobody re-ran; None, as GitHub does not tell, in any other."""


@dataclass(frozen=True)
class _Review:
    state: str
    reviewer: str
    comment: str
    environments: tuple[str, ...]


def approval(job: Context, token: str) -> Approval | None:
    """The newest approval of the job's run that counts; None if there is none.

    It counts if a user is named who approved, and nobody rejected the same environment in this run. A user whose
    account is gone approves nothing.

    GitHub documents neither an order nor a time for these reviews (`created_at` is the environment's own), nor which
    attempt one belongs to: the reviews of a run are those of all its attempts. So the last one listed is taken for
    the newest, `also` names the others, and a rejection counts whether it is listed before or after: after a
    rejection, a new run must be approved, not a re-run. Ends within a minute; needs `actions: read`.

    Raises:
        OutsideWorldFailed: GitHub did not say. Whether that matters is the caller's to decide.
    """
    token = token.strip()
    hide([token])
    problem = _cannot_ask(job, token)
    if problem:
        raise OutsideWorldFailed(_UNREAD, *problem)
    try:
        return _newest(_reviews(job, Api(job, token)), job)
    except NotAsked as error:
        raise OutsideWorldFailed(_UNREAD, str(error), error.do) from error
    except TooLong as error:
        raise OutsideWorldFailed(_UNREAD, f"GitHub's list of reviews does not end: it has {error}.") from error
    except Unclear as error:
        raise OutsideWorldFailed(_UNREAD, f"GitHub gave no usable answer: {error}.", "Re-run the job.") from error


def _cannot_ask(job: Context, token: str) -> tuple[str, str] | None:
    """Why GitHub cannot be asked, and what to do about it."""
    if not token:
        return "There is no token.", _PERMISSIONS
    if not may_be_a_token(token):
        return "The token holds what no token of GitHub's does.", "Check where it comes from."
    if not names_a_repository(job.repository):
        return f"'{one_line(job.repository, 120)}' names no repository on GitHub.", "Run this in a workflow."
    if not re.fullmatch(r"[1-9][0-9]{0,18}", job.run_id):
        return f"'{one_line(job.run_id, 40)}' is no number of a workflow run.", "Run this in a workflow."
    return None


def _reviews(job: Context, api: Api) -> list[_Review]:
    """All reviews of the run, in GitHub's order.

    The API documents no pages for them; should it get some, none is missed.
    """
    reviews: list[_Review] = []
    for answer in api.pages(f"{job.api_url}/repos/{job.repository}/actions/runs/{job.run_id}/approvals"):
        if answer.status != 200:
            raise _refusal(answer, job)
        if not isinstance(answer.document, list):
            raise Unclear(NOT_GITHUB)
        reviews += map(_review, answer.document)
        if len(reviews) > _REVIEWS:
            raise TooLong(_REVIEWS)
    return reviews


def _review(row: Any) -> _Review:
    """A review as the REST API shows it.

    Raises:
        Unclear: it is none. It is not passed over, since it could be a rejection.
    """
    state, environments, comment = at(row, "state"), at(row, "environments"), at(row, "comment")
    if not isinstance(state, str) or not isinstance(environments, list):
        raise Unclear(NOT_GITHUB)
    names = [at(each, "name") for each in environments]
    if not all(isinstance(name, str) and name for name in names):
        raise Unclear(NOT_GITHUB)
    login = at(row, "user", "login")
    return _Review(
        state.casefold(),
        login if isinstance(login, str) else "",
        comment if isinstance(comment, str) else "",
        tuple(names),
    )


def _newest(reviews: Sequence[_Review], job: Context) -> Approval | None:
    """The last approval that no rejection stands against."""
    # Names of environments are not case-sensitive. Anything but the two states that the API knows besides is no yes.
    rejections = [each for each in reviews if each.state not in ("approved", "pending")]
    rejected = {name.casefold() for each in rejections for name in each.environments}
    # One that names no environment, as when it was deleted since, may have been about any.
    any_rejected = any(not each.environments for each in rejections)

    approved = [each for each in reversed(reviews) if each.state == "approved" and each.reviewer.strip()]
    counting = []
    for each in approved:
        kept = [name for name in each.environments if name.casefold() not in rejected]
        if not rejections or (kept and not any_rejected):
            counting.append((each, kept))
    if not counting:
        if approved:
            log(
                f"The approval by {_shown(approved[0].reviewer, _LOGIN)} does not count: what it is about was also "
                "rejected in this run. Start a new run to have it approved."
            )
        return None
    review, environments = counting[0]
    others: list[str] = []
    for each, _ in counting[1:]:
        if not any(_same(each.reviewer, known) for known in (review.reviewer, *others)) and len(others) < _SHOWN:
            others.append(each.reviewer)
    return Approval(
        reviewer=_shown(review.reviewer, _LOGIN),
        comment=_shown(review.comment, _COMMENT),
        environment=_joined(environments),
        also=tuple(_shown(each, _LOGIN) for each in others),
        self_approved=any(_same(review.reviewer, each) for each in (job.actor, job.triggering_actor)),
        attempt=1 if job.run_attempt == 1 else None,
    )


def _same(login: str, other: str) -> bool:
    """Whether two logins are one user's: GitHub's are not case-sensitive."""
    return login.strip().casefold() == other.strip().casefold()


def _shown(text: str, limit: int) -> str:
    return one_line(without_secrets(text).strip(), limit)


def _joined(names: Sequence[str]) -> str:
    return one_line(", ".join(_shown(name, _ENVIRONMENT) for name in names[:_SHOWN]), _COMMENT)


def _refusal(answer: Answer, job: Context) -> OutsideWorldFailed:
    said = answer.said()
    if answer.status == 401:
        return OutsideWorldFailed(_UNREAD, f"GitHub does not know the token ({said}).", "Check the token.")
    if answer.status == 403:
        return OutsideWorldFailed(_UNREAD, f"GitHub does not let this token read it ({said}).", _PERMISSIONS)
    if answer.status == 404:
        return OutsideWorldFailed(
            _UNREAD,
            f"GitHub shows this token no run {job.run_id} of {job.repository} ({said}).",
            f"A token without the right to read it gets the same answer. {_PERMISSIONS}",
        )
    return OutsideWorldFailed(_UNREAD, f"GitHub refused ({said}).", "Re-run the job.")
