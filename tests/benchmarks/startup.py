"""Measures whole processes: this gate against the bare client and a plain script, warm and from an empty machine.

All candidates run in turn, in the same minutes, on the same server and the same two model versions, so that their
ratios mean something where their seconds do not. Nothing is asserted: the targets stand beside what was measured.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.support.progress import progress  # noqa: E402
from tests.support.server import mlflow_server  # noqa: E402 - found by the line above

MODEL = "benchmark-ranker"
ARGUMENTS = ["--model-name", MODEL, "--threshold", "0.5"]

BARE = f"from mlflow import MlflowClient; MlflowClient().get_model_version_by_alias({MODEL!r}, 'champion')"

# The gate as it is usually written by hand.
PLAIN = f"""
import sys
from mlflow import MlflowClient

client = MlflowClient()
challenger = client.get_model_version_by_alias({MODEL!r}, "challenger")
champion = client.get_model_version_by_alias({MODEL!r}, "champion")
new = client.get_run(challenger.run_id).data.metrics["val_ndcg_at_10"]
old = client.get_run(champion.run_id).data.metrics["val_ndcg_at_10"]
passed = new >= 0.5 and new >= 0.98 * old
client.set_model_version_tag({MODEL!r}, challenger.version, "gate", "passed" if passed else "failed")
sys.exit(not passed)
"""


def seed() -> None:
    """A champion, and a challenger that is a little better."""
    from mlflow import MlflowClient

    client = MlflowClient()
    experiment = client.create_experiment("/benchmark/ranker/training")
    client.create_registered_model(MODEL, tags={"team": "benchmark"})
    tags = {
        "team": "benchmark",
        "owner": "benchmark",
        "git.commit": "0" * 40,
        "data.version": "1",
        "environment": "ci",
        "purpose": "training",
    }
    for alias, metric in (("champion", 0.80), ("challenger", 0.81)):
        run = client.create_run(experiment, tags=tags)
        client.log_metric(run.info.run_id, "val_ndcg_at_10", metric)
        client.set_terminated(run.info.run_id)
        made = client.create_model_version(
            MODEL, f"{run.info.artifact_uri}/model", run.info.run_id, await_creation_for=0
        )
        client.set_registered_model_alias(MODEL, alias, made.version)


def seconds(command: list[str | Path], environment: dict[str, str]) -> float:
    """How long a process takes from its start to its end; one that fails is no measurement."""
    started = time.perf_counter()
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    taken = time.perf_counter() - started
    if ran.returncode:
        shown = " ".join(map(str, command))[:200]
        sys.exit(f"startup: {shown} ended with {ran.returncode}:\n{ran.stdout[-2000:]}{ran.stderr[-2000:]}")
    return taken


def warm(environment: dict[str, str], rounds: int) -> None:
    """The whole process of each candidate, everything installed and in the disk cache."""
    run = ROOT / "scripts" / "run"
    find = [run, "--python", "registry", "-c", "import sys; print(sys.executable)"]
    skinny = subprocess.run(find, capture_output=True, text=True, check=True).stdout.strip()
    isolated = ["-E", "-s"]
    candidates: dict[str, list[str | Path]] = {
        "bare client, one alias (mlflow-skinny)": [skinny, *isolated, "-c", BARE],
        "validate-model, the script itself": [skinny, *isolated, ROOT / "scripts" / "validate_model.py", *ARGUMENTS],
        "validate-model, by scripts/run": [run, "validate-model", *ARGUMENTS],
        "plain script on full mlflow": [sys.executable, *isolated, "-c", PLAIN],
    }
    for command in candidates.values():  # bytecode, disk cache, and the release log of the model
        seconds(command, environment)
    taken: dict[str, list[float]] = {name: [] for name in candidates}
    for done in range(rounds):
        progress(f"warm: round {done + 1} of {rounds}")
        for name, command in candidates.items():
            taken[name].append(seconds(command, environment))
    progress("")
    medians = {name: statistics.median(times) for name, times in taken.items()}
    bare, script, launched, plain = medians.values()
    print(f"\nWarm: one whole process, median of {rounds} (fastest to slowest)\n")
    for name, median in medians.items():
        print(f"  {name:<40} {median:7.2f} s   ({min(taken[name]):.2f} to {max(taken[name]):.2f})")
    print(f"\n  script / bare client         {script / bare:6.2f}x")
    print(f"  scripts/run / bare client    {launched / bare:6.2f}x   target <= 1.25x")
    print(f"  plain script / scripts/run   {plain / launched:6.2f}x")


def cold(environment: dict[str, str]) -> None:
    """From an empty home folder to a verdict: this gate, and a plain script with what it is usually given."""
    # Runners bring no uv: the gate has to fetch its own here, whatever this machine has.
    path = [folder for folder in environment["PATH"].split(":") if folder and not Path(folder, "uv").exists()]
    python = next(filter(None, (shutil.which("python3", path=folder) for folder in path)))
    with tempfile.TemporaryDirectory(prefix="champion-gate-") as folder:

        def fresh(home: str) -> dict[str, str]:
            Path(folder, home).mkdir()
            kept = {name: value for name, value in environment.items() if name not in {"RUNNER_TEMP", "UV_CACHE_DIR"}}
            kept = {name: value for name, value in kept.items() if not name.startswith("XDG_")}
            # Python may have left its bytecode of this checkout on this machine; a fresh one has none.
            return kept | {"HOME": str(Path(folder, home)), "PATH": ":".join(path)}

        progress("cold: scripts/run makes its environment")
        checkout = Path(folder, "checkout")
        for part in ("scripts", "requirements"):
            shutil.copytree(ROOT / part, checkout / part, ignore=shutil.ignore_patterns("__pycache__", ".*_cache"))
        ours = seconds([checkout / "scripts" / "run", "validate-model", *ARGUMENTS], fresh("ours"))
        progress("cold: pip install mlflow[extras], which takes minutes")
        env = Path(folder, "venv")
        theirs = fresh("theirs")
        steps = {
            "python3 -m venv": [python, "-m", "venv", env],
            "pip install mlflow[extras]": [env / "bin" / "pip", "install", "--quiet", "mlflow[extras]"],
            "plain script": [env / "bin" / "python", "-c", PLAIN],
        }
        parts = {name: seconds(command, theirs) for name, command in steps.items()}
        progress("")
    total = sum(parts.values())
    print("\nCold: from an empty home folder to a verdict, once\n")
    print(f"  {'scripts/run validate-model':<40} {ours:7.1f} s   (its own uv, its environment, the verdict)")
    print(f"  {'venv, pip and a plain script':<40} {total:7.1f} s   ", end="")
    print("(" + ", ".join(f"{name} {taken:.1f}" for name, taken in parts.items()) + ")")
    print(f"\n  today's way / scripts/run    {total / ours:6.1f}x   target >= 12x")


def main() -> None:
    """Measures what the arguments ask for."""
    parser = argparse.ArgumentParser(prog="tests/benchmarks/startup", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=11, help="processes per warm candidate (default: 11)")
    parser.add_argument("--only", choices=["warm", "cold"], help="measure one half only")
    arguments = parser.parse_args()
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("CHAMPION_GATE_", "GITHUB_", "MLFLOW_"))
    }
    with tempfile.TemporaryDirectory(prefix="champion-gate-") as folder, contextlib.ExitStack() as stack:
        progress("starting an MLflow server")
        server = stack.enter_context(mlflow_server(Path(folder)))
        # Everyone's processes are spared MLflow's telemetry, which the gate switches off for itself.
        environment |= {"MLFLOW_TRACKING_URI": server.uri, "MLFLOW_DISABLE_TELEMETRY": "true"}
        os.environ.update(environment, MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT="true")
        seed()
        if arguments.only != "cold":
            warm(environment, arguments.rounds)
        if arguments.only != "warm":
            cold(environment)


if __name__ == "__main__":
    main()
