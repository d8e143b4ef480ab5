"""Every tool that judges this project, as tests: what CI refuses, `scripts/test` refuses too."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
LOCKS = {lock.stem: lock for lock in sorted((ROOT / "requirements").glob("*.txt"))}
LOCKS["server"] = ROOT / "examples/server/mlflow/requirements.txt"  # part of what people copy
LOCKS |= {lock.stem: lock for lock in sorted((ROOT / "tests/matrix").glob("mlflow-*.txt"))}
PIN = re.compile(r"^([a-z0-9][a-z0-9._-]*)(?:\[[^]]*\])?==([^\s;\\]+)", re.MULTILINE)


def files():
    """All files of the project: tracked, or new and not ignored."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [path for path in map(ROOT.joinpath, filter(None, listed.stdout.split("\0"))) if path.is_file()]


def first_line(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.readline()


def bash_scripts():
    return [path for path in files() if re.match(rb"#!.*\b(ba)?sh\b", first_line(path))]


def workflows():
    return [*ROOT.glob(".github/workflows/*.y*ml"), *ROOT.glob("workflow-templates/*.y*ml")]


def action_files():
    return [path for path in files() if path.name in {"action.yml", "action.yaml"} and "tests" not in path.parts]


def check(*command) -> None:
    """Fails with the tool's own words."""
    ran = subprocess.run(list(map(str, command)), cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, f"{Path(command[0]).name} says:\n{ran.stdout}{ran.stderr}"


def tool(name: str) -> Path:
    """A program of the environment that runs the tests; it is locked, so its absence is a failure."""
    path = Path(sys.executable).parent / name
    assert path.exists(), f"{name} is not in this environment; run the tests with scripts/test"
    return path


def test_ruff_finds_nothing():
    check(tool("ruff"), "check", ".")


def test_files_are_formatted():
    check(tool("ruff"), "format", "--check", ".")


def test_types_hold():
    check(tool("mypy"))


def test_shell_scripts_are_clean():
    scripts = bash_scripts()
    assert {"run", "test"} <= {script.name for script in scripts}
    check(tool("shellcheck"), *scripts)


def test_shell_scripts_are_executable():
    assert [script for script in bash_scripts() if not os.access(script, os.X_OK)] == []


def test_actionlint_finds_nothing():
    actionlint = os.environ.get("CHAMPION_GATE_TEST_ACTIONLINT") or shutil.which("actionlint")
    if not actionlint:
        pytest.skip("actionlint is not installed: scripts/test installs it where Go is")
    check(actionlint, "-shellcheck", tool("shellcheck"), "-pyflakes=", *workflows())


def test_zizmor_finds_nothing():
    check(tool("zizmor"), "--offline", "--no-progress", "--persona=pedantic", *workflows(), *action_files())


def test_other_peoples_actions_are_pinned_by_commit():
    uses = [
        line.split("uses:")[1].strip()
        for path in [*workflows(), *action_files()]
        for line in path.read_text(encoding="utf-8").splitlines()
        if re.match(r"\s*(- )?uses:", line)
    ]
    others = [use for use in uses if not use.startswith(("./", "$/", "champion-gate/"))]
    assert [use for use in others if not re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", use)] == []


def test_the_gate_job_waits_for_every_other_job():
    jobs = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))["jobs"]
    assert set(jobs["gate"]["needs"]) == set(jobs) - {"gate"}


@pytest.mark.parametrize("lock", LOCKS.values(), ids=LOCKS)
def test_a_lock_says_what_and_not_where_from(lock):
    text = lock.read_text(encoding="utf-8")
    assert "://" not in text
    assert re.findall(r"^\s*-[^-].*|^\s*--(?!hash=).*| @ .*", text, re.MULTILINE) == []
    blocks = re.split(r"\n(?=\S)", text.strip())
    assert [block for block in blocks if not PIN.match(block) or "--hash=sha256:" not in block] == []


@pytest.mark.parametrize("name", ["registry", "example", "server", "uv"])
def test_the_tests_run_on_the_versions_that_the_actions_run_on(name):
    own, dev = pins(name), pins("dev")
    assert {package: dev.get(package) for package in own} == own


def test_the_locks_hold_what_the_project_asks_for():
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["dependency-groups"]
    assert set(LOCKS) == set(groups)
    for group, entries in groups.items():
        locked = pins(group)
        for entry in filter(lambda entry: isinstance(entry, str), entries):
            requirement = Requirement(entry)
            versions = locked.get(requirement.name, set())
            assert versions, f"{group}: {entry} is not locked; run requirements/compile"
            assert all(requirement.specifier.contains(version) for version in versions), f"{group}: {entry}"


def pins(lock: str) -> dict[str, set[str]]:
    """Package -> locked versions; there are several where markers choose one."""
    found: dict[str, set[str]] = {}
    for package, version in PIN.findall(LOCKS[lock].read_text(encoding="utf-8")):
        found.setdefault(package, set()).add(version)
    return found


def test_no_file_names_a_package_host_or_a_place_on_somebodys_machine():
    # Put together here, so that this file does not hold what it looks for.
    hosts = [("pypi", "org"), ("python" + "hosted", "org"), ("golang", "org"), ("npmjs", "org"), ("npmjs", "com")]
    folders = [("work",), ("root",), ("tmp", "dev"), ("tmp", "full"), ("tmp", "gobin"), ("opt", "wheels"), ("Users",)]
    patterns = [r"\b" + r"\.".join(host) + r"\b" for host in hosts]
    patterns += [r"(?<![\w.})-])/" + "/".join(folder) + "/" for folder in folders]
    patterns += [re.escape(str(ROOT)), re.escape(sys.prefix)]
    forbidden = re.compile("|".join(patterns))
    found = []
    for path in files():
        text = path.read_bytes().decode("utf-8", errors="replace")
        found += [f"{path.relative_to(ROOT)}: {match[0]}" for match in forbidden.finditer(text)]
    assert found == []
