"""What the last one left: an open move is finished or undone, a late write is repaired, a move by hand is respected.

To be done by whoever may move (the holder of the lease), before a move of its own. The release log says what should be;
what people did by hand is never overwritten unless they say that they know of it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, timezone

from champion_gate import conventions, lineage
from champion_gate.errors import OutsideWorldFailed, Refused
from champion_gate.github import Context, annotate
from champion_gate.lineage import Entry, Kind
from champion_gate.move_writes import Plan, close, finish, set_aliases, version_tags
from champion_gate.registry import Model, Registry, Run
from champion_gate.release_log import OPEN_MOVE_TAG, ReleaseLog
from champion_gate.text import one_line
from champion_gate.verdict import NONE

MOVE_LIMIT = timedelta(minutes=15)
"""Without a lease, a move that is open for less is taken to be at work."""


def recover(registry: Registry, release_log: ReleaseLog, job: Context, expect: str, *, leased: bool) -> bool:
    """Settle the move that the model names as open, if there is one; returns whether there was.

    Args:
        registry: where the model is.
        release_log: the model's log, with the model as it was read under the lease.
        job: who does it.
        expect: the champion that the caller knows of, though a person set it; empty for none.
        leased: whether nobody else can be at work.

    Raises:
        OutsideWorldFailed: somebody may be at work, or the move's run is not there.
        Refused: somebody moved the alias by hand meanwhile.
    """
    model = release_log.model
    run_id = model.tags.get(OPEN_MOVE_TAG, "")
    if not run_id:
        return False
    run = registry.find_run(run_id)
    if run is None or run.deleted or run.tags.get("gate.kind") not in ("promotion", "rollback"):
        _settled_by_hand(registry, model, run_id, expect)
        return True
    if not leased:
        _old_enough(model, run)
    state = run.tags.get("gate.state", "")
    if state in (lineage.DONE, lineage.UNDONE):
        close(release_log, run.id, state, {})  # it ended between its last two writes
        return True
    plan = plan_of(run)
    champion = model.aliases.get(plan.alias)
    tags = {"gate.recovered_by": job.actor, "gate.recovered_in": job.run_url}
    if champion == plan.to_version:
        set_aliases(registry, model.name, _missing(model, plan.after), plan.alias)
        finish(release_log, plan, run.id, dict(model.aliases), tags)
        _say("finished", model, run, plan)
    elif champion == plan.from_version:
        set_aliases(registry, model.name, _missing(model, plan.before), plan.alias)
        close(release_log, run.id, lineage.UNDONE, tags)
        _say("undone", model, run, plan)
    elif expect and champion == expect:
        close(release_log, run.id, lineage.UNDONE, {**tags, "gate.by_hand": champion})
        _say("given up, since a person moved the alias", model, run, plan)
    else:
        raise Refused(
            f"'{plan.alias}' of '{one_line(model.name, 120)}' is version {champion or NONE}: somebody moved it by hand "
            "while a move was open.",
            f"That move ({run.id}) was to take it from version {plan.from_version or NONE} to {plan.to_version}.",
            f"See which version should serve. If it is this one: expect-champion {champion or NONE}.",
        )
    return True


def reconcile(registry: Registry, release_log: ReleaseLog, entries: Sequence[Entry], alias: str, expect: str) -> bool:
    """Hold the alias against the log, and repair a late write of a superseded move; returns whether it did.

    Raises:
        Refused: the alias names what no move set, and `expect` does not say that the caller knows.
    """
    model = release_log.model
    last = lineage.expected(entries, alias)
    champion = model.aliases.get(alias)
    if last is None or champion == last.to_version or champion is None:
        return False  # a champion that is gone is told apart elsewhere
    if expect and expect == champion:
        return False
    late = lineage.late_write(entries, alias, champion)
    if late is None:
        raise Refused(
            f"'{alias}' of '{one_line(model.name, 120)}' is version {champion}, and the release log says "
            f"{last.to_version}: somebody moved it by hand.",
            f"The last move that the log knows is {last.kind} {last.run_id} by {one_line(last.actor, 80)}.",
            f"If version {champion} is right, say that you know: expect-champion {champion}.",
        )
    wanted = {name: number for name, number in last.after.items() if model.aliases.get(name) != number}
    set_aliases(registry, model.name, {**wanted, alias: last.to_version}, alias)
    annotate(
        "warning",
        "Late write repaired",
        f"'{alias}' named version {champion}, set late by move {late.run_id}, which had been undone by then. It is "
        f"version {last.to_version} again.",
    )
    return True


def plan_of(run: Run) -> Plan:
    """The plan that a move's run holds in its tags.

    Raises:
        OutsideWorldFailed: it holds none that can be carried on with.
    """
    tags = run.tags
    alias, to_version = tags.get("gate.alias", ""), tags.get("gate.to", "")
    try:
        maps = [json.loads(tags.get(f"gate.{name}", "")) for name in ("before", "after", "drop")]
        for each in maps:
            for name, number in each.items():
                conventions.alias_name(name, "alias")
                if number is not None:
                    conventions.version_number(number, "version")
        conventions.version_number(to_version, "version")
        before, after, drop = maps
        if after[alias] != to_version:
            raise ValueError("its aliases are not those of its version")  # noqa: TRY301  (one way out)
    except Exception as error:
        raise OutsideWorldFailed(
            f"The open move {run.id} does not say what it was to do.",
            f"Its tags are not those of a move: {one_line(str(error), 200)}.",
            f"Check the aliases by hand, then delete the model's tag {OPEN_MOVE_TAG}.",
        ) from error
    from_version = tags.get("gate.from", NONE)
    kind: Kind = "rollback" if tags.get("gate.kind") == "rollback" else "promotion"
    return Plan(
        kind,
        alias,
        None if from_version == NONE else from_version,
        to_version,
        before,
        after,
        {name: number for name, number in drop.items() if number is not None},
        version_tags(kind, tags),
        {},
    )


def _missing(model: Model, aliases: Mapping[str, str | None]) -> dict[str, str | None]:
    return {alias: number for alias, number in aliases.items() if model.aliases.get(alias) != number}


def _settled_by_hand(registry: Registry, model: Model, run_id: str, expect: str) -> None:
    champions = set(model.aliases.values())
    if not expect or expect not in champions:
        raise OutsideWorldFailed(
            f"'{one_line(model.name, 120)}' names an open move, {one_line(run_id, 60)}, whose run is not there.",
            "Without it nobody can say what that move had done.",
            "Restore the run, or check the aliases and say which champion you found: expect-champion.",
        )
    registry.delete_model_tag(model.name, OPEN_MOVE_TAG)


def _old_enough(model: Model, run: Run) -> None:
    began = datetime.fromtimestamp(run.start / 1000, timezone.utc)
    # Ahead of our clock counts as just begun: of two clocks one is wrong, and nobody knows which.
    if datetime.now(timezone.utc) - began >= MOVE_LIMIT:
        return
    who = one_line(run.tags.get("gate.actor", "unknown"), 80)
    raise OutsideWorldFailed(
        f"A move of '{one_line(model.name, 120)}' is open: run {run.id}, begun "
        f"{began.isoformat(timespec='seconds')} by {who}.",
        f"Another job is at work, or one was killed half-way less than {MOVE_LIMIT.seconds // 60} minutes ago.",
        "Wait for that job; an older move is recovered. With a redis-url nobody has to wait.",
    )


def _say(what: str, model: Model, run: Run, plan: Plan) -> None:
    annotate(
        "warning",
        "Move recovered",
        f"A {plan.kind} of '{model.name}' from version {plan.from_version or NONE} to {plan.to_version} was left open "
        f"(run {run.id}); it was {what}.",
    )
