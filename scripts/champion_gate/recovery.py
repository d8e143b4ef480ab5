"""What the last one left: an open move is finished or undone, a late write is repaired, a move by hand is respected.

To be done by whoever may move (the holder of the lease), before a move of its own. The release log says what should be;
what people did by hand is never overwritten unless they say that they know of it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from champion_gate import conventions, lineage
from champion_gate.errors import OutsideWorldFailed, Refused
from champion_gate.github import Context, annotate
from champion_gate.lineage import Entry, Kind
from champion_gate.move_writes import Plan, close, differing, finish, set_aliases, version_tags
from champion_gate.registry import Model, Registry, Run
from champion_gate.release_log import OPEN_MOVE_TAG, ReleaseLog
from champion_gate.text import one_line
from champion_gate.verdict import NONE

MOVE_LIMIT = timedelta(minutes=15)
"""Without a lease, a move that is open for less is taken to be at work."""


def settle(
    registry: Registry,
    release_log: ReleaseLog,
    entries: Sequence[Entry],
    alias: str,
    job: Context,
    expect: str,
    *,
    leased: bool,
) -> str | None:
    """Settle one thing that was left; to be called again, with what is read anew, until there is none.

    Args:
        registry: where the model is.
        release_log: the model's log, with the model as it was read under the lease.
        entries: the moves in the log.
        alias: the alias that is to be moved next.
        job: who does it.
        expect: the champion that the caller knows of, though a person set it; empty for none.
        leased: whether nobody else can be at work.

    Returns:
        The run of the move that was finished or undone, or an empty text if it was something else; None if nothing
        was left.

    Raises:
        OutsideWorldFailed: somebody may be at work, or the open move's run is not there.
        Refused: the alias names what no move set, and `expect` does not say that the caller knows.
    """
    settler = _Settler(registry, release_log, entries, job, expect, leased)
    if run_id := release_log.model.tags.get(OPEN_MOVE_TAG, ""):
        return settler.recover(run_id)
    return settler.reconcile(alias)


@dataclass(frozen=True)
class _Settler:
    registry: Registry
    release_log: ReleaseLog
    entries: Sequence[Entry]
    job: Context
    expect: str
    leased: bool

    @property
    def model(self) -> Model:
        return self.release_log.model

    @property
    def tags(self) -> dict[str, str]:
        return {"gate.recovered_by": self.job.actor, "gate.recovered_in": self.job.run_url}

    def recover(self, run_id: str) -> str:
        """Finish or undo the move that the model names as open."""
        model, run = self.model, self.registry.find_run(run_id)
        if run is None or run.deleted or run.tags.get("gate.kind") not in ("promotion", "rollback"):
            _settled_by_hand(self.registry, model, run_id, self.expect)
            return ""
        if run.tags.get("gate.model_created") != str(model.created):
            # A late write of a job that had a model of this name in hand that is deleted by now.
            self.registry.delete_model_tag(model.name, OPEN_MOVE_TAG)
            return ""
        if not self.leased:
            _old_enough(model, run)
        state = run.tags.get("gate.state", "")
        if state in (lineage.DONE, lineage.UNDONE):
            self._close(run, state, {})  # it ended between its last two writes
            return run.id
        plan = plan_of(run)
        champion = model.aliases.get(plan.alias)
        if self._superseded(run):
            self._close(run, lineage.UNDONE, self.tags)
            _say("no longer of use, since a later move is done", model, run, plan)
        elif champion == plan.to_version:
            self._finish(run, plan)
        elif champion == plan.from_version:
            self._undo(run, plan)
        elif self.expect and champion == self.expect:
            self._close(run, lineage.UNDONE, {**self.tags, "gate.by_hand": champion})
            _say("given up, since a person moved the alias", model, run, plan)
        elif hidden := self._hidden(plan.alias):
            self._finish_hidden(hidden)
            return hidden.run_id
        elif champion is not None and lineage.late_write(self.entries, plan.alias, champion):
            self._undo(run, plan)
        else:
            raise Refused(
                f"'{plan.alias}' of '{one_line(model.name, 120)}' is version {champion or NONE}: somebody moved it by "
                "hand while a move was open.",
                f"That move ({run.id}) was to take it from version {plan.from_version or NONE} to {plan.to_version}.",
                f"See which version should serve. If it is this one: expect-champion {champion}."
                if champion
                else f"Set the alias '{plan.alias}' to the version that should serve, and name it by expect-champion.",
            )
        return run.id

    def reconcile(self, alias: str) -> str | None:
        """Hold the alias against the log, and repair late writes of superseded moves."""
        model, entries = self.model, self.entries
        wanted = lineage.replay(entries)
        last = lineage.expected(entries, alias)
        champion = model.aliases.get(alias)
        if champion is not None and champion != wanted.get(alias):
            if self.expect == champion:
                return None
            if hidden := self._hidden(alias):
                self._finish_hidden(hidden)
                return hidden.run_id
            if last is not None and lineage.late_write(entries, alias, champion) is None:
                raise Refused(
                    f"'{alias}' of '{one_line(model.name, 120)}' is version {champion}, and the release log says "
                    f"{last.to_version}: somebody moved it by hand.",
                    f"The last move that the log knows is {last.kind} {last.run_id} by {one_line(last.actor, 80)}.",
                    f"If version {champion} is right, say that you know: expect-champion {champion}.",
                )
        # A champion that is gone is told apart elsewhere.
        late = {
            name: move
            for name in self._beside(alias) | ({alias} if champion else set())
            if (move := lineage.late_write(entries, name, model.aliases.get(name))) and self._there(wanted.get(name))
        }
        if not late:
            return None
        set_aliases(self.registry, model.name, {name: wanted.get(name) for name in late}, alias)
        for name, move in late.items():
            annotate(
                "warning",
                "Late write repaired",
                f"'{name}' was {_named(model.aliases.get(name))} by a late write of move {move.run_id}, which had been "
                f"settled by then. It is {_named(wanted.get(name))} again.",
            )
        return ""

    def _beside(self, alias: str) -> set[str]:
        """The aliases that moves of `alias` set, too, and no other moves do."""
        champions = {e.alias for e in self.entries if e.is_move}
        return {name for e in self.entries if e.is_move and e.alias == alias for name in e.after} - champions

    def _there(self, number: str | None) -> bool:
        return number is None or self.registry.find_version(self.model.name, number) is not None

    def _superseded(self, run: Run) -> bool:
        """Whether a move that began later is done: then this one was settled before, and its name came back late."""
        own = next((e.fence for e in self.entries if e.run_id == run.id), None)
        return own is not None and any(e.fence > own for e in lineage.finished(self.entries))

    def _hidden(self, alias: str) -> Entry | None:
        """The move that did move `alias`, though the model does not name it: a late write took the name away.

        All that it set is there, beside the champion's alias, too: a person who moves that one by hand leaves the
        others alone.
        """
        aliases = self.model.aliases
        done = max((e.fence for e in lineage.finished(self.entries)), default=0)
        for e in lineage.counted(self.entries):
            if not e.is_move or e.state != lineage.OPEN or e.alias != alias or e.fence <= done:
                continue
            beside = {name for name, number in e.after.items() if name != alias and e.before.get(name) != number}
            if beside and all(aliases.get(name) == number for name, number in e.after.items()):
                return e
        return None

    def _finish_hidden(self, entry: Entry) -> None:
        run = self.registry.find_run(entry.run_id)
        if run is None:
            raise OutsideWorldFailed(f"The run {entry.run_id} of the release log was deleted a moment ago.")
        if not self.leased:
            _old_enough(self.model, run)
        self._finish(run, plan_of(run))

    def _finish(self, run: Run, plan: Plan) -> None:
        set_aliases(self.registry, self.model.name, differing(plan.after, self.model), plan.alias)
        finish(self.release_log, plan, run.id, dict(self.model.aliases), self.tags, leased=self.leased)
        _say("finished", self.model, run, plan)

    def _undo(self, run: Run, plan: Plan) -> None:
        set_aliases(self.registry, self.model.name, differing(plan.before, self.model), plan.alias)
        self._close(run, lineage.UNDONE, self.tags)
        _say("undone", self.model, run, plan)

    def _close(self, run: Run, state: str, tags: Mapping[str, str]) -> None:
        close(self.release_log, run.id, state, tags, leased=self.leased)


def _named(number: str | None) -> str:
    return f"version {number}" if number else "gone"


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
