"""A small storm; `tests/storm` is the whole one."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support.cli import ROOT


@pytest.mark.slow
def test_whatever_is_killed_or_wakes_up_late_the_log_tells_what_the_aliases_are(tmp_path, measured):
    size = ("--processes", "4", "--moves", "6", "--lease", "7", "--kills", "0.15", "--freezes", "0.25", "--seed", "3")
    done = subprocess.run(
        # A process of its own: the storm forks, and pytest has threads.
        [sys.executable, "-m", "tests.storm", *size],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr[-4000:]
    measured(f"storm: {'; '.join(done.stdout.split(chr(10))[:3])}")
