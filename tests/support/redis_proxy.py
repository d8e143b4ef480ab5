"""A TCP proxy before a real Redis that counts commands, and lets something happen at one of them."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field


@dataclass
class RedisProxy:
    """The proxy; `fault` is called for the command number `at` (from 0), and returns whether it was dealt with.

    redis-py sends a command as one packet, and these are small: what is received at once is one command.
    """

    target: int
    port: int = 0
    at: int = -1
    fault: Callable[[Command], None] | None = None
    commands: list[bytes] = field(default_factory=list)
    landed: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def note(self, data: bytes) -> bool:
        """Record a command; whether it is the one for the fault."""
        with self._lock:
            self.commands.append(data)
            return self.fault is not None and len(self.commands) == self.at + 1


@dataclass
class Command:
    """One command under way: the caller's connection, and the server's."""

    proxy: RedisProxy
    caller: socket.socket
    server: socket.socket
    data: bytes

    def forward(self) -> bytes:
        self.server.sendall(self.data)
        return self.server.recv(65536)

    def answer(self, answer: bytes) -> None:
        self.caller.sendall(answer)


@contextlib.contextmanager
def redis_proxy(port: int) -> Iterator[RedisProxy]:
    """A proxy before the Redis at a port of this machine."""
    proxy = RedisProxy(port)
    listener = socket.create_server(("127.0.0.1", 0))
    proxy.port = listener.getsockname()[1]

    def serve(caller: socket.socket) -> None:
        with contextlib.suppress(OSError), caller, socket.create_connection(("127.0.0.1", port)) as server:
            while data := caller.recv(65536):
                command = Command(proxy, caller, server, data)
                if proxy.note(data):
                    assert proxy.fault is not None
                    proxy.fault(command)
                    return
                command.answer(command.forward())

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                caller, _ = listener.accept()
                threading.Thread(target=serve, args=(caller,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield proxy
    finally:
        listener.close()
