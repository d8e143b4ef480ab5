"""A storm of promotions and rollbacks, with jobs that are killed and jobs that freeze and wake up late.

Each move is the real command in a process of its own, on a real MLflow server over PostgreSQL and a real Redis. Only
the length of the lease is not what a job has: it is short, so that a dead holder's ends while the storm lasts. A job
that is to die or freeze does so just after it was allowed to write and just before the write is sent: the worst moment
there is, since no lock can hold a write back that is under way.

After it, one more move of each model, and then must hold:

- replaying the log gives exactly the aliases, each move began where the one before ended, and none is open;
- each job that said that it moved something has its move in the log, done;
- no job was allowed to write after one with a higher fence was; no two leases or moves have one fence.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import random
import runpy
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.cli import SCRIPTS, Cli, parse_outputs
from tests.support.names import unique_model_name
from tests.support.postgres_server import postgres_server
from tests.support.redis_server import RedisServer, redis_server
from tests.support.registry_world import logged_model
from tests.support.server import mlflow_server
from tests.support.verdicts import judged

sys.path.insert(0, str(SCRIPTS))

REGISTRY_TIMEOUT = 4.0
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


@dataclass(frozen=True)
class Size:
    """How hard it blows: `processes` at a time, `moves` each; the shares of jobs that are killed or frozen."""

    processes: int = 8
    moves: int = 125
    models: int = 3
    lease: float = 10.0
    kills: float = 0.15
    freezes: float = 0.08
    seed: int = 1


@dataclass
class Job:
    """One command: what it was told to do, and how it ended."""

    number: int
    model: str
    kind: str
    fault: str
    outputs: Path
    stderr: Path
    exit_code: int | None = None
    moved: str = ""
    """The run of the move that it says it made; empty if it says none."""
    woken: bool = False

    def ended(self, exit_code: int) -> None:
        """Note how it ended, and what it said."""
        said = parse_outputs(self.outputs.read_text())
        self.exit_code = exit_code
        self.moved = said.get("release-run-id", "") if exit_code == 0 and said.get("changed") == "true" else ""


@dataclass
class Found:
    """What came of it, and what is wrong with that; `problems` must be empty."""

    jobs: list[Job]
    problems: list[str] = field(default_factory=list)
    moves: Counter[str] = field(default_factory=Counter)
    """Moves in the log by kind and state."""

    def told(self) -> str:
        """A few lines for people."""
        ends = Counter("killed" if j.exit_code == -signal.SIGKILL else f"exit {j.exit_code}" for j in self.jobs)
        ends["woke up late"] = sum(job.woken for job in self.jobs)
        lines = [
            f"{len(self.jobs)} jobs: {', '.join(f'{n} {end}' for end, n in sorted(ends.items()))}",
            f"moves in the log: {', '.join(f'{n} {what}' for what, n in sorted(self.moves.items()))}",
            f"{sum(bool(j.moved) for j in self.jobs)} jobs said that they moved an alias",
            *(f"WRONG: {problem}" for problem in self.problems),
        ]
        return "\n".join(lines)


# -- one job, in a process of its own


def _become(job: Job, cli: Cli, redis: RedisServer, size: Size, permits: Path) -> None:
    """Turn this forked process into one run of a command; returns only to end with its exit code."""
    env = cli.environment(GITHUB_RUN_ID=str(10_000_000 + job.number), GITHUB_ACTOR=f"job-{job.number}")
    out = os.open(job.stderr, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for target in (1, 2):
        os.dup2(out, target)
    os.environ.clear()
    env |= {"GITHUB_OUTPUT": str(job.outputs), "CHAMPION_GATE_REDIS_URL": redis.url}
    env |= {"CHAMPION_GATE_REGISTRY_TIMEOUT": str(REGISTRY_TIMEOUT), "CHAMPION_GATE_LOCK_TIMEOUT": "600"}
    os.environ.update(env, MLFLOW_HTTP_REQUEST_TIMEOUT="4", MLFLOW_HTTP_REQUEST_MAX_RETRIES="0")
    draw = random.Random(size.seed * 1_000_003 + job.number)
    _watch(job, draw, size, permits)
    arguments = ["--model-name", job.model]
    if job.kind == "promote-alias":
        from mlflow import MlflowClient

        arguments += ["--version", judged_version(MlflowClient(cli.uri), job.model)]
    else:
        arguments += ["--reason", f"job {job.number} says so"]
    script = SCRIPTS / f"{job.kind.replace('-', '_')}.py"
    sys.argv = [str(script), *arguments]
    sys.path[0] = str(SCRIPTS)
    runpy.run_path(str(script), run_name="__main__")


def _watch(job: Job, draw: random.Random, size: Size, permits: Path) -> None:
    """Make the lease short, note each write that it allows, and let the fault happen between the two."""
    from champion_gate import lease

    hold = lease.hold
    left = draw.randint(1, 12) if job.fault else -1  # a promotion makes about as many writes

    @contextlib.contextmanager
    def held(*arguments: Any, **options: Any) -> Iterator[Any]:
        with hold(*arguments, **{**options, "duration": size.lease}) as got:
            require = got.require

            def noted(seconds: float) -> None:
                nonlocal left
                asked = time.clock_gettime(_CLOCK)  # held now, too, if it is held below: nobody gets a lease twice
                require(seconds)
                _note(permits, {"model": job.model, "fence": got.fence, "at": asked, "job": job.number})
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL if job.fault == "kill" else signal.SIGSTOP)

            got.require = noted
            yield got

    lease.hold = held  # type: ignore[assignment]


def _note(file: Path, row: dict[str, Any]) -> None:
    line = (json.dumps(row) + "\n").encode()
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(descriptor, line)  # short enough to be one piece
    os.close(descriptor)


def judged_version(client: Any, model: str) -> str:
    """A new version with a verdict that passed against the champion of this moment; its number."""
    tags = client.get_registered_model(model).tags
    made = client.create_model_version(model, tags["source"], tags["run"], await_creation_for=0)
    judged(client, model, str(made.version))
    return str(made.version)


# -- the storm


def run(size: Size, folder: Path) -> Found:
    """Let it blow in `folder`, and look at what is left."""
    with postgres_server() as database, mlflow_server(folder, database.uri) as server, redis_server(folder) as redis:
        from mlflow import MlflowClient

        client = MlflowClient(server.uri)
        models = [unique_model_name() for _ in range(size.models)]
        for model in models:
            run_id = client.create_run("0").info.run_id
            tags = {"team": "search", "run": run_id, "source": logged_model(client, run_id)}
            client.create_registered_model(model, tags=tags)
        storm = _Storm(size, Cli(server.uri, folder), redis, folder, models)
        storm.blow()
        found = Found(storm.jobs)
        for model in models:  # the one action that reconciles
            job = storm.start(model, "promote-alias", "")
            storm.wait()
            if not job.moved:
                said = job.stderr.read_text()[-2000:]
                found.problems.append(f"{model}: the last promotion ended with exit {job.exit_code}: {said}")
        _judge(found, client, server.uri, models, storm.permits)
        return found


class _Storm:
    def __init__(self, size: Size, cli: Cli, redis: RedisServer, folder: Path, models: list[str]) -> None:
        self.size, self.cli, self.redis, self.folder, self.models = size, cli, redis, folder, models
        self.permits = folder / "permits"
        self.permits.touch()
        self.jobs: list[Job] = []
        self._running: dict[int, Job] = {}
        self._asleep: dict[int, float] = {}
        """Process to the time when it is woken."""
        self._draw = random.Random(size.seed)

    def blow(self) -> None:
        total = self.size.processes * self.size.moves
        while len(self.jobs) < total or self._running:
            while len(self.jobs) < total and len(self._running) < self.size.processes:
                number = len(self.jobs)
                chance = self._draw.random()
                fault = "kill" if chance < self.size.kills else ""
                fault = fault or ("freeze" if chance < self.size.kills + self.size.freezes else "")
                # The first of each model is a release; then two promotions to one rollback.
                kind = "rollback" if number >= len(self.models) and self._draw.random() < 1 / 3 else "promote-alias"
                self.start(self.models[number % len(self.models)], kind, fault)
            self._look()
            time.sleep(0.01)

    def start(self, model: str, kind: str, fault: str) -> Job:
        number = len(self.jobs)
        job = Job(number, model, kind, fault, self.folder / f"outputs-{number}", self.folder / f"log-{number}")
        self.jobs.append(job)
        job.outputs.touch()
        pid = os.fork()
        if pid == 0:
            try:
                os.setsid()
                _become(job, self.cli, self.redis, self.size, self.permits)
            except BaseException:  # noqa: BLE001  (the child must not go on as the storm)
                import traceback

                traceback.print_exc()
            finally:
                os._exit(99)
        self._running[pid] = job
        return job

    def wait(self) -> None:
        while self._running:
            self._look()
            time.sleep(0.01)

    def _look(self) -> None:
        """Take note of who ended or froze, and wake up who slept until its lease was another's."""
        now = time.monotonic()
        for pid, job in list(self._running.items()):
            ended, status = os.waitpid(pid, os.WNOHANG | os.WUNTRACED)
            if ended and os.WIFSTOPPED(status):
                self._asleep[pid] = now + self.size.lease * self._draw.uniform(0.5, 1.8)
            elif ended:
                job.ended(os.waitstatus_to_exitcode(status))
                del self._running[pid]
            elif self._asleep.get(pid, now + 1) <= now:
                del self._asleep[pid]
                job.woken = True
                os.kill(pid, signal.SIGCONT)


def _judge(found: Found, client: Any, uri: str, models: list[str], permits: Path) -> None:
    from champion_gate import lineage
    from champion_gate.registry import Registry
    from champion_gate.release_log import OPEN_MOVE_TAG, ReleaseLog

    registry = Registry(client, uri, 60.0)
    done: set[str] = set()
    for name in models:
        model = registry.model(name)
        entries = ReleaseLog.find(registry, model).moves()
        found.moves += Counter(f"{e.kind}s {e.state}" for e in entries if e.is_move)
        done |= {e.run_id for e in entries if e.state == lineage.DONE}
        replayed = {alias: number for alias, number in lineage.replay(entries).items() if number is not None}
        if replayed != dict(model.aliases):
            found.problems.append(f"{name}: the log says {replayed}, the aliases are {dict(model.aliases)}")
        if OPEN_MOVE_TAG in model.tags:
            found.problems.append(f"{name}: a move is still open")
        moves = [e for e in lineage.in_order(lineage.counted(entries)) if e.state == lineage.DONE]
        for before, move in itertools.pairwise(moves):
            if move.from_version != before.to_version:
                found.problems.append(f"{name}: {move.run_id} began at {move.from_version}, not {before.to_version}")
        fences = [e.fence for e in entries if e.is_move]
        found.problems += [f"{name}: two moves have fence {n}" for n, times in Counter(fences).items() if times > 1]
    for job in found.jobs:
        if job.moved and job.moved not in done:
            found.problems.append(f"job {job.number} of {job.model}: its move {job.moved} is not done in the log")
        if job.exit_code not in (0, 1, 2, 3, -signal.SIGKILL):
            found.problems.append(f"job {job.number}: exit {job.exit_code}: {job.stderr.read_text()[-2000:]}")
        if job.stderr.exists() and "defect of the gate" in job.stderr.read_text():
            found.problems.append(f"job {job.number}: {job.stderr.read_text()[-2000:]}")
    _judge_holders(found, [json.loads(line) for line in permits.read_text().splitlines()])


def _judge_holders(found: Found, permits: list[dict[str, Any]]) -> None:
    """Who was allowed to write, in the order of time: never after somebody with a higher fence."""
    highest: dict[str, dict[str, Any]] = {}
    owners: dict[tuple[str, int], int] = {}
    for row in sorted(permits, key=lambda row: row["at"]):
        before = highest.setdefault(row["model"], row)
        if row["fence"] < before["fence"]:
            found.problems.append(f"two knowing holders of {row['model']}: {before} and then {row}")
        else:
            highest[row["model"]] = row
        if owners.setdefault((row["model"], row["fence"]), row["job"]) != row["job"]:
            found.problems.append(f"two leases of {row['model']} have fence {row['fence']}")


def main() -> int:
    """The command line of `tests/storm`."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    for name, default in vars(Size()).items():
        parser.add_argument(f"--{name}", type=type(default), default=default)
    size = Size(**vars(parser.parse_args()))
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="storm-", ignore_cleanup_errors=True) as folder:
        found = run(size, Path(folder))
    print(found.told())
    print(f"{time.monotonic() - began:.0f} s")
    return int(bool(found.problems))


if __name__ == "__main__":
    sys.exit(main())
