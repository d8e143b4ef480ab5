"""The tests' own tools do what they say: a fault that never happens would make every fault test pass."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest

from tests.support.cli import parse_outputs
from tests.support.server import LEASH

SEARCH = "/api/2.0/mlflow/registered-models/search?max_results=1"


def get(uri, timeout=5):
    with urllib.request.urlopen(uri, timeout=timeout) as answer:
        return answer.status, answer.read()


def test_proxy_without_rules_passes_everything_on(proxy, mlflow_server):
    assert get(proxy.uri + SEARCH) == get(mlflow_server.uri + SEARCH)
    assert [request.method for request in proxy.seen(path="registered-models")] == ["GET"]
    assert proxy.writes == []


def test_proxy_answers_for_the_server_as_often_as_asked(proxy):
    proxy.when("GET", "registered-models", skip=1, times=1).answer(503)
    assert get(proxy.uri + SEARCH)[0] == 200
    with pytest.raises(urllib.error.HTTPError, match="503"):
        get(proxy.uri + SEARCH)
    assert get(proxy.uri + SEARCH)[0] == 200


@pytest.mark.parametrize("fault", ["silence", "drop", "lose_answer"])
def test_proxy_breaks_connections(proxy, fault):
    getattr(proxy.when(path="registered-models"), fault)()
    with pytest.raises(OSError, match=r"timed out|reset|closed"):
        get(proxy.uri + SEARCH, timeout=1.2)


def test_proxy_drips_so_slowly_that_no_read_times_out(proxy):
    proxy.when(path="registered-models").drip()
    with urllib.request.urlopen(proxy.uri + SEARCH, timeout=1.2) as answer:
        began = time.monotonic()
        assert answer.read(3) == b"   "
        assert time.monotonic() - began > 1


def test_proxy_lets_something_happen_between_two_calls(proxy):
    seen = []
    proxy.when("GET", "registered-models").first(lambda: seen.append("between"))
    assert get(proxy.uri + SEARCH)[0] == 200
    assert seen == ["between"]


def test_outputs_are_read_as_the_runner_reads_them():
    assert parse_outputs("a=1\nb<<EOF\nx\ny=2\nEOF\nc=\n") == {"a": "1", "b": "x\ny=2", "c": ""}
    with pytest.raises(ValueError, match="no end"):
        parse_outputs("b<<EOF\nx\n")
    with pytest.raises(ValueError, match="no output"):
        parse_outputs("hello\n")


def test_server_ends_with_the_tests_even_when_they_are_killed(tmp_path):
    pids = tmp_path / "pids"
    child = f"sleep 300 & echo $$ $! > {pids}.new; mv {pids}.new {pids}; wait"
    script = (
        "import subprocess, sys, time\n"
        f"p = subprocess.Popen([sys.executable, {str(LEASH)!r}, 'bash', '-c', {child!r}], stdin=subprocess.PIPE)\n"
        "time.sleep(300)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script]) as tests:
        deadline = time.monotonic() + 20
        while not pids.exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        tests.send_signal(signal.SIGKILL)
    for pid in map(int, pids.read_text().split()):
        while is_alive(pid):
            assert time.monotonic() < deadline, f"{pid} is still there"
            time.sleep(0.05)


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # An orphan that nobody reaps, as in a container without an init, is dead too.
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return bool(state.strip()) and not state.startswith("Z")
