"""Counts the calls of a promotion and of a rollback, and measures what a queue for one model's lease costs.

`calls`: promote-alias and rollback as they are, each in a process of its own, on a model that MLflow logged and that
was released twice before; every call passes a proxy that notes it. `contenders`: many processes that want one model's
lease at once, and each do the same piece of work under it, beside one process that does all the pieces in turn, each
under a lease of its own. All run on one MLflow server over PostgreSQL, and one Redis. Nothing is asserted but what must
hold, one holder at a time: the targets stand beside what was measured.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import json
import multiprocessing
import os
import re
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

from redis.lock import Lock  # noqa: E402 - found by the line above, or after what is

from champion_gate import lease  # noqa: E402
from tests.support import judged  # noqa: E402
from tests.support.cli import Cli, Result  # noqa: E402
from tests.support.fault_proxy import Request, fault_proxy  # noqa: E402
from tests.support.postgres_server import postgres_server  # noqa: E402
from tests.support.progress import progress  # noqa: E402
from tests.support.redis_proxy import redis_proxy  # noqa: E402
from tests.support.redis_server import RedisServer, commands_of, redis_server  # noqa: E402
from tests.support.server import mlflow_server  # noqa: E402

MODEL = "benchmark-ranker"
ALIAS = "benchmark"
REGISTRY_TARGET, REDIS_TARGET, QUEUE_TARGET = 16, 6, 1.3
# The lease is renewed once in so many seconds, and no command here may take as long: no renewal is counted.
UNRENEWED_SECONDS = 300
START_SECONDS = 120  # for all contenders to be there
WAIT_SECONDS = 1800  # for the lease
# What says where a call goes, of all that its body or its query holds.
TELLING = ("alias", "key", "version", "status", "path")
EVALUATED = {
    lease._FencedLock.LUA_ACQUIRE_SCRIPT: "take the lease, with a fence",
    Lock.LUA_EXTEND_SCRIPT: "is it still ours?",
    Lock.LUA_RELEASE_SCRIPT: "give it back",
}


# -- the calls of one move


def seed(cli: Cli, uri: str, folder: Path) -> None:
    """Two releases and a challenger that may be promoted: models logged by MLflow, and judged by the gate."""
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    for version, command in enumerate(("release", "release", "validate-model"), 1):
        progress(f"version {version}: logging its model")
        judged.log_ranker(client, uri, MODEL, "good", folder)
        progress(f"version {version}: {command}")
        succeeded(cli(command, "--model-name", MODEL, "--threshold", "0.1"))


def succeeded(done: Result) -> Result:
    """A command that failed is no measurement."""
    if done.exit_code:
        sys.exit(f"moves: a command ended with {done.exit_code}:\n{done.text[-4000:]}")
    return done


def calls(cli: Cli, uri: str, redis: RedisServer) -> None:
    """Print every call of one promotion, and of the rollback after it."""
    limit = ("--registry-timeout", UNRENEWED_SECONDS)
    commands = {
        "One promotion": ("promote-alias", "--model-name", MODEL, *limit),
        "One rollback": ("rollback", "--model-name", MODEL, "--reason", "clicks fell", *limit),
    }
    for title, (command, *arguments) in commands.items():
        progress(command)
        journal: list[Request | bytes] = []
        with fault_proxy(uri) as registry, redis_proxy(redis.port) as relay, commands_of(redis) as at_redis:
            registry.requests = relay.commands = journal  # one list, so that it shows what came after what
            done = succeeded(cli.at(registry.uri)(command, *arguments, "--redis-url", relay.url))
        progress("")
        if done.outputs["changed"] != "true":
            sys.exit(f"moves: {command} moved nothing:\n{done.text[-4000:]}")
        requests = sum(isinstance(call, Request) for call in journal)
        asked = len(journal) - requests
        if asked != sum(at_redis.values()):
            sys.exit(f"moves: the proxy before Redis saw {asked} commands, and Redis itself {at_redis}.")
        print(f"\n{title} of a model that was released before: {command}\n")
        print(f"  requests to the registry   {requests:3}   target <= {REGISTRY_TARGET}")
        print(f"  commands to Redis          {asked:3}   target <= {REDIS_TARGET}, renewals of the lease not counted\n")
        for number, call in enumerate(journal, 1):
            print(f"  {number:3}  " + (to_registry(call) if isinstance(call, Request) else to_redis(call)))


def to_registry(request: Request) -> str:
    """A request in a line: what is called, and what it speaks of."""
    url = urlsplit(request.path)
    fields: dict[str, Any] = dict(parse_qsl(url.query))
    with contextlib.suppress(ValueError):
        fields |= json.loads(request.body)
    about = [f"{name}={fields[name]}" for name in TELLING if name in fields]
    about += [f"tag {tag['key']}" for tag in fields.get("tags", ()) if url.path.endswith("/log-batch")]
    path = re.sub(r"^/api/[\d.]+/(mlflow/)?", "", url.path)
    return f"registry  {request.method:<7} {path:<32} {' '.join(about)}".rstrip()


def to_redis(command: bytes) -> str:
    """A command in a line: its name, and for a script what that is for."""
    name, first, *_ = [*command.decode().split("\r\n")[2::2], ""]
    return f"Redis     {name:<7} {EVALUATED.get(first, first)}".rstrip()


# -- many at once


@dataclass(frozen=True)
class Place:
    """Where contenders meet, and how many writes to the registry a piece of work is."""

    registry: str
    redis: str
    writes: int


@dataclass(frozen=True)
class Piece:
    """A piece of work: the fence of its lease, and when it began and ended by the machine's monotonic clock."""

    fence: int
    began: float
    ended: float


@dataclass(frozen=True)
class Contended:
    """What one process says of its pieces; `began` and `ended` include waiting, and giving the last lease back."""

    began: float
    ended: float
    pieces: list[Piece]


def contend(place: Place, count: int, ready: Callable[[float], object], tell: Callable[[Contended], None]) -> None:
    """Do so many pieces of work, each under a lease of its own: one contender, in a process of its own."""
    from champion_gate.registry import Registry

    os.environ["MLFLOW_TRACKING_URI"] = place.registry
    registry = Registry.connect()
    created = registry.model(MODEL).created
    pieces: list[Piece] = []
    me = lease.Holder(f"process {os.getpid()}", "", datetime.now(timezone.utc), "benchmark", str(os.getpid()))
    ready(START_SECONDS)
    began = time.monotonic()
    for _ in range(count):
        # While it waits it says so, as a job does; fifty of them would say little else.
        with (
            contextlib.redirect_stderr(io.StringIO()),
            lease.hold(place.redis, MODEL, created, highest_fence=0, holder=me, lock_timeout=WAIT_SECONDS) as held,
        ):
            registry.before_write = held.require
            started = time.monotonic()
            for _ in range(place.writes):
                registry.set_alias(MODEL, ALIAS, "1")
            pieces.append(Piece(held.fence, started, time.monotonic()))
    tell(Contended(began, time.monotonic(), pieces))


def seconds(place: Place, processes: int, count: int) -> float:
    """How long it takes so many processes, which begin at once, to do so many pieces of work each."""
    # Forked from a process that imported what they need: they are to wait for the lease, not for their imports.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["__main__", "mlflow"])
    ready, told = context.Barrier(processes), context.SimpleQueue()
    started = [
        context.Process(target=contend, args=(place, count, ready.wait, told.put), daemon=True)
        for _ in range(processes)
    ]
    for process in started:
        process.start()
    for process in started:
        process.join()
    if failed := sum(process.exitcode != 0 for process in started):
        sys.exit(f"moves: {failed} of {processes} processes failed, and said why above.")
    all_told: list[Contended] = [told.get() for _ in started]
    pieces = sorted((piece for each in all_told for piece in each.pieces), key=lambda piece: piece.began)
    for before, piece in itertools.pairwise(pieces):
        if piece.began < before.ended or piece.fence <= before.fence:
            sys.exit(f"moves: two held the lease at once, or in the wrong order: {before}, {piece}")
    return max(each.ended for each in all_told) - min(each.began for each in all_told)


def contenders(place: Place, count: int, rounds: int) -> None:
    """Print how long a queue for the lease takes, beside the same work without one."""
    progress("contenders: warming up")
    seconds(place, 1, 5)
    rows = []
    for done in range(rounds):
        progress(f"contenders: round {done + 1} of {rounds}, in turn")
        in_turn = seconds(place, 1, count)
        progress(f"contenders: round {done + 1} of {rounds}, {count} at once")
        rows.append((in_turn, seconds(place, count, 1)))
    progress("")
    print(f"\n{count} contenders for one lease; under it, each makes {place.writes} writes to the registry\n")
    print("  round   one process in turn   a process each, at once    at once / in turn")
    for number, (in_turn, at_once) in enumerate(rows, 1):
        print(f"  {number:5}   {in_turn:17.2f} s   {at_once:21.2f} s   {at_once / in_turn:17.2f}x")
    median = statistics.median(at_once / in_turn for in_turn, at_once in rows)
    print(f"\n  median of the ratios   {median:.2f}x   target <= {QUEUE_TARGET}x")


def main() -> None:
    """Measure what the arguments ask for."""
    parser = argparse.ArgumentParser(prog="tests/benchmarks/moves", description=__doc__.splitlines()[0])
    parser.add_argument("--contenders", type=int, default=50, help="processes that want the lease (default: 50)")
    parser.add_argument(
        "--writes",
        type=int,
        default=12,
        help="writes to the registry under each lease; a promotion makes about as many (default: 12)",
    )
    parser.add_argument("--rounds", type=int, default=5, help="measurements of the contenders (default: 5)")
    parser.add_argument("--only", choices=["calls", "contenders"], help="measure one half only")
    options = parser.parse_args()
    for name in [name for name in os.environ if name.startswith(("CHAMPION_GATE_", "GITHUB_", "MLFLOW_"))]:
        del os.environ[name]
    os.environ.update(MLFLOW_DISABLE_TELEMETRY="true", MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT="true")
    # MLflow has advice about the models, which are only there to be moved; it puts its own filter before ours.
    os.environ["MLFLOW_LOGGING_LEVEL"] = "ERROR"
    warnings.showwarning = lambda *_, **__: None
    with tempfile.TemporaryDirectory(prefix="champion-gate-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        progress("starting PostgreSQL, MLflow and Redis")
        postgres = stack.enter_context(postgres_server())
        server = stack.enter_context(mlflow_server(folder, postgres.uri))
        redis = stack.enter_context(redis_server(folder))
        cli = Cli(server.uri, folder)
        seed(cli, server.uri, folder)
        if options.only != "contenders":
            calls(cli, server.uri, redis)
        if options.only != "calls":
            contenders(Place(server.uri, redis.url, options.writes), options.contenders, options.rounds)


if __name__ == "__main__":
    main()
