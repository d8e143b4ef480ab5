"""What a sandbox is told to show, and that nothing else is in its command line."""

from __future__ import annotations

import csv
import os
from itertools import pairwise
from pathlib import Path

import pytest

from champion_gate import isolation, process_family
from champion_gate.errors import BadInput
from champion_gate.interpreter import own
from champion_gate.isolation import Bubblewrap, Docker, Isolation, Namespaces, Process, Program
from champion_gate.scoring import Options


@pytest.fixture
def program(tmp_path):
    (tmp_path / "model").mkdir()
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    files = {"model": tmp_path / "model"}
    return Program(own(), files, ("/scorer.py", "x y"), {"HOME": "/tmp/home"}, 1000, scratch)


@pytest.fixture(autouse=True)
def secret(monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cret")
    monkeypatch.setattr(Docker, "_image", "empty:1")


KINDS = [Bubblewrap(), Namespaces(sudo=False), Namespaces(sudo=True), Docker(), Process()]
NAMES = ["bubblewrap", "namespaces", "sudo", "docker", "process"]


@pytest.mark.parametrize("kind", KINDS, ids=NAMES)
def test_no_secret_is_passed_on_and_the_program_comes_last(kind, program):
    command = kind.command(program)
    assert command[-len(program.command) :] == program.command
    assert program.command[1:3] == ["-I", "-S"]
    assert "s3cret" not in " ".join(command) + str(kind.environment(program))
    assert {"GITHUB_TOKEN", "AWS_SECRET_ACCESS_KEY"}.isdisjoint(kind.environment(program))


@pytest.mark.parametrize("kind", KINDS[:4], ids=NAMES[:4])
def test_a_sandbox_shows_the_system_the_python_and_the_model(kind, program, tmp_path):
    inside = [place for _, place in program.shown()]
    home, here = str(Path.home()), str(Path.cwd())
    assert "/usr" in inside
    assert "/model" in inside
    assert not {"/", "/etc", "/home", "/root", "/tmp", "/run", "/var", "/sys", home, here, str(tmp_path)} & set(inside)
    assert kind.seen("model", program.files["model"]) == "/model"
    text = " ".join(kind.command(program))
    assert all(outside in text for outside, _ in program.shown())


def test_docker_s_mounts_stand_strange_names(program):
    strange = program.scratch / 'a, "b" c'
    strange.mkdir()
    program = Program(program.interpreter, {"model": strange}, (), {}, 1000, program.scratch)
    command = Docker().command(program)
    mounts = [next(csv.reader([value])) for key, value in pairwise(command) if key == "--mount"]
    assert ["type=bind", f"source={strange.resolve()}", "target=/model", "readonly"] in mounts
    assert all("readonly" in mount for mount in mounts)
    assert {"--network=none", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--read-only"} <= set(command)


def test_root_is_not_left_root_outside(monkeypatch):
    for user, first in ((0, Namespaces), (1000, Bubblewrap)):
        monkeypatch.setattr(os, "getuid", lambda user=user: user)
        isolation.sandboxes.cache_clear()
        assert isinstance(isolation.sandboxes()[0], first)
    isolation.sandboxes.cache_clear()


class Fake(Isolation):
    def __init__(self, name, problem):
        self.name = name
        self.problem = problem

    problem = ""

    def missing(self):
        return self.problem

    def command(self, program):
        return []


@pytest.fixture
def machine(monkeypatch):
    """Makes a machine on which some kinds of sandbox work."""

    def make(*kinds):
        monkeypatch.setattr(isolation, "sandboxes", lambda: kinds)
        isolation.find.cache_clear()

    yield make
    isolation.find.cache_clear()


def test_the_strongest_that_works_is_taken(machine):
    machine(Fake("sandbox (one)", "it is broken"), Fake("sandbox (two)", ""), Fake("sandbox (three)", ""))
    assert isolation.find("auto").name == "sandbox (two)"
    assert isolation.find("sandbox").name == "sandbox (two)"
    assert isolation.find("process").name == "process"


def test_where_none_works_auto_says_so_and_a_demand_is_refused(machine, capsys):
    machine(Fake("sandbox (one)", "it is broken"), Fake("sandbox (two)", "not here"))
    assert isolation.find("auto").name == "process"
    assert "Tried: (one): it is broken; (two): not here." in capsys.readouterr().err
    with pytest.raises(BadInput, match="bubblewrap") as refusal:
        isolation.find("sandbox")
    assert "(one): it is broken" in str(refusal.value)


def test_the_own_interpreter_needs_no_home_and_no_workspace():
    interpreter = own()
    assert interpreter.sites == ()
    assert not any(folder in (interpreter.prefix, interpreter.prefix.parent) for folder in interpreter.folders)
    assert all(folder.name in ("bin", "lib", "lib32", "lib64") for folder in interpreter.folders)


def test_memory_that_forks_share_counts_once():
    text = "a-b ---p\nRss: 900 kB\nPss: 500 kB\nPss_Anon: 100 kB\nPss_File: 390 kB\nPss_Shmem: 10 kB\n"
    assert process_family.shares(text + text) == 2 * 110 * 1024
    assert process_family.shares("") == 0
    assert process_family.resident([os.getpid()]) > 1024 * 1024


def test_the_defaults_are_the_strongest():
    options = Options()
    assert (options.isolation, options.environment, options.allow_source_builds) == ("auto", "model", False)
