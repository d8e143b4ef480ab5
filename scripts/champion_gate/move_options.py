"""The options that promote-alias, rollback and the whole release share: whose turn it is, who approved, and keys."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import click

from champion_gate import conventions, redis_address
from champion_gate.cli import SECONDS_OR_NONE, option, options
from champion_gate.errors import BadInput
from champion_gate.text import one_line

LOCK_TIMEOUT = 120.0
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class Duration(click.ParamType[timedelta]):
    """A time such as `7d`, `12h`, `30m` or `90s`."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """`value` as a time above zero."""
        match = re.fullmatch(r"\s*(\d{1,6})\s*([smhd])\s*", str(value))
        if not match or not int(match[1]):
            self.fail(f"{one_line(str(value), 60)!r} is no time; write for example 7d, 12h, 30m or 90s.", param, ctx)
        return timedelta(seconds=int(match[1]) * _UNITS[match[2]])


DURATION = Duration()

lock_options = options(
    option("--redis-url", help="Redis that keeps the lock on the model: redis://, rediss://, unix://, ..."),
    option(
        "--lock-timeout",
        type=SECONDS_OR_NONE,
        default=LOCK_TIMEOUT,
        help="Seconds to wait for the lock; 0: not at all.",
    ),
)
expect_option = option("--expect-champion", help="Number of the champion you found, if a person set it by hand.")
approval_options = options(
    option("--github-token", help="Token to read the run's approvals with.  [default: the job's, in a workflow]"),
    option("--override-reason", help="Why to go against the verdict; takes an approval by a named reviewer."),
)
signing_option = option(
    "--signing-key", multiple=True, help="Key that verdicts are signed with. The first one signs, each is taken."
)


def rules_of(given: dict[str, Any]) -> Any:
    """How a mover gets its turn, by these options."""
    from champion_gate import github
    from champion_gate.moving import Rules

    expect = given.get("expect_champion") or ""
    if given["redis_url"]:
        github.hide([_password(given["redis_url"])])
        redis_address.parsed(given["redis_url"])  # what is wrong with it is said now, not after hours of training
    return Rules(
        given["redis_url"] or "",
        given["lock_timeout"],
        conventions.version_number(expect, "expect-champion") if expect else "",
    )


def approved_of(given: dict[str, Any], job: Any) -> Any:
    """Who approved: a reviewer of the run, whom the input names, or who runs the job.

    Raises:
        OutsideWorldFailed: an override needs the reviewer, and GitHub did not say who it was.
    """
    from champion_gate import github
    from champion_gate.errors import OutsideWorldFailed
    from champion_gate.moves import Approved

    token, named = given["github_token"] or "", given.get("approved_by") or ""
    github.hide([token])
    if token and job.repository and job.run_id:
        from champion_gate import approvals

        try:
            found = approvals.approval(job, token)
        except OutsideWorldFailed as error:
            if given["override_reason"]:
                raise
            github.annotate("notice", "Approvals", f"{error} So approved_by is {named or job.actor}.")
            found = None
        if found is not None:
            other = not found.self_approved and not found.reviewer.endswith("[bot]")
            return Approved(found.reviewer, other, found.comment, found.environment)
    return Approved(named or job.actor)


def keys_of(given: dict[str, Any]) -> tuple[str, ...]:
    """The signing keys, hidden from all that is shown.

    Raises:
        BadInput: one is too short to be a key.
    """
    from champion_gate import github, signing

    github.hide(given["signing_key"])
    return signing.usable(given["signing_key"])


def no_key_beside_training(given: dict[str, Any]) -> None:
    """See that no training command runs in a process that has a signing key.

    Raises:
        BadInput: it would: the command could read the key, and sign what it likes.
    """
    if given["signing_key"]:
        raise BadInput(
            "A training command and signing-key are both given.",
            "The command could read the key and sign a verdict of its own.",
            "Train in a job without the key, and validate and promote the version in another one.",
        )


def _password(url: str) -> str:
    return url.partition("://")[2].rpartition("@")[0].partition(":")[2]
