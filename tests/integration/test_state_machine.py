"""Whatever people and jobs do to a model, in any order: what the gate promises still holds.

`CHAMPION_GATE_TEST_EXAMPLES` is how many such lives of a model are tried (6), each of up to 14 steps.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from champion_gate import lineage, moves
from champion_gate.errors import BadInput, GateError, OutsideWorldFailed, Refused
from champion_gate.github import Context
from champion_gate.move_writes import Moved
from champion_gate.moves import Approved, Promotion, Rollback
from champion_gate.moving import Rules
from champion_gate.registry import Registry
from champion_gate.release_log import HOLD_TAG, OPEN_MOVE_TAG, ReleaseLog
from tests.support.names import unique_model_name
from tests.support.redis_server import redis_server
from tests.support.registry_world import World, logged_model
from tests.support.verdicts import judged

ALIASES = ("champion", "champion-eu")
EXAMPLES = int(os.environ.get("CHAMPION_GATE_TEST_EXAMPLES", "6"))
alias = st.sampled_from(ALIASES)
pick = st.integers(0, 1000)


class Life(RuleBasedStateMachine):
    """One model, two champion aliases, and everybody who may touch them."""

    client: Any
    redis_url: str

    @initialize()
    def begin(self):
        self.world = World(self.client, unique_model_name())
        self.registry = Registry(self.client, "http://registry", 30.0)
        self.client.create_registered_model(self.world.name, tags={"team": "search"})
        self.run_id = self.client.create_run("0").info.run_id
        self.source = logged_model(self.client, self.run_id)
        self.versions: list[str] = []
        self.by_hand: set[str] = set()
        """Aliases that a person touched since a move set them."""
        self.runs = 0
        self._new()

    # -- what there is

    @property
    def entries(self):
        return ReleaseLog.find(self.registry, self.registry.model(self.world.name)).moves()

    def _job(self) -> Context:
        self.runs += 1
        return Context("ada", "abc", "main", "acme/search", str(self.runs), f"https://git.example/{self.runs}", "push")

    def _new(self) -> str:
        made = self.client.create_model_version(self.world.name, self.source, self.run_id, await_creation_for=0)
        self.versions.append(str(made.version))
        return self.versions[-1]

    def _any(self, pick: int) -> str:
        return self.versions[pick % len(self.versions)]

    def _rules(self, expect: str = "") -> Rules:
        return Rules(self.redis_url, 5.0, expect)

    def _moved_by_hand(self, name: str) -> bool:
        """Whether the alias names another version than the last move of it left there."""
        last = lineage.expected(self.entries, name)
        return last is not None and self.world.aliases.get(name) != last.to_version

    def _tried(self, action: Callable[[], Moved], *, may: bool | None, why: str) -> Moved | GateError:
        """Do it. What changed nothing must have changed nothing, and what may not be must not be."""
        before = self.world.snapshot()
        done: Moved | GateError
        try:
            done = action()
        except (Refused, BadInput, OutsideWorldFailed) as error:
            done = error
        if isinstance(done, GateError):
            assert self.world.snapshot() == before, f"{done} But something changed."
            assert may is not True, f"{why}: {done}"
        elif done.changed:
            assert may is not False, why
            for name in done.aliases:
                self.by_hand.discard(name)
            assert self.world.aliases[done.alias] == done.to_version
        else:
            assert self.world.snapshot() == before
        return done

    # -- jobs

    def _promotion(self, number: str, to_alias: str, *, expect: bool = False, **more: Any) -> Moved | GateError:
        aliases, entries = self.world.aliases, self.entries
        champion = aliases.get(to_alias)
        tag = self.world.version_tags(number).get(f"gate.verdict.{to_alias}", "{}")
        judged_as = json.loads(tag)
        fits = {"outcome": "passed", "champion": champion or "none"} == {
            k: judged_as.get(k) for k in ("outcome", "champion")
        }
        free = number not in lineage.quarantined(entries) or bool(more.get("reinstate"))
        strange = self._moved_by_hand(to_alias)
        known = not strange or (expect and champion is not None)
        may = fits and free and known and HOLD_TAG not in self.world.tags
        why = f"{number} to {to_alias}: fits {fits}, free {free}, known {known}, hold {HOLD_TAG in self.world.tags}"
        asked = Promotion(Approved("ada"), number, to_alias=to_alias, **more)
        rules = self._rules(champion or "" if expect else "")
        done = self._tried(
            lambda: moves.promote(self.registry, self.world.name, self._job(), asked, rules),
            may=None if champion == number else may,
            why=why,
        )
        if strange and not expect and champion is not None:
            assert isinstance(done, Refused)
            assert "by hand" in str(done)
            assert f"expect-champion {champion}" in str(done)
        if strange and champion is None:
            assert isinstance(done, OutsideWorldFailed), "a champion that is gone is no first release"
        return done

    @rule(to_alias=alias)
    def release(self, to_alias):
        """A new version, judged against the champion of now, and promoted."""
        number = self._new()
        judged(self.client, self.world.name, number, to_alias)
        self._promotion(number, to_alias)

    @rule(to_alias=alias, pick=pick, expect=st.booleans(), reinstate=st.sampled_from(["", "It was the data."]))
    def promote_any(self, to_alias, pick, expect, reinstate):
        """Whatever verdict it has, or none."""
        self._promotion(self._any(pick), to_alias, expect=expect, reinstate=reinstate)

    @rule(to_alias=alias, pick=pick, outcome=st.sampled_from(["passed", "failed", "inconclusive"]))
    def judge(self, to_alias, pick, outcome):
        with contextlib.suppress(BadInput):
            from champion_gate.decision import Outcome

            judged(self.client, self.world.name, self._any(pick), to_alias, outcome=Outcome(outcome))

    @rule(pick=pick)
    def go_from_one_alias_to_the_other(self, pick):
        from_alias, to_alias = ALIASES[:: 1 if pick % 2 else -1]
        if number := self.world.aliases.get(from_alias):
            judged(self.client, self.world.name, number, to_alias)
            self._promotion(number, to_alias, from_alias=from_alias)

    @rule(to_alias=alias)
    def promote_again(self, to_alias):
        """The last promotion once more: nothing changes."""
        last = lineage.expected(self.entries, to_alias)
        if last and last.to_version == self.world.aliases.get(to_alias):
            done = self._promotion(last.to_version, to_alias)
            assert isinstance(done, Moved)
            assert not done.changed

    @rule(from_alias=alias, steps=st.integers(1, 2), hold=st.sampled_from([False, False, True]))
    def roll_back(self, from_alias, steps, hold):
        self._rollback(from_alias, steps=steps, hold=hold)

    @rule(from_alias=alias, pick=pick)
    def roll_back_to(self, from_alias, pick):
        self._rollback(from_alias, to_version=self._any(pick))

    def _rollback(self, from_alias: str, *, hold: bool = False, **more: Any) -> None:
        entries, aliases = self.entries, self.world.aliases
        if hold:  # it is set first, whatever comes of the rollback: not a change of this move
            self.client.set_registered_model_tag(self.world.name, HOLD_TAG, "a test holds it")
        asked = Rollback("clicks fell", Approved("ada"), champion_alias=from_alias, hold=hold, **more)
        strange = self._moved_by_hand(from_alias)
        done = self._tried(
            lambda: moves.rollback(self.registry, self.world.name, self._job(), asked, self._rules()),
            may=False if strange or from_alias not in aliases else None,
            why=f"{from_alias} is not what the log says",
        )
        if isinstance(done, Moved):
            assert done.from_version == aliases[from_alias]
            assert done.to_version not in lineage.quarantined(entries)
            assert done.to_version in self.versions
            previous = aliases.get(f"previous-{from_alias}")
            assert done.to_version in {*lineage.ever_champion(entries, from_alias), previous}
            assert done.from_version in lineage.quarantined(self.entries)

    @rule()
    def release_hold(self):
        job = self._job()
        held = HOLD_TAG in self.world.tags
        before = self.world.snapshot()
        said = moves.release_hold(self.registry, self.world.name, job, "all is well", self._rules())
        assert bool(said) is held
        assert HOLD_TAG not in self.world.tags
        if not held:
            assert self.world.snapshot() == before

    # -- people

    @rule(why=st.sampled_from(["holidays", '{"who":"bea","when":"today","why":"holidays"}']))
    def set_hold_by_hand(self, why):
        self.client.set_registered_model_tag(self.world.name, HOLD_TAG, why)

    @rule(name=st.sampled_from([*ALIASES, "previous-champion", "rolled-back"]), pick=pick)
    def move_alias_by_hand(self, name, pick):
        self.world.point(name, self._any(pick))
        self.by_hand.add(name)

    @precondition(lambda self: self.world.aliases)
    @rule(pick=pick)
    def delete_alias_by_hand(self, pick):
        name = sorted(self.world.aliases)[pick % len(self.world.aliases)]
        self.client.delete_registered_model_alias(self.world.name, name)
        self.by_hand.add(name)

    @rule(name=alias)
    def set_it_right_by_hand(self, name):
        last = lineage.expected(self.entries, name)
        if last and last.to_version in self.versions:
            self.world.point(name, last.to_version)

    @precondition(lambda self: len(self.versions) > 1)
    @rule(pick=pick)
    def delete_version(self, pick):
        number = self._any(pick)
        self.by_hand |= {name for name, of in self.world.aliases.items() if of == number}  # the server drops them
        self.client.delete_model_version(self.world.name, number)
        self.versions.remove(number)

    # -- what always holds

    @invariant()
    def no_move_is_left_open(self):
        if hasattr(self, "world"):
            assert OPEN_MOVE_TAG not in self.world.tags
            assert all(entry.state == lineage.DONE for entry in self.entries)

    @invariant()
    def the_log_tells_what_the_aliases_are_unless_a_person_moved_them(self):
        if hasattr(self, "world"):
            aliases = self.world.aliases
            told = lineage.replay(self.entries)
            assert {k: v for k, v in told.items() if k not in self.by_hand} == {
                name: aliases.get(name) for name in told if name not in self.by_hand
            }


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory):
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server.url


@pytest.mark.slow
def test_whatever_people_and_jobs_do_the_promises_hold(mlflow_client, redis_url):
    def life() -> Life:
        machine = Life()
        machine.client, machine.redis_url = mlflow_client, redis_url
        return machine

    run_state_machine_as_test(
        life,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=14,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            database=None,
            phases=[Phase.generate],  # to shrink a life takes as many minutes as it has steps
        ),
    )
