"""The histories of several models, read one by one, and what of them waits for a person."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from champion_gate import holds, timeline
from champion_gate.errors import GateError
from champion_gate.holds import Hold
from champion_gate.registry import Model, Registry
from champion_gate.release_log import HOLD_TAG, LOG_TAG, OPEN_MOVE_TAG, ReleaseLog
from champion_gate.timeline import Change, Story

_READINGS = 3


@dataclass(frozen=True)
class Told:
    """One model and its story; `problem` says why that could not be read, and the story is empty then."""

    model: Model
    story: Story
    problem: str = ""

    @property
    def hold(self) -> Hold | None:
        """What stops promotions of the model, if something does."""
        return holds.parse(self.model.tags[HOLD_TAG]) if HOLD_TAG in self.model.tags else None

    @property
    def open_move(self) -> str:
        """Run id of the move that the model says is in progress; empty if there is none."""
        return self.model.tags.get(OPEN_MOVE_TAG, "")

    @property
    def moved_by_others(self) -> list[Change]:
        """The aliases that name something else now than the last move left there."""
        return [row.change for row in self.story.rows if row.change and row.change.until is None]

    @property
    def champions(self) -> dict[str, str | None]:
        """What the aliases of releases name now, by alias."""
        aliases = dict.fromkeys(span.alias for span in self.story.spans)
        return {alias: self.model.aliases.get(alias) for alias in aliases}


def read(registry: Registry, model: Model, team: str) -> Told:
    """A model's story, of one moment if that can be had: a move may begin or end between two answers.

    Raises:
        OutsideWorldFailed: the log was deleted or cannot be read; never an empty history.
    """
    for _ in range(_READINGS):
        before = model
        entries = ReleaseLog.find(registry, before, team).entries()
        model = registry.model(model.name)
        if model == before:
            return Told(model, timeline.tell(entries, model.aliases, model.tags.get(OPEN_MOVE_TAG, "")))
    entries = ReleaseLog.find(registry, model, team).entries()
    return Told(model, timeline.tell(entries, None, model.tags.get(OPEN_MOVE_TAG, "")))


def read_all(registry: Registry, team: str) -> list[Told]:
    """Every model that a gate or a move has left something on, by name; with `team`, those of this team.

    A log that cannot be read is told as that model's `problem`: another team's loss must not hide the rest.

    Raises:
        OutsideWorldFailed: the registry does not answer at all, or lists a model that it does not show.
    """
    found = []
    for name in registry.models_with((LOG_TAG, OPEN_MOVE_TAG, HOLD_TAG), {"team": team} if team else {}):
        model = registry.find_model(name)
        if model is None:
            continue  # deleted since
        try:
            found.append(read(registry, model, ""))
        except GateError as error:
            registry.model_names(1)  # if this is not answered either, it is not about this model
            found.append(Told(model, Story((), ()), str(error)))
    return found


def names(told: Sequence[Told]) -> dict[str, list[str]]:
    """The models by what is said of them, as the outputs of `history` have it."""
    return {
        "models": [each.model.name for each in told],
        "open-moves": [each.model.name for each in told if each.open_move],
        "holds": [each.model.name for each in told if each.hold],
        "moved-by-others": [each.model.name for each in told if each.moved_by_others],
    }
