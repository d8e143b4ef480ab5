"""Imports run one way, and the files that decide a release are pure."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "scripts" / "champion_gate"
PURE = {
    *("conventions", "decision", "errors", "lineage", "policy", "text", "verdict"),
    *("holds", "signing", "timeline"),
    *("ndcg", "rank_metric", "rank_metrics", "statistics"),
}
# Runs in the model's own environment, as a process of its own, and imports nothing of ours.
CHILD = "scorer"
OUTSIDE = {"os", "sys", "socket", "subprocess", "threading", "mlflow", "requests", "redis", "click", "time", "urllib"}


def imports_of(path):
    """Module names that a file imports, at its top and inside functions; of the package's own, the last part."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module == "champion_gate":
            found |= {f"champion_gate.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


@pytest.mark.parametrize("name", sorted(PURE))
def test_a_pure_file_reaches_no_further_than_the_pure_ones(name):
    imported = imports_of(PACKAGE / f"{name}.py")
    own = {module.split(".")[1] for module in imported if module.startswith("champion_gate.")}
    assert own <= PURE
    assert not {module.split(".")[0] for module in imported} & OUTSIDE


def callers_of(library):
    return {path.stem for path in PACKAGE.rglob("*.py") if library in {m.split(".")[0] for m in imports_of(path)}}


def test_only_the_registry_calls_mlflow():
    assert callers_of("mlflow") - {CHILD} == {"registry"}
    assert not any(module.startswith("champion_gate") for module in imports_of(PACKAGE / f"{CHILD}.py"))


def test_only_the_lease_calls_redis():
    assert callers_of("redis") == {"lease"}


def test_only_one_file_speaks_to_githubs_api():
    assert callers_of("requests") == {"github_api"}


def test_a_gate_on_run_metrics_alone_needs_none_of_what_judged_queries_take():
    # It runs in the smaller environment, requirements/registry.txt.
    loaded = """
import sys
for name in ("numpy", "polars", "scipy", "boto3"):
    sys.modules[name] = None
import validate_model, release
from champion_gate import decision, evidence, gate, html_report, policy, report, verdict
"""
    subprocess.run(
        [sys.executable, "-c", loaded], cwd=PACKAGE.parent, check=True, env={"PYTHONPATH": str(PACKAGE.parent)}
    )


def test_only_one_file_knows_the_runners_variables():
    scripts = PACKAGE.parent
    files = [*PACKAGE.rglob("*.py"), *(p for p in scripts.glob("*.py") if p.stem not in ("demo", "launch"))]
    assert {path.stem for path in files if '"GITHUB_' in path.read_text(encoding="utf-8")} == {"github"}


def test_help_does_not_wait_for_mlflow():
    slow = {"mlflow", "jinja2", "rich"}
    for path in PACKAGE.parent.glob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        top = {n.module or "" for n in tree.body if isinstance(n, ast.ImportFrom)}
        top |= {a.name for n in tree.body if isinstance(n, ast.Import) for a in n.names}
        assert not {module.split(".")[0] for module in top} & slow, path.name
        assert "champion_gate.registry" not in top, path.name
