"""Measures whole gates on judged queries: their time and memory on many rows, and what a second gate costs.

`scores`: validate-model --scores on 10 and on 100 million rows, beside a process that imports the same modules and
reads the same columns with polars, and does nothing with them. `again`: validate-model --evaluation-data from an empty
cache, and once more when the models' environments and the champion's figures are there. All run in turn, on one server.
Nothing is asserted: the targets stand beside what was measured.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
import polars as pl  # noqa: E402

from tests.support import judged  # noqa: E402
from tests.support.progress import progress  # noqa: E402
from tests.support.server import mlflow_server  # noqa: E402

MODEL = "benchmark-ranker"
PART_ROWS = 10_000_000
DOCUMENTS = 100
COLUMNS = ("query_id", "label", "challenger_score", "champion_score")

# What a gate imports, and the data it needs; the rest is its own work.
READING = f"""
import sys
sys.path.insert(0, {str(ROOT / "scripts")!r})
import click, jinja2, numpy, polars, pydantic, yaml, scipy.special
from mlflow import MlflowClient
from champion_gate import gate, html_report, report
polars.scan_parquet(sys.argv[1]).select({COLUMNS!r}).collect()
"""

# A process starts out as large as the one that starts it, so a small one does.
MEASURE = """
import json, os, sys, time
started = time.perf_counter()
process = os.posix_spawnp(sys.argv[2], sys.argv[2:], os.environ)
_, status, usage = os.wait4(process, 0)
taken = time.perf_counter() - started
with open(sys.argv[1], "w") as file:
    json.dump([os.waitstatus_to_exitcode(status), taken, usage.ru_maxrss], file)
"""


@dataclass(frozen=True)
class Ran:
    """One process: seconds from start to end, and its largest resident set in MB."""

    seconds: float
    megabytes: float


def run(command: list[str | Path], environment: dict[str, str], codes: tuple[int, ...] = (0,)) -> Ran:
    """Run a process to its end; one that fails is no measurement."""
    with tempfile.TemporaryFile() as output, tempfile.NamedTemporaryFile("r") as result:
        measured = [sys.executable, "-I", "-S", "-c", MEASURE, result.name, *map(str, command)]
        subprocess.run(measured, env=environment, stdout=output, stderr=subprocess.STDOUT, check=True)
        code, taken, kilobytes = json.loads(result.read())
        if code not in codes:
            output.seek(0)
            shown = " ".join(map(str, command))[:200]
            sys.exit(f"gate: {shown} ended with {code}:\n{output.read().decode()[-4000:]}")
    return Ran(taken, kilobytes / 1024)


def seed(client: object, uri: str, folder: Path) -> None:
    """A champion and a challenger: real models, logged as a training does."""
    judged.log_ranker(client, uri, MODEL, "good", folder)
    client.set_registered_model_alias(MODEL, "champion", "1")  # type: ignore[attr-defined]
    judged.log_ranker(client, uri, MODEL, "poor", folder)


def part(path: Path, number: int) -> None:
    """Ten million scored rows, whose queries are in no other part."""
    rng = np.random.default_rng(number)
    fit = rng.standard_normal(PART_ROWS)
    queries = np.repeat(np.arange(PART_ROWS // DOCUMENTS) + number * (PART_ROWS // DOCUMENTS), DOCUMENTS)
    pl.DataFrame(
        {
            "query_id": pl.Series(queries).cast(pl.String).str.zfill(9),
            "label": np.searchsorted((0.5, 1.2, 1.8, 2.4), fit).astype(np.int8),
            "challenger_score": fit + 0.5 * rng.standard_normal(PART_ROWS),
            "champion_score": fit + 0.5 * rng.standard_normal(PART_ROWS),
        }
    ).write_parquet(path)


def scores(environment: dict[str, str], folder: Path, rounds: int, parts: int) -> None:
    """The gate on scored rows, beside reading them."""
    python = find_python("scoring")
    gate = [ROOT / "scripts" / "run", "validate-model", "--model-name", MODEL, "--version", "2", "--scores"]
    small, large = folder / "small.parquet", folder / "large.parquet"
    progress("scores: writing ten million rows")
    part(small, 0)
    read = [python, "-E", "-s", "-c", READING]
    taken: dict[str, list[Ran]] = {"read": [], "gate": []}
    for done in range(rounds + 1):
        progress(f"scores: round {done} of {rounds}")
        pair = run([*read, small], environment), run([*gate, small], environment, (0, 1, 4))
        if done:  # the first one fills the disk cache
            taken["read"].append(pair[0])
            taken["gate"].append(pair[1])
    seconds = {name: statistics.median(ran.seconds for ran in each) for name, each in taken.items()}
    memory = {name: max(ran.megabytes for ran in each) for name, each in taken.items()}
    progress("")
    print(
        f"\n10 million scored rows, Parquet, {PART_ROWS // DOCUMENTS:,} queries: whole processes, median of {rounds}\n"
    )
    print(f"  imports, and reading the columns   {seconds['read']:7.2f} s   {memory['read']:7.0f} MB")
    print(
        f"  validate-model --scores            {seconds['gate']:7.2f} s   {memory['gate']:7.0f} MB   target < 1500 MB"
    )
    print(f"  gate / reading                     {seconds['gate'] / seconds['read']:7.2f}x  target <= 1.7x")
    if parts < 2:
        return
    for number in range(parts):
        progress(f"scores: writing part {number + 1} of {parts}")
        part(folder / f"part-{number}.parquet", number)
    progress("scores: joining the parts")
    pl.scan_parquet(sorted(folder.glob("part-*.parquet"))).sink_parquet(large)
    for each in folder.glob("part-*.parquet"):
        each.unlink()
    progress(f"scores: {parts * 10} million rows")
    ran = run([*gate, large], environment, (0, 1, 4))
    progress("")
    growth = ran.seconds / seconds["gate"]
    print(f"\n{parts * 10} million rows\n")
    print(f"  validate-model --scores            {ran.seconds:7.2f} s   {ran.megabytes:7.0f} MB   target < 1500 MB")
    print(f"  time / time of 10 million          {growth:7.2f}x  target <= {parts}x")


def again(environment: dict[str, str], folder: Path) -> None:
    """A first gate from an empty cache, and a second one on the same champion and data."""
    data = folder / "judged.parquet"
    judged.queries(2000).write_parquet(data)
    home = folder / "home"
    home.mkdir()
    kept = {name: value for name, value in environment.items() if not name.startswith(("XDG_", "UV_CACHE"))}
    kept |= {"HOME": str(home)}
    gate = [
        ROOT / "scripts" / "run",
        "validate-model",
        "--model-name",
        MODEL,
        "--version",
        "2",
        "--evaluation-data",
        data,
    ]
    run(
        [ROOT / "scripts" / "run", "--python", "scoring", "-c", ""], kept
    )  # the gate's own environment is no part of it
    progress("again: the first gate makes the models' environment")
    first = run([*gate], kept, (0, 1, 4))
    progress("again: the second gate")
    second = statistics.median(run([*gate], kept, (0, 1, 4)).seconds for _ in range(3))
    progress("")
    print("\nThe same champion and data twice (2000 queries, models' environments from their requirements)\n")
    print(f"  first gate                         {first.seconds:7.2f} s")
    print(f"  second gate, median of 3           {second:7.2f} s")
    print(f"  second / first                     {second / first.seconds:7.2f}x  target <= 0.20x")


def find_python(lock: str) -> str:
    """The interpreter of a lock's environment, made if it is missing."""
    find = [ROOT / "scripts" / "run", "--python", lock, "-c", "import sys; print(sys.executable)"]
    return subprocess.run(find, capture_output=True, text=True, check=True).stdout.strip()


def main() -> None:
    """Measure what the arguments ask for."""
    parser = argparse.ArgumentParser(prog="tests/benchmarks/gate", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="processes per candidate (default: 5)")
    parser.add_argument(
        "--parts", type=int, default=10, help="the large table, in tens of millions of rows (default: 10)"
    )
    parser.add_argument("--only", choices=["scores", "again"], help="measure one half only")
    options = parser.parse_args()
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("CHAMPION_GATE_", "GITHUB_", "MLFLOW_"))
    }
    with tempfile.TemporaryDirectory(prefix="champion-gate-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        progress("starting an MLflow server")
        (folder / "server").mkdir()
        server = stack.enter_context(mlflow_server(folder / "server"))
        environment |= {"MLFLOW_TRACKING_URI": server.uri, "MLFLOW_DISABLE_TELEMETRY": "true"}
        os.environ.update(environment, MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT="true")
        from mlflow import MlflowClient

        seed(MlflowClient(server.uri), server.uri, folder)
        if options.only != "again":
            scores(environment, folder, options.rounds, options.parts)
        if options.only != "scores":
            again(environment, folder)
        shutil.rmtree(folder / "server", ignore_errors=True)


if __name__ == "__main__":
    main()
