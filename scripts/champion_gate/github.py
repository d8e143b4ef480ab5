"""The only file that knows GITHUB_*: who runs this and why, outputs, job summary, annotations.

Formats: https://docs.github.com/actions/reference/workflows-and-actions/workflow-commands
"""

from __future__ import annotations

import getpass
import json
import os
import re
import subprocess
import sys
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from champion_gate.errors import OutsideWorldFailed
from champion_gate.text import one_line, utf8

# GitHub refuses a step's summary above 1 MiB; annotations are cut at 4096 characters.
_SUMMARY_BYTES = 1024 * 1024 - 4096
_ANNOTATION_CHARACTERS = 4000
# GitHub delivers no event above 25 MB.
_EVENT_BYTES = 32 * 1024 * 1024


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
    server_url: str = "https://github.com"
    api_url: str = "https://api.github.com"
    graphql_url: str = "https://api.github.com/graphql"
    pull_request: int | None = None
    """Number of the pull request that this job is about."""
    from_fork: bool = False
    """Whether that pull request is known to come from another repository."""
    run_attempt: int = 0
    """1 for a run that nobody re-ran, and one more for each re-run; 0 if that is not known."""
    triggering_actor: str = ""
    """Who started this attempt of the run; `actor` started the first."""
    caused_by: str = ""
    """The event of the workflow run that caused this one, in a job `on: workflow_run`."""

    @property
    def is_pull_request(self) -> bool:
        """Whether this job judges code that nobody has merged."""
        events = (self.event, self.caused_by)
        return any(e.startswith("pull_request") for e in events) or self.pull_request is not None or self.from_fork


def context() -> Context:
    """Who runs this, and on which commit: from the runner, else from git, else from the system."""
    get = os.environ.get
    repository, run_id = get("GITHUB_REPOSITORY", ""), get("GITHUB_RUN_ID", "")
    server = (get("GITHUB_SERVER_URL", "") or Context.server_url).rstrip("/")
    api = (get("GITHUB_API_URL", "") or Context.api_url).rstrip("/")
    # Enterprise Server has its APIs at /api/v3 and /api/graphql.
    graphql = get("GITHUB_GRAPHQL_URL", "") or f"{api.removesuffix('/v3')}/graphql"
    event = _event(get("GITHUB_EVENT_PATH", ""))
    number, from_fork = _pull_request(event, get("GITHUB_REF", ""))
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
        server_url=utf8(server),
        api_url=utf8(api),
        graphql_url=utf8(graphql),
        pull_request=number,
        from_fork=from_fork,
        run_attempt=int(attempt) if re.fullmatch(r"[0-9]{1,9}", attempt := get("GITHUB_RUN_ATTEMPT", "")) else 0,
        triggering_actor=utf8(get("GITHUB_TRIGGERING_ACTOR", "")),
        caused_by=str(_at(event, "workflow_run", "event") or ""),
    )


def _event(path: str) -> Any:
    """What started the workflow, as GitHub wrote it down; None if that cannot be read."""
    if not path:
        return None
    try:
        with Path(path).open("rb") as file:
            return json.loads(file.read(_EVENT_BYTES))
    except (OSError, ValueError, RecursionError):
        return None  # it only says where to comment, and the ref may say that too


def _pull_request(event: Any, ref: str) -> tuple[int | None, bool]:
    """The pull request's number, and whether it is known to come from a fork.

    Payloads: https://docs.github.com/webhooks/webhook-events-and-payloads
    """
    from_fork = False
    if pull := _at(event, "pull_request"):
        # A fork that was deleted since leaves no repository at the head.
        from_fork = _at(pull, "head", "repo", "id") != _at(pull, "base", "repo", "id")
    elif run := _at(event, "workflow_run"):
        here = _at(event, "repository", "id")
        from_fork = _at(run, "head_repository", "id") != here
        # The list also names pull requests that this branch has in other repositories, and none that come from a fork.
        listed = _at(run, "pull_requests")
        pulls = listed if isinstance(listed, list) else []
        pull = next((each for each in pulls if _at(each, "base", "repo", "id") in (here, None)), None)
    elif _at(event, "issue", "pull_request"):  # what GitHub calls an issue is one only with this
        pull = _at(event, "issue")
    named = re.fullmatch(r"([1-9][0-9]{0,17})", str(_at(pull, "number"))) or re.fullmatch(
        r"refs/pull/([1-9][0-9]{0,17})/(?:merge|head)", ref
    )
    return int(named[1]) if named else None, from_fork


def _at(document: Any, *keys: str) -> Any:
    """The value at a path of keys; None where anything of it is missing or is no object."""
    for key in keys:
        document = document.get(key) if isinstance(document, dict) else None
    return document


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
_secrets: set[str] = set()


def hide(secrets: Iterable[str]) -> None:
    """From now on, show none of these in logs, annotations and summaries."""
    _secrets.update(secret for secret in secrets if len(secret) > 2)


def without_secrets(text: str) -> str:
    """`text` with every hidden secret replaced; the longest first, as one may be part of another."""
    for secret in sorted(_secrets, key=len, reverse=True):
        text = text.replace(secret, "***")
    return text


def write_outputs(outputs: Mapping[str, str]) -> None:
    """Append the outputs of this step, if there is a runner to read them.

    A value cannot end its own block or start another output, whatever it holds: the delimiter is random.
    """
    path = os.environ.get("GITHUB_OUTPUT")
    if not path:
        return
    blocks = []
    for name, value in outputs.items():
        delimiter = f"value-{uuid.uuid4().hex}"
        blocks.append(f"{name}<<{delimiter}\n{one_line(value, 4000)}\n{delimiter}\n")
    try:
        with Path(path).open("a", encoding="utf-8", newline="\n") as file:
            file.write("".join(blocks))
    except OSError as error:
        raise OutsideWorldFailed(
            f"The outputs of this step could not be written: {error}",
            "Later steps would not know what was done here.",
            "See what the log says, and check GITHUB_OUTPUT.",
        ) from error
    _written.update(outputs)


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
    raw = without_secrets(markdown).encode("utf-8")
    if len(raw) > _SUMMARY_BYTES:
        raw = raw[:_SUMMARY_BYTES].decode("utf-8", "ignore").encode() + b"\n\n_Cut here: GitHub shows no more._\n"
    try:
        with Path(path).open("ab") as file:
            file.write(raw + b"\n")
    except OSError as error:
        # What was done is done; the report goes to the log instead.
        annotate("warning", "No summary", f"The job summary could not be written: {error}")
        return False
    return True


def annotate(level: Literal["error", "warning", "notice"], title: str, message: str) -> None:
    """Show a message on the workflow run's page; outside GitHub, as a line of the log."""
    message = one_line(without_secrets(message), _ANNOTATION_CHARACTERS)
    if on_github():
        properties = _command_value(one_line(title, 200)).replace(":", "%3A").replace(",", "%2C")
        message = f"::{level} title={properties}::{_command_value(message)}"
    else:
        message = f"{level}: {message}"
    print(message, file=sys.stderr, flush=True)  # the runner reads both streams; stdout is for results


def _command_value(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def log(message: str) -> None:
    """A line of progress, on stderr."""
    print(one_line(without_secrets(message), 4000), file=sys.stderr, flush=True)
