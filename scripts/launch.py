"""Runs a command of Champion Gate in the locked environment it needs, making that environment the first time.

Started by scripts/run with an interpreter's own standard library only. Every action pays for this file, so it
imports next to nothing; what makes an environment is in the package `launcher` and is loaded when one is missing.
"""

from __future__ import annotations

import hashlib
import os
import sys

# command -> the lock it runs in (requirements/<lock>.txt), and what it does; `scoring` only where there is data to read
COMMANDS = {
    "train-and-register": ("registry", "train a model, register it and make it the challenger"),
    "validate-model": ("registry or scoring", "compare a challenger with the champion and record the verdict"),
    "promote-alias": ("registry", "make a version with a passed verdict the champion"),
    "rollback": ("registry", "take the last release back"),
    "history": ("registry", "show the release log of a model, or of all"),
    "release": ("registry or scoring", "train, validate and promote in one go"),
}

# The inputs that name data.
EVIDENCE = ("evaluation-data", "scores", "qrels")

SCRIPTS = os.path.dirname(os.path.realpath(__file__))
REQUIREMENTS = os.path.join(os.path.dirname(SCRIPTS), "requirements")


def usage() -> str:
    """The help text: every command with one line on what it does."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {summary}" for name, (_, summary) in COMMANDS.items()]
    return "\n".join(
        [
            "Usage: scripts/run COMMAND [ARGS]...",
            "",
            "Commands:",
            *lines,
            "",
            "scripts/run COMMAND --help explains the command.",
            "scripts/run --python LOCK [ARGS]... runs Python itself in the environment of requirements/LOCK.txt.",
        ]
    )


def cache_root() -> str:
    """Where environments are kept: for the job on a runner, else for the user."""
    runner_temp = os.environ.get("RUNNER_TEMP")
    if runner_temp:
        return os.path.join(runner_temp, "champion-gate")
    # An empty or relative XDG variable counts as not set; so says its specification.
    cache = os.environ.get("XDG_CACHE_HOME", "")
    if not cache.startswith("/"):
        cache = os.path.expanduser("~/.cache")
    return os.path.join(cache, "champion-gate")


def environment_name(lock: str, content: bytes) -> str:
    """Names the environment of a lock so that two names are equal only if one environment serves both."""
    system = os.uname()
    identity = (
        os.path.realpath(sys.executable),
        sys.version,
        sys.implementation.cache_tag,
        getattr(sys.implementation, "_multiarch", ""),
        system.sysname,
        system.machine,
    )
    digest = hashlib.sha256(content + repr(identity).encode())
    return f"{lock}-{sys.implementation.cache_tag}-{digest.hexdigest()[:20]}"


def environment_python(lock: str) -> str:
    """The interpreter of a lock's environment, which is made if it is missing or its Python is gone."""
    path = os.path.join(REQUIREMENTS, f"{lock}.txt")
    with open(path, "rb") as file:
        name = environment_name(lock, file.read())
    root = cache_root()
    python = os.path.join(root, name, "bin", "python")
    if not os.access(python, os.X_OK):  # also when it is a link to a Python that was removed
        sys.path.insert(0, SCRIPTS)
        from launcher.environments import make_environment

        make_environment(root, name, path)
    return python


def lock_of(command: str, arguments: list[str]) -> str:
    """The lock that a command runs in: reading judged queries takes packages that nothing else needs."""
    locks = COMMANDS[command][0].split(" or ")
    given = [os.environ.get("CHAMPION_GATE_" + name.upper().replace("-", "_"), "").strip() for name in EVIDENCE]
    given += [argument for argument in arguments if argument.partition("=")[0] in {f"--{name}" for name in EVIDENCE}]
    return locks[-1] if any(given) else locks[0]


def fail(message: str) -> None:
    """Ends the process over a mistake in how it was called."""
    print(f"champion-gate: error: {message}", file=sys.stderr)
    sys.exit(2)


def main(arguments: list[str]) -> None:
    """Replaces this process by the command that the arguments name."""
    command, rest = (arguments[0], arguments[1:]) if arguments else ("", [])
    if command in {"--help", "-h"}:
        print(usage())
        return
    if command in COMMANDS:
        lock = lock_of(command, rest)
        script = os.path.join(SCRIPTS, command.replace("-", "_") + ".py")
        # -E and -s: the caller's PYTHONPATH and user packages are for the caller's code, not for this.
        options = ["-E", "-s", script]
    elif command == "--python":
        lock, rest = (rest[0], rest[1:]) if rest else ("", [])
        locks = sorted(file[:-4] for file in os.listdir(REQUIREMENTS) if file.endswith(".txt"))
        if lock not in locks:
            fail(f"--python needs the name of a lock, got {lock!r}. Locks: {', '.join(locks)}.")
        options = ["-E", "-s"]
    else:
        problem = f"there is no command {command!r}." if command else "a command is missing."
        fail(f"{problem}\n\n{usage()}")
    python = environment_python(lock)
    os.execv(python, [python, *options, *rest])  # noqa: S606 - no shell is the point


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except KeyboardInterrupt:
        sys.exit(130)
