"""What the release log's entries say: who was champion before, what was taken back. Pure.

The order of moves follows their fences and `gate.from`/`gate.to` links, not clocks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Literal

Kind = Literal["gate", "promotion", "rollback", "hold release"]

OPEN = "open"
DONE = "done"
UNDONE = "undone"
ABANDONED = "abandoned"
"""Shown of a move that is open in its run though the model does not name it: it never moved anything."""
_MOVES = ("promotion", "rollback")


@dataclass(frozen=True)
class Entry:
    """One run of the release log: a gate, a promotion or a rollback.

    Versions are numbers as strings, or None; `time` is the run's start in Unix ms.
    """

    run_id: str
    kind: Kind
    state: str
    alias: str
    from_version: str | None
    to_version: str | None
    previous: str | None
    operation_id: str
    fence: int
    actor: str
    commit: str
    reason: str
    verdict: str
    time: int
    model_created: int
    from_alias: str | None = None
    previous_alias: str | None = None
    github_run: str = ""
    after: Mapping[str, str | None] = field(default_factory=dict)
    """What a move was to set: aliases to version numbers, None where one was to be dropped."""
    before: Mapping[str, str | None] = field(default_factory=dict)
    """What those aliases named when it began."""
    recovered_by: str = ""
    """Who settled the move, if not the job that began it."""
    override: str = ""
    """Why the move was made against the verdict."""
    reinstated: str = ""
    """Why a version in quarantine was promoted again."""
    earlier_model: bool = False
    """Of a model of the same name that was deleted since: shown, and counts for nothing."""
    approved_by: str = ""
    """Who let it happen."""
    held: str = ""
    """What the hold said that was lifted."""

    @property
    def is_move(self) -> bool:
        """Whether it moved an alias, or was to."""
        return self.kind in _MOVES


def by_time(entries: Sequence[Entry]) -> list[Entry]:
    """The entries, oldest first."""
    return sorted(entries, key=lambda e: (e.time, e.run_id))


def counted(entries: Sequence[Entry]) -> list[Entry]:
    """The entries of the model as it is now; of two with one operation id, the first."""
    kept: dict[str, Entry] = {}
    for entry in by_time(entries):
        if not entry.earlier_model:
            kept.setdefault(entry.operation_id or entry.run_id, entry)
    return list(kept.values())


def finished(entries: Sequence[Entry], alias: str | None = None) -> list[Entry]:
    """The moves that took effect, oldest first; those of `alias`, or of all."""
    done = [e for e in counted(entries) if e.is_move and e.state == DONE and alias in (None, e.alias)]
    return sorted(done, key=lambda e: (e.fence, e.time, e.run_id))


def in_order(entries: Sequence[Entry]) -> list[Entry]:
    """The moves among the entries, whatever became of them, in the order in which they began.

    The fence says it. Moves of one fence (made without a lock at once, or before there were fences) follow each other
    by their links, each from where the one before left the alias, and only where links say nothing by their clocks.
    """
    moves = sorted((e for e in entries if e.is_move), key=lambda e: (e.fence, e.time, e.run_id))
    ordered: list[Entry] = []
    left: dict[str, str | None] = {}
    for _, of_one_fence in groupby(moves, key=lambda e: e.fence):
        waiting = list(of_one_fence)
        while waiting:
            linked = (i for i, e in enumerate(waiting) if left.get(e.alias) == e.from_version)
            move = waiting.pop(next(linked, 0))
            ordered.append(move)
            if move.state == DONE:
                left[move.alias] = move.to_version
    return ordered


def replay(entries: Sequence[Entry]) -> dict[str, str | None]:
    """What each alias that a move ever set should name by the log; None where it should not be there."""
    aliases: dict[str, str | None] = {}
    for move in in_order(counted(entries)):
        if move.state == DONE:
            apply(aliases, move)
    return aliases


def apply(aliases: dict[str, str | None], move: Entry) -> None:
    """Set in `aliases` what a move that was done set in the model."""
    aliases.update({move.alias: move.to_version, **move.after})


def set_by_moves(entries: Sequence[Entry]) -> set[str]:
    """The aliases that finished moves set: the log answers for them, and no promotion onwards drops one."""
    return {alias for move in finished(entries) for alias in (move.alias, *move.after)}


def highest_fence(entries: Sequence[Entry]) -> int:
    """The highest fence that any entry carries, of earlier models too; 0 if none does."""
    return max((entry.fence for entry in entries), default=0)


def quarantined(entries: Sequence[Entry]) -> dict[str, Entry]:
    """The versions that were rolled back, of whatever alias, with the last rollback that took each back.

    One that was reinstated since is not among them.
    """
    found: dict[str, Entry] = {}
    for move in finished(entries):
        if move.kind == "rollback" and move.from_version is not None:
            found[move.from_version] = move
        elif move.reinstated and move.to_version is not None:
            found.pop(move.to_version, None)
    return found


def expected(entries: Sequence[Entry], alias: str) -> Entry | None:
    """The last finished move of an alias, whose `to_version` it should name; None if there is none."""
    moves = finished(entries, alias)
    return moves[-1] if moves else None


def late_write(entries: Sequence[Entry], alias: str, here: str | None) -> Entry | None:
    """The superseded move whose late write the alias shows, if that is what happened; `here` is what it names.

    A move that somebody else had to settle may have had a write under way, sent before its job was frozen or killed.
    If a champion's alias names what a move was to set that was undone, the write has landed since. The aliases beside
    it (the champion before, the version taken back) show one, too, if they name what such a move was to set there,
    or what was to be restored.
    """
    if here == replay(entries).get(alias):
        return None
    moves = [e for e in counted(entries) if e.is_move]
    if any(e.alias == alias for e in moves):
        undone = [e for e in moves if e.state == UNDONE and e.recovered_by and e.alias == alias]
        late = [e for e in undone if e.to_version == here]
    else:
        unsure = [e for e in moves if (e.recovered_by or e.state == OPEN) and alias in e.after]
        late = [e for e in unsure if here in (e.after[alias], e.before.get(alias))]
    return max(late, key=lambda e: e.fence, default=None)


def line_of_champions(entries: Sequence[Entry], alias: str) -> list[str]:
    """The champions that a rollback can step back along, oldest first, the newest last.

    A promotion adds its version. A rollback cuts the line back to the version it returned to, so that a
    second rollback goes further back. Versions that were taken back are not in it.
    """
    line: list[str] = []
    for move in finished(entries, alias):
        if move.from_version is not None and (not line or line[-1] != move.from_version):
            line.append(move.from_version)  # somebody else made it champion
        if move.to_version is None:
            continue
        if move.kind == "rollback" and move.to_version in line:
            del line[len(line) - line[::-1].index(move.to_version) :]
        else:
            line.append(move.to_version)
    bad = quarantined(entries)
    return [version for version in line if version not in bad]


def champions_before(entries: Sequence[Entry], alias: str, champion: str) -> list[str]:
    """What the log says was champion before `champion` and was not taken back, the latest first."""
    line = line_of_champions(entries, alias)
    if champion in line:
        line = line[: len(line) - 1 - line[::-1].index(champion)]
    return [version for version in reversed(line) if version != champion]


def ever_champion(entries: Sequence[Entry], alias: str) -> set[str]:
    """The versions that `alias` named at some time, as far as the log knows."""
    moves = finished(entries, alias)
    return {v for move in moves for v in (move.from_version, move.to_version) if v is not None}


def last_promotion_from(entries: Sequence[Entry], alias: str, from_alias: str) -> Entry | None:
    """The last move of `alias`, if it was a promotion of what `from_alias` named; else None."""
    moves = finished(entries, alias)
    if moves and moves[-1].kind == "promotion" and moves[-1].from_alias == from_alias:
        return moves[-1]
    return None
