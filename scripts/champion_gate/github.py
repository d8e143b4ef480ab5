"""The only file that knows GITHUB_*: who runs this and why, outputs, job summary, annotations.

Formats: https://docs.github.com/actions/reference/workflows-and-actions/workflow-commands
"""

from __future__ import annotations

import getpass
import os
import subprocess
import sys
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from champion_gate.text import one_line, utf8

# GitHub refuses a step's summary above 1 MiB; annotations are cut at 4096 characters.
_SUMMARY_BYTES = 1024 * 1024 - 4096
_ANNOTATION_CHARACTERS = 4000


@dataclass(frozen=True)
class Context:
    """The job, as far as its environment or git tell; fields are empty where nothing does."""

    actor: str
    commit: str
    branch: str
    repository: str
    run_id: str
    run_url: str
    event: str

    @property
    def is_pull_request(self) -> bool:
        """Whether this job judges code that nobody has merged."""
        return self.event.startswith("pull_request")


def context() -> Context:
    """Who runs this, and on which commit: from the runner, else from git, else from the system."""
    get = os.environ.get
    repository, run_id = get("GITHUB_REPOSITORY", ""), get("GITHUB_RUN_ID", "")
    server = get("GITHUB_SERVER_URL", "https://github.com").rstrip("/")
    return Context(
        actor=utf8(get("GITHUB_ACTOR", "") or _git("config", "user.name") or _user()),
        commit=utf8(get("GITHUB_SHA", "") or _git("rev-parse", "HEAD")),
        branch=utf8(
            get("GITHUB_HEAD_REF", "") or get("GITHUB_REF_NAME", "") or _git("rev-parse", "--abbrev-ref", "HEAD")
        ),
        repository=utf8(repository or _git("config", "--get", "remote.origin.url").rpartition("@")[2]),
        run_id=utf8(run_id),
        run_url=utf8(f"{server}/{repository}/actions/runs/{run_id}" if repository and run_id else ""),
        event=get("GITHUB_EVENT_NAME", ""),
    )


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError):
        return ""  # no git, or no repository that answers: the field stays empty
    return done.stdout.strip() if done.returncode == 0 else ""


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


def on_github() -> bool:
    """Whether a runner takes outputs or a summary from us."""
    return bool(os.environ.get("GITHUB_OUTPUT") or os.environ.get("GITHUB_STEP_SUMMARY"))


_written: set[str] = set()


def write_outputs(outputs: Mapping[str, str]) -> None:
    """Append the outputs of this step, if there is a runner to read them.

    A value cannot end its own block or start another output, whatever it holds: the delimiter is random.
    """
    path = os.environ.get("GITHUB_OUTPUT")
    if not path:
        return
    _written.update(outputs)
    with Path(path).open("a", encoding="utf-8", newline="\n") as file:
        for name, value in outputs.items():
            delimiter = f"value-{uuid.uuid4().hex}"
            file.write(f"{name}<<{delimiter}\n{one_line(value, 4000)}\n{delimiter}\n")


def write_missing(outputs: Mapping[str, str]) -> None:
    """Write those outputs that this process did not write yet.

    The training command is in the same step, and could have written a verdict of its own: the last one counts.
    """
    write_outputs({name: value for name, value in outputs.items() if name not in _written})


def write_summary(markdown: str) -> bool:
    """Append to the job summary; False if there is none to append to. Cut, with a notice, below GitHub's limit."""
    path = os.environ.get("GITHUB_STEP_SUMMARY")
    if not path:
        return False
    raw = markdown.encode("utf-8")
    if len(raw) > _SUMMARY_BYTES:
        raw = raw[:_SUMMARY_BYTES].decode("utf-8", "ignore").encode() + b"\n\n_Cut here: GitHub shows no more._\n"
    with Path(path).open("ab") as file:
        file.write(raw + b"\n")
    return True


def annotate(level: Literal["error", "warning", "notice"], title: str, message: str) -> None:
    """Show a message on the workflow run's page; outside GitHub, on stderr."""
    if not on_github():
        print(f"{level}: {one_line(message, _ANNOTATION_CHARACTERS)}", file=sys.stderr, flush=True)
        return
    properties = _command_value(one_line(title, 200)).replace(":", "%3A").replace(",", "%2C")
    print(
        f"::{level} title={properties}::{_command_value(one_line(message, _ANNOTATION_CHARACTERS))}",
        flush=True,
    )


def _command_value(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def log(message: str) -> None:
    """A line of progress, on stderr."""
    print(one_line(message, 4000), file=sys.stderr, flush=True)
