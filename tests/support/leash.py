"""Runs a command in a process group of its own, and ends the whole group when the caller is gone.

`python leash.py COMMAND...`: stdin is the leash. When it closes, because the tests ended or were killed in
whatever way, the command and all its children are killed.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading


def main() -> int:
    child = subprocess.Popen(sys.argv[1:], start_new_session=True, stdin=subprocess.DEVNULL)

    def hold() -> None:
        while os.read(0, 1024):
            pass
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)

    # A Ctrl-C at the terminal reaches this process too; the leash decides, so that nothing is left behind.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=hold, daemon=True).start()
    code = child.wait()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main())
