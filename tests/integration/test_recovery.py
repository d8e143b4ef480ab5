"""Every call of a promotion and of a rollback is broken, and the process killed at it: the next run recovers.

A point is one call, to the registry or to Redis, and what happens at it. CI takes every third of them; all are taken
with CHAMPION_GATE_TEST_ALL_POINTS=1. The last test says how many of how many it was, and how many recovered.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from champion_gate import lineage, timeline
from champion_gate.registry import Registry
from champion_gate.release_log import ReleaseLog
from tests.support.cli import Cli, Result
from tests.support.fault_proxy import FaultProxy, Request, fault_proxy
from tests.support.prepared import Template, template
from tests.support.redis_proxy import Command, redis_proxy
from tests.support.redis_server import RedisServer, redis_server
from tests.support.registry_world import World

ALL_POINTS = os.environ.get("CHAMPION_GATE_TEST_ALL_POINTS") == "1"
KILLED = -signal.SIGKILL


@dataclass(frozen=True)
class Operation:
    """A move, on a model with so many releases and one challenger more; what is legal before and after it."""

    command: str
    releases: int
    before: dict[str, str]
    after: dict[str, str]

    @property
    def arguments(self) -> tuple[str, ...]:
        return ("--reason", "clicks fell") if self.command == "rollback" else ()

    @property
    def kind(self) -> str:
        return "rollback" if self.command == "rollback" else "promotion"

    @property
    def move(self) -> tuple[str, str]:
        return self.before["champion"], self.after["champion"]


PROMOTION = Operation(
    "promote-alias",
    3,
    {"champion": "3", "previous-champion": "2", "challenger": "4"},
    {"champion": "4", "previous-champion": "3"},
)
ROLLBACK = Operation(
    "rollback",
    3,
    {"champion": "3", "previous-champion": "2", "challenger": "4"},
    {"champion": "2", "previous-champion": "1", "rolled-back": "3", "challenger": "4"},
)
ROLLBACK_TO_THE_FIRST = Operation(  # it drops an alias, which is another write
    "rollback",
    2,
    {"champion": "2", "previous-champion": "1", "challenger": "3"},
    {"champion": "1", "rolled-back": "2", "challenger": "3"},
)
OPERATIONS = {
    "promotion": PROMOTION,
    "rollback": ROLLBACK,
    "rollback to the first": ROLLBACK_TO_THE_FIRST,
}
DEADLY = ("killed before", "killed before the answer", "killed after")
UNCLEAR = ("answer lost", "504 after it was done")
LATE = ("killed, done late", "504, done late")


@dataclass
class Score:
    """How many points there are in one test, and were taken; and what went wrong at some."""

    points: int = 0
    taken: int = 0
    wrong: list[str] = field(default_factory=list)

    def take(self, what: str, one: Callable[[], None]) -> None:
        """The next point, if it is due: all are, or every third."""
        self.points += 1
        if not (ALL_POINTS or self.points % 3 == 1):
            return
        self.taken += 1
        if said := point(what, one):
            self.wrong.append(said)

    def told(self, what: str) -> str:
        """The score in a line."""
        recovered = self.taken - len(self.wrong)
        return f"{what}: {recovered} of {self.taken} points recovered; there are {self.points}"


@dataclass
class Rig:
    """All that a point needs: a command line with MLflow loaded, a server each, and models to break."""

    cli: Cli
    redis: RedisServer
    registry: Registry
    templates: dict[int, Template]

    def run(self, cli: Cli, world: World, operation: Operation, redis_url: str, *more: object) -> Result:
        """As another job, each time."""
        arguments = ("--model-name", world.name, "--redis-url", redis_url, *operation.arguments, *more)
        return cli(operation.command, *arguments)

    def lease_ends(self) -> None:
        """What time does to the lease of a dead holder."""
        client = self.redis.client
        for key in client.keys("{champion-gate:*:lease"):
            client.pexpire(key, 1)
        while client.keys("{champion-gate:*:lease"):
            pass
        client.close()

    def log(self, world: World) -> list[lineage.Entry]:
        return ReleaseLog.find(self.registry, self.registry.model(world.name)).moves()


@pytest.fixture(scope="module")
def rig(mlflow_server, mlflow_client, forks, tmp_path_factory):
    folder = tmp_path_factory.mktemp("points")
    cli = Cli(mlflow_server.uri, folder, forks)
    with redis_server(folder) as redis:
        templates = {releases: template(mlflow_client, cli, releases) for releases in (2, 3)}
        yield Rig(cli, redis, Registry(mlflow_client, mlflow_server.uri, 30.0), templates)


def is_write(request: Request) -> bool:
    return request.method != "GET" and not request.path.endswith("/runs/search")


def calls_of(rig: Rig, operation: Operation) -> tuple[list[Request], list[bytes]]:
    """The calls that the operation makes when nothing is broken."""
    world = rig.templates[operation.releases].copy()
    with fault_proxy(rig.cli.uri) as proxy, redis_proxy(rig.redis.port) as commands:
        done = rig.run(rig.cli.at(proxy.uri), world, operation, commands.url)
        assert (done.exit_code, done.outputs["changed"]) == (0, "true"), done.text
        assert world.aliases == operation.after
        return list(proxy.requests), list(commands.commands)


def legal_in_between(world: World, operation: Operation) -> None:
    """Serving loads one of two versions, and each alias is as before or as after."""
    before, after = operation.before, operation.after
    for alias in ("champion", "previous-champion", "rolled-back", "challenger"):
        assert world.aliases.get(alias) in (before.get(alias), after.get(alias)), alias


def recovered(rig: Rig, world: World, operation: Operation) -> None:
    """The move is done, once; the log tells all of it, and nothing is left open."""
    assert world.aliases == operation.after
    entries = rig.log(world)
    assert lineage.replay(entries) == {
        **dict.fromkeys(("champion", "previous-champion")),
        **{alias: number for alias, number in operation.after.items() if alias != "challenger"},
    }
    own = [e for e in entries if e.kind == operation.kind and (e.from_version, e.to_version) == operation.move]
    assert [e.state for e in own].count("done") == 1
    told(world, entries)
    tags = world.version_tags(operation.move[operation.kind == "promotion"])
    wanted = {"promoted_at", "approved_by"} if operation.kind == "promotion" else {"rollback_reason", "rolled_back_at"}
    assert wanted <= tags.keys()


def told(world: World, entries: list[lineage.Entry]) -> None:
    """History has one entry a move, each done, undone or abandoned, and knows of no hand but ours."""
    assert "gate.open_move" not in world.tags
    story = timeline.tell(entries, world.aliases, "")
    assert not [row for row in story.rows if row.change], [row.mark for row in story.rows]
    for row in story.rows:
        assert row.mark.split(", ")[0] in ("done", "undone", "abandoned")
    assert len({e.operation_id for e in entries}) == len(entries)


def point(what: str, check: Callable[[], None]) -> str:
    """Run one point; what was wrong with it, or an empty text."""
    try:
        check()
    except Exception as error:  # noqa: BLE001  (all points are tried before the test says which failed)
        return f"{what}: {type(error).__name__}: {error}"
    except AssertionError as error:
        return f"{what}: {error}"
    return ""


def finish_and_check(rig: Rig, world: World, operation: Operation) -> None:
    """The same command by another job, after the broken one: it recovers, and the move is done."""
    legal_in_between(world, operation)
    rig.lease_ends()
    own = [e for e in rig.log(world) if e.kind == operation.kind and (e.from_version, e.to_version) == operation.move]
    all_done = "gate.open_move" not in world.tags and any(e.state == "done" for e in own)
    if all_done and operation.kind == "rollback":
        # One more would go further back; who names the version that was bad is told.
        again = rig.run(rig.cli, world, operation, rig.redis.url, "--from-version", operation.before["champion"])
        assert again.exit_code == 1, again.text
    else:
        again = rig.run(rig.cli, world, operation, rig.redis.url)
        assert again.exit_code == 0, again.text
        assert again.outputs["version"] == operation.after["champion"]
    recovered(rig, world, operation)


def described(request: Request) -> str:
    path = request.path.partition("?")[0].removeprefix("/api/2.0/mlflow/")
    return f"{request.method} {path} {request.body[:90].decode(errors='replace')}"


def one_registry_point(rig: Rig, operation: Operation, number: int, mode: str) -> None:
    world = rig.templates[operation.releases].copy()
    go = threading.Event()
    with fault_proxy(rig.cli.uri) as proxy:
        rule = proxy.when(skip=number, times=1)
        {
            "killed before": lambda: rule.kill(rig.cli.kill, forwarded=False, answered=False),
            "killed before the answer": lambda: rule.kill(rig.cli.kill, forwarded=True, answered=False),
            "killed after": lambda: rule.kill(rig.cli.kill, forwarded=True, answered=True),
            "answer lost": rule.lose_answer,
            "504 after it was done": lambda: rule.answer_after_forwarding(504),
            "no answer after it was done": rule.silent_after_forwarding,
            "killed, done late": lambda: rule.land_late(rig.cli.kill, go),
            "504, done late": lambda: rule.land_late(lambda: None, go, status=504),
        }[mode]()
        patience = ("--registry-timeout", "2") if mode.startswith("no answer") else ()
        broken = rig.run(rig.cli.at(proxy.uri), world, operation, rig.redis.url, *patience)
        if "killed" in mode:
            assert broken.exit_code == KILLED, broken.text
        else:
            assert broken.exit_code in (0, 3), broken.text
        if mode in LATE:
            landed_late(rig, world, operation, proxy, go)
        else:
            finish_and_check(rig, world, operation)


def landed_late(rig: Rig, world: World, operation: Operation, proxy: FaultProxy, go: threading.Event) -> None:
    """The next action is another one, and only when it is finished, the write lands."""
    legal_in_between(world, operation)
    rig.lease_ends()
    other = OPERATIONS["rollback" if operation.kind == "promotion" else "promotion"]
    between = rig.run(rig.cli, world, other, rig.redis.url)
    # A promotion is refused where the rollback was finished: its verdict speaks of another champion.
    assert between.exit_code in (0, 1), between.text
    go.set()
    assert proxy.landed.wait(30)
    settles(rig, world)


def settles(rig: Rig, world: World) -> None:
    """After one more action, whatever it is, the log gives exactly the aliases."""
    done = rig.run(rig.cli, world, ROLLBACK, rig.redis.url, "--to-version", 99)
    assert done.exit_code == 2, done.text
    entries = rig.log(world)
    wanted = {alias: number for alias, number in lineage.replay(entries).items() if number is not None}
    # The log does not speak of the challenger: training sets it.
    assert {alias: number for alias, number in world.aliases.items() if alias != "challenger"} == wanted
    told(world, entries)


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_registry_call_may_be_the_last_and_the_next_run_recovers(rig, name, measured):
    operation = OPERATIONS[name]
    requests, _ = calls_of(rig, operation)
    score = Score()
    for number, request in enumerate(requests):
        if name == "rollback to the first" and request.method != "DELETE":
            continue  # the same calls as in the other rollback
        late = LATE if is_write(request) else ()  # a look-up that is answered late does nothing
        silent = ("no answer after it was done",) if is_write(request) and "lias" in request.path else ()
        for mode in (*DEADLY, *UNCLEAR, *silent, *late):
            score.take(
                f"{name}, call {number + 1} ({described(request)}), {mode}",
                lambda number=number, mode=mode: one_registry_point(rig, operation, number, mode),
            )
    measured(score.told(f"{name}, registry calls"))
    assert not score.wrong, "\n".join([f"{len(score.wrong)} points:", *score.wrong])


def one_redis_point(rig: Rig, operation: Operation, number: int, mode: str) -> None:
    world = rig.templates[operation.releases].copy()
    go = threading.Event()

    def fault(command: Command) -> None:
        if mode == "killed, done late":
            rig.cli.kill()
            if go.wait(60):
                command.forward()
                command.proxy.landed.set()
            return
        answer = b"" if mode in ("killed before", "dropped") else command.forward()
        if mode == "killed after":
            command.answer(answer)
        if "killed" in mode:
            rig.cli.kill()

    with redis_proxy(rig.redis.port) as proxy:
        proxy.at, proxy.fault = number, fault
        broken = rig.run(rig.cli, world, operation, proxy.url)
        if "killed" in mode:
            assert broken.exit_code == KILLED or (mode == "killed after" and broken.exit_code == 0), broken.text
        else:
            assert broken.exit_code == 0, "one lost answer of Redis is no reason to fail: " + broken.text
        finish_and_check(rig, world, operation)
        if mode == "killed, done late":
            go.set()
            assert proxy.landed.wait(30)
            rig.lease_ends()
            settles(rig, world)


@pytest.mark.parametrize("name", ["promotion", "rollback"])
def test_every_redis_command_may_be_the_last_and_the_next_run_recovers(rig, name, measured):
    operation = OPERATIONS[name]
    _, commands = calls_of(rig, operation)
    what = f"{name}, Redis"
    score = Score()
    for number, command in enumerate(commands):
        for mode in (*DEADLY, "answer lost", "dropped", "killed, done late"):
            shown = " ".join(command.decode(errors="replace").split()[:3])
            score.take(
                f"{what}, command {number + 1} ({shown}), {mode}",
                lambda number=number, mode=mode: one_redis_point(rig, operation, number, mode),
            )
    measured(score.told(f"{what} commands"))
    assert not score.wrong, "\n".join([f"{len(score.wrong)} points:", *score.wrong])
