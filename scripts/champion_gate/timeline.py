"""What `history` shows: a mark for each entry, what others did between the moves, and who was champion when. Pure.

The order of moves is the log's (see `lineage.in_order`); their times are by the clocks of the jobs that made them,
which may be wrong. Where a time contradicts the order, the order holds: see `moments`.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone

from champion_gate import lineage
from champion_gate.errors import BadInput
from champion_gate.lineage import Entry
from champion_gate.text import one_line

BY_HAND = "by hand"
LATE_WRITE = "late write"
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_TIME = re.compile(
    r"([0-9]{4})-?([0-9]{2})-?([0-9]{2})"
    r"(?:[Tt ]([0-9]{2})(?::?([0-9]{2})(?::?([0-9]{2})(?:[.,]([0-9]{1,9}))?)?)?\s*([Zz]|[+-][0-9]{2}(?::?[0-9]{2})?)?)?"
)


@dataclass(frozen=True)
class Change:
    """An alias that names something else than the last move left there, versions as numbers or None.

    It came about after `since` and before `until` (Unix ms), as far as these are known. `late` is the superseded move
    whose write landed late, if that is what happened; else somebody set the alias.
    """

    alias: str
    from_version: str | None
    to_version: str | None
    since: int | None
    until: int | None
    late: Entry | None = None

    @property
    def kind(self) -> str:
        """What it is, in the words of the table."""
        return LATE_WRITE if self.late else BY_HAND

    @property
    def mark(self) -> str:
        """As `kind`, in the words of the column of marks."""
        return LATE_WRITE if self.late else "moved by others"

    def sentence(self) -> str:
        """What happened, in words."""
        moved = f"{self.from_version or 'none'} -> {self.to_version or 'none'}"
        if self.late is None:
            return f"moved by others: {moved}"
        by = one_line(self.late.recovered_by, 80)
        settled = f"{by} had settled" if by else "had been given up"
        now = "; the next action repairs it" if self.until is None else ""
        return f"late write of move {self.late.run_id}, which {settled}: {moved}{now}"


@dataclass(frozen=True)
class Row:
    """One line of the history: an entry of the log with its mark, or a change that no entry speaks of."""

    mark: str
    entry: Entry | None = None
    change: Change | None = None

    @property
    def alias(self) -> str:
        """The alias that it is about; empty if it is about all."""
        return self.entry.alias if self.entry else self.change.alias if self.change else ""


@dataclass(frozen=True)
class Span:
    """How long the log says that `alias` named `version`: from a move until the next (Unix ms, None if there is none).

    Before the first move `move` and `version` are None. `change` is what somebody else made of the alias meanwhile.
    `sure` is False where a clock contradicted the order, and the times are the nearest that the order allows.
    """

    alias: str
    version: str | None
    since: int | None
    until: int | None
    move: Entry | None
    next_move: Entry | None
    change: Change | None
    sure: bool


@dataclass(frozen=True)
class Story:
    """A model's history: `rows`, the newest first, and `spans` in the order of the log, by alias."""

    rows: tuple[Row, ...]
    spans: tuple[Span, ...]
    open_move: Entry | None = None


def tell(entries: Sequence[Entry], aliases: Mapping[str, str] | None, open_move: str) -> Story:
    """The history that the log's entries, the model's aliases and its tag `gate.open_move` tell together.

    `aliases` is None where they changed while they were read: what others did since the last move is left out then.
    """
    counts = {e.run_id for e in lineage.counted(entries)}
    current = next((e for e in entries if e.is_move and e.run_id == open_move and e.state == lineage.OPEN), None)
    ordered = lineage.in_order(entries)
    times = moments(ordered)
    moves = [move for move in ordered if move.run_id in counts]
    changes = _changes(moves, times)
    found_last = [] if aliases is None else _changed_since(entries, moves, times, aliases, current)
    late = {change.late.run_id for change in [*changes.values(), *found_last] if change.late}
    places: list[tuple[tuple[int, int, int], Row]] = []
    for entry in entries:
        row = Row(_mark(entry, entry.run_id in counts, open_move, entry.run_id in late), entry)
        # Gates and holds have no fence; they stand where their clock says, below a move of the same moment.
        time, _, position = times.get(entry.run_id, (entry.time, True, -1))
        places.append(((time, position, 1), row))
    for run_id, change in changes.items():
        time, _, position = times[run_id]
        places.append(((time, position, 0), Row(change.mark, change=change)))
    # Stable: entries of the same moment stay as the log has them, newest first.
    places.sort(key=lambda place: place[0], reverse=True)
    rows = [*(Row(change.mark, change=change) for change in found_last), *(row for _, row in places)]
    return Story(tuple(rows), tuple(_spans(moves, times, changes, found_last)), current)


def moments(ordered: Sequence[Entry]) -> dict[str, tuple[int, bool, int]]:
    """When each move began (run id to Unix ms), whether that is its own clock's word, and its place in the order.

    The longest series of moves whose clocks agree with the order is taken at its word. The others, whose clocks
    contradict it, are moved to the nearest time between their neighbours.
    """
    tails: list[int] = []  # the last of the best series of each length, as a place in `ordered`
    before: list[int] = []
    for place, move in enumerate(ordered):
        length = bisect_right(tails, move.time, key=lambda i: ordered[i].time)
        before.append(tails[length - 1] if length else -1)
        tails[length : length + 1] = [place]
    agreed: set[int] = set()
    place = tails[-1] if tails else -1
    while place >= 0:
        agreed.add(place)
        place = before[place]
    found: dict[str, tuple[int, bool, int]] = {}
    latest: list[int | None] = [None] * len(ordered)
    following: int | None = None
    for place in range(len(ordered) - 1, -1, -1):
        latest[place] = following
        following = ordered[place].time if place in agreed else following
    earliest = 0
    for place, move in enumerate(ordered):
        time, ceiling = max(earliest, move.time), latest[place]
        if ceiling is not None and place not in agreed:
            time = min(time, ceiling)
        earliest = time
        found[move.run_id] = (time, time == move.time, place)
    return found


def champions_at(story: Story, time: int, alias: str | None = None) -> dict[str, Span]:
    """What was champion at a time (Unix ms) by the log, by alias; of `alias` only, if it is given.

    A move counts from the second in which its run began, as `moments` has it; of several of one second the last in
    order counts.
    """
    found: dict[str, Span] = (
        {} if alias is None else {alias: Span(alias, None, None, None, None, None, None, sure=True)}
    )
    for span in story.spans:
        # To the second, as times are shown: what is said to be "since" a time is so at that time, too.
        if alias in (None, span.alias) and (span.since is None or span.since // 1000 <= time // 1000):
            found[span.alias] = span
    return found


def read_time(text: str) -> int:
    """A time in ISO 8601 as Unix ms: a date (its first moment), or date and time; without a time zone it is UTC.

    Raises:
        BadInput: it is neither, or no such day or hour exists.
    """
    match = _TIME.fullmatch(text.strip())
    try:
        if match is None:
            raise ValueError("it is not in this form")  # noqa: TRY301  (one way out)
        year, month, day, hour, minute, second, fraction, zone = match.groups()
        parts = [int(part or 0) for part in (year, month, day, hour, minute, second)]
        local = datetime(*parts, tzinfo=timezone.utc)  # type: ignore[arg-type, misc]
        local += timedelta(microseconds=int((fraction or "0").ljust(6, "0")[:6]))
        return (local - _offset(zone or "Z") - _EPOCH) // timedelta(milliseconds=1)
    except (ValueError, OverflowError) as error:
        raise BadInput(
            f"at '{one_line(text, 60)}' is no time: {one_line(str(error), 120)}.",
            "A time is written as ISO 8601 says; without a time zone it is UTC, and a date alone is its first moment.",
            "Write for example 2026-11-25T14:30:00Z, 2026-11-25T14:30+01:00, or 2026-11-25.",
        ) from error


def _offset(zone: str) -> timedelta:
    if zone in "Zz":
        return timedelta(0)
    digits = zone[1:].replace(":", "").ljust(4, "0")
    hours, minutes = int(digits[:2]), int(digits[2:])
    if hours > 23 or minutes > 59:
        raise ValueError("there is no such time zone")
    offset = timedelta(hours=hours, minutes=minutes)
    return -offset if zone[0] == "-" else offset


def _mark(entry: Entry, counts: bool, open_move: str, late: bool) -> str:
    """What became of an entry; several words, separated by commas, where several things did."""
    if entry.earlier_model:
        return "earlier model"
    state = entry.state or "unknown"
    if entry.is_move and entry.state == lineage.OPEN and entry.run_id != open_move:
        state = lineage.ABANDONED
    marks = {
        "duplicate": not counts,
        state: True,
        "recovered": bool(entry.recovered_by),
        LATE_WRITE: late,
        "override": bool(entry.override),
        "reinstated": bool(entry.reinstated),
    }
    return ", ".join(mark for mark, holds in marks.items() if holds)


def _changes(moves: Sequence[Entry], times: Mapping[str, tuple[int, bool, int]]) -> dict[str, Change]:
    """Where a move (by run id) started from something else than the one before it had left.

    Only finished moves are asked: without a lock, others may have read the alias just before it moved.
    """
    found: dict[str, Change] = {}
    left: dict[str, str | None] = {}
    last: dict[str, Entry] = {}
    undone: dict[tuple[str, str | None], Entry] = {}
    for move in moves:
        alias, here = move.alias, move.from_version
        if move.state == lineage.UNDONE and move.recovered_by:
            undone[alias, move.to_version] = move  # as `lineage.late_write` looks for it
        if move.state != lineage.DONE:
            continue
        was, before = left.get(alias), last.get(alias)
        if here != was:
            late = undone.get((alias, here)) if before else None
            witness = late or before
            since = times[witness.run_id][0] if witness else None
            found[move.run_id] = Change(alias, was, here, since, times[move.run_id][0], late)
        left[alias] = here
        lineage.apply(left, move)
        last[alias] = move
    return found


def _changed_since(
    entries: Sequence[Entry],
    moves: Sequence[Entry],
    times: Mapping[str, tuple[int, bool, int]],
    aliases: Mapping[str, str],
    current: Entry | None,
) -> list[Change]:
    """Where an alias names something else now than the last move left, and no open move may have set it."""
    found = []
    under_way = {current.alias: current.to_version, **current.after} if current else {}
    setters = {alias: m for m in moves if m.state == lineage.DONE for alias in (m.alias, *m.after)}
    for alias, wanted in sorted(lineage.replay(entries).items()):
        here = aliases.get(alias)
        if here in (wanted, under_way.get(alias, wanted)):
            continue
        last = setters[alias]
        late = lineage.late_write(entries, alias, here)
        found.append(Change(alias, wanted, here, times[(late or last).run_id][0], None, late))
    return found


def _spans(
    moves: Sequence[Entry],
    times: Mapping[str, tuple[int, bool, int]],
    changes: Mapping[str, Change],
    found_last: Sequence[Change],
) -> list[Span]:
    found: list[Span] = []
    since_last = {change.alias: change for change in found_last}
    of_alias: dict[str, list[Entry]] = {}
    for move in moves:
        if move.state == lineage.DONE:
            of_alias.setdefault(move.alias, []).append(move)
    for alias, setting in of_alias.items():
        span = Span(alias, None, None, None, None, None, None, sure=True)
        for move in setting:
            time, sure, _ = times[move.run_id]
            change = changes.get(move.run_id)
            found.append(replace(span, until=time, next_move=move, change=change, sure=span.sure and sure))
            span = Span(alias, move.to_version, time, None, move, None, None, sure)
        found.append(replace(span, change=since_last.get(alias)))
    return found
