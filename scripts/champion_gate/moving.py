"""One mover at a time: the lease is taken, what was left is settled, and only then a move may begin."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from champion_gate import recovery
from champion_gate.errors import OutsideWorldFailed, Refused
from champion_gate.github import Context, annotate
from champion_gate.lineage import Entry
from champion_gate.registry import Model, Registry
from champion_gate.release_log import ReleaseLog
from champion_gate.text import one_line

if TYPE_CHECKING:
    from champion_gate.lease import Lease

_WRITES_AT_ONCE = 3
"""The lease lasts for so many writes that each take all the time that they may; it is renewed while work goes on."""
_LEAST_SECONDS = 6.0
_SETTLEMENTS = 5
"""So many things may have been left: an open move, one that an older one's late write hid, and late aliases."""


@dataclass(frozen=True)
class Rules:
    """How a mover gets its turn.

    `redis_url` is empty where there is no lock; `expect_champion` is the version that the caller knows the alias names,
    though the release log does not say so.
    """

    redis_url: str = ""
    lock_timeout: float = 0.0
    expect_champion: str = ""


@dataclass(frozen=True)
class Turn:
    """What may be relied on while one moves; `lease` is None where there is no lock.

    `settled` are the runs of moves that others had left open and that were finished or undone just now.
    """

    model: Model
    release_log: ReleaseLog
    entries: Sequence[Entry]
    lease: Lease | None
    settled: frozenset[str] = frozenset()


@contextmanager
def turn(
    registry: Registry, model_name: str, alias: str, job: Context, rules: Rules, operation: str, team: str = ""
) -> Iterator[Turn]:
    """Hold the model's lease, with nothing left to recover and the alias as the log says.

    Raises:
        BadInput: there is no such model, or the URL is none.
        OutsideWorldFailed: the lease cannot be had or was lost, the registry failed, or somebody may be at work.
        Refused: somebody moved the alias by hand, and `expect_champion` does not name what is there.
    """
    model = registry.model(model_name)
    with leased(registry, model, job, rules, operation) as lease:
        if lease is not None:
            model = _same_model(registry, model)
        release_log = ReleaseLog.find(registry, model, team)
        entries = release_log.moves()
        settled: set[str] = set()
        for _ in range(_SETTLEMENTS):
            found = recovery.settle(
                registry, release_log, entries, alias, job, rules.expect_champion, leased=lease is not None
            )
            if found is None:
                break
            settled.add(found)
            model = _same_model(registry, model)
            release_log = ReleaseLog.find(registry, model, team)
            entries = release_log.moves()
        else:
            raise OutsideWorldFailed(
                f"What was left of '{one_line(model.name, 120)}' could not be settled.",
                "The registry does not keep what is written, or somebody else writes at the same time.",
                "Look at `history`, and run this again when nobody else is at work.",
            )
        yield Turn(model, release_log, entries, lease, frozenset(settled))


def look(registry: Registry, model_name: str, team: str = "") -> Turn:
    """A model as it is, for those who change nothing."""
    model = registry.model(model_name)
    release_log = ReleaseLog.find(registry, model, team)
    return Turn(model, release_log, release_log.moves(), None)


@contextmanager
def leased(registry: Registry, model: Model, job: Context, rules: Rules, operation: str) -> Iterator[Lease | None]:
    """Hold the model's lease, if there is a Redis: each write of the registry is sent only while it lasts."""
    if not rules.redis_url:
        if operation != "training":  # what it points at is judged, whoever pointed
            annotate(
                "notice",
                "No lock",
                "Without a redis-url two jobs may move an alias at once; one of them fails then. A concurrency group "
                "keeps those of one repository apart.",
            )
        yield None
        return
    from champion_gate import lease

    holder = lease.Holder(job.actor, job.run_url, datetime.now(timezone.utc), operation, uuid.uuid4().hex)
    duration = max(_LEAST_SECONDS, _WRITES_AT_ONCE * registry.timeout)
    with lease.hold(
        rules.redis_url,
        model.name,
        model.created,
        highest_fence=0,  # the log is read under the lease, and its fences count there
        holder=holder,
        lock_timeout=rules.lock_timeout,
        duration=duration,
    ) as held:
        registry.before_write = held.require
        try:
            yield held
        finally:
            registry.before_write = None


def _same_model(registry: Registry, before: Model) -> Model:
    now = registry.model(before.name)
    if now.created != before.created:
        raise Refused(
            f"'{one_line(before.name, 120)}' was deleted and made anew a moment ago.",
            "It is another model by the same name; nothing was moved.",
            "Run this again if you mean the new one.",
        )
    return now
