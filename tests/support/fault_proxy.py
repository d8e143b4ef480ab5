"""A real HTTP proxy between a command and the real MLflow server, for faults that cannot be provoked otherwise.

It pretends nothing about MLflow: what no rule speaks of goes to the server and back unchanged. A rule breaks
the exchanges that it matches as networks, gateways and load balancers do, or lets something happen between two calls.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

LOGIN_PAGE = (
    b"<!doctype html><html><head><title>Sign in</title></head><body><form action=/login>Password</form></body></html>"
)
_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "host", "upgrade"}
Answer = tuple[int, list[tuple[str, str]], bytes]


@dataclass(frozen=True)
class Request:
    """One request, as the command sent it."""

    method: str
    path: str
    body: bytes
    headers: dict[str, str]

    def matches(self, method: str, path: str, body: str) -> bool:
        return self.method in (method or self.method) and path in self.path and body.encode() in self.body


@dataclass
class Rule:
    """What happens to requests that match: the method (any if empty), a part of path and query, a part of the body."""

    method: str
    path: str
    body: str
    skip: int
    times: int | None
    fault: Callable[[_Exchange], None] | None = None
    hits: int = 0

    def answer(self, status: int, body: bytes = b'{"message": "by the proxy"}', kind: str = "application/json") -> Rule:
        """Answer in the server's place; the request never reaches it."""
        return self._do(lambda exchange: exchange.reply((status, [("Content-Type", kind)], body)))

    def answer_after_forwarding(self, status: int) -> Rule:
        """Let the server do it, and answer something else: what a gateway does that has lost patience."""

        def fault(exchange: _Exchange) -> None:
            exchange.forward()
            exchange.reply((status, [("Content-Type", "text/plain")], b"gateway time-out"))

        return self._do(fault)

    def login_page(self) -> Rule:
        """Answer 200 with a login page."""
        return self.answer(200, LOGIN_PAGE, "text/html; charset=utf-8")

    def silence(self) -> Rule:
        """Take the request and never answer."""
        return self._do(lambda exchange: exchange.proxy.closing.wait() and None)

    def drip(self) -> Rule:
        """Answer a byte every half second, so that no single read times out."""

        def fault(exchange: _Exchange) -> None:
            exchange.start(200, [("Content-Type", "application/json"), ("Content-Length", "100000")])
            while not exchange.proxy.closing.wait(0.5):
                exchange.handler.wfile.write(b" ")
                exchange.handler.wfile.flush()

        return self._do(fault)

    def drop(self) -> Rule:
        """Reset the connection before the server hears of the request."""
        return self._do(lambda exchange: exchange.reset())

    def lose_answer(self) -> Rule:
        """Let the server do it, then reset the connection: the answer is lost."""

        def fault(exchange: _Exchange) -> None:
            exchange.forward()
            exchange.reset()

        return self._do(fault)

    def first(self, callback: Callable[[], object]) -> Rule:
        """Let something happen, then pass the request on."""

        def fault(exchange: _Exchange) -> None:
            callback()
            exchange.reply(exchange.forward())

        return self._do(fault)

    def kill(self, kill: Callable[[], object], *, forwarded: bool, answered: bool) -> Rule:
        """Let the client be killed before the server hears of it, before the answer, or right after the answer."""

        def fault(exchange: _Exchange) -> None:
            answer = exchange.forward() if forwarded else None
            if answer and answered:
                # What it might send between the answer and its death is not to count.
                exchange.proxy.rules.insert(0, Rule("", "", "", 0, None).drop())
                exchange.reply(answer)
            kill()

        return self._do(fault)

    def land_late(self, meanwhile: Callable[[], object], go: threading.Event, *, status: int = 0) -> Rule:
        """Do `meanwhile`, or answer `status`; the server hears of the request only when `go` is set."""

        def fault(exchange: _Exchange) -> None:
            if status:
                exchange.reply((status, [("Content-Type", "text/plain")], b"gateway time-out"))
                exchange.handler.wfile.flush()
                exchange.handler.connection.shutdown(socket.SHUT_WR)
            meanwhile()
            if go.wait(60):
                exchange.forward()
                exchange.proxy.landed.set()

        return self._do(fault)

    def silent_after_forwarding(self) -> Rule:
        """Let the server do it, and never answer."""

        def fault(exchange: _Exchange) -> None:
            exchange.forward()
            exchange.proxy.closing.wait()

        return self._do(fault)

    def _do(self, fault: Callable[[_Exchange], None]) -> Rule:
        self.fault = fault
        return self


@dataclass
class _Exchange:
    proxy: FaultProxy
    handler: BaseHTTPRequestHandler
    request: Request

    def forward(self) -> Answer:
        context, to = self.proxy.context, self.proxy.upstream
        connection = (
            http.client.HTTPSConnection(to, timeout=60, context=context)
            if context
            else http.client.HTTPConnection(to, timeout=60)
        )
        try:
            headers = {k: v for k, v in self.request.headers.items() if k.lower() not in _HOP_BY_HOP}
            connection.request(self.request.method, self.request.path, self.request.body or None, headers)
            answer = connection.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            connection.close()

    def start(self, status: int, headers: list[tuple[str, str]]) -> None:
        self.handler.send_response(status)
        for key, value in headers:
            if key.lower() not in _HOP_BY_HOP or key == "Content-Length":
                self.handler.send_header(key, value)
        self.handler.send_header("Connection", "close")
        self.handler.end_headers()

    def reply(self, answer: Answer) -> None:
        status, headers, body = answer
        kept = [(k, v) for k, v in headers if k.lower() != "content-length"]
        self.start(status, [*kept, ("Content-Length", str(len(body)))])
        self.handler.wfile.write(body)

    def reset(self) -> None:
        # Zero linger makes close() send RST, which the client sees as "connection reset".
        self.handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.handler.connection.close()


@dataclass
class FaultProxy:
    """The proxy; `uri` is what a command takes for MLflow."""

    upstream: str
    context: ssl.SSLContext | None = None
    """What it speaks to the server with, if that is TLS."""
    uri: str = ""
    requests: list[Request] = field(default_factory=list)
    rules: list[Rule] = field(default_factory=list)
    closing: threading.Event = field(default_factory=threading.Event)
    landed: threading.Event = field(default_factory=threading.Event)
    """Set when a request that was to land late has landed."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def when(
        self, method: str = "", path: str = "", body: str = "", *, skip: int = 0, times: int | None = None
    ) -> Rule:
        """A rule for matching requests: `skip` the first few, then apply `times` times (always if None)."""
        rule = Rule(method, path, body, skip, times)
        self.rules.append(rule)
        return rule

    def outage(self, status: int) -> None:
        """From now on answer everything with `status`, whatever other rules say."""
        self.rules.insert(0, Rule("", "", "", 0, None).answer(status))

    def seen(self, method: str = "", path: str = "", body: str = "") -> list[Request]:
        """The requests so far that match."""
        with self._lock:
            return [request for request in self.requests if request.matches(method, path, body)]

    @property
    def writes(self) -> list[Request]:
        """The requests so far that ask the server to change something."""
        searches = ("/search", "/get-latest-versions")
        return [r for r in self.seen() if r.method != "GET" and not urlsplit(r.path).path.endswith(searches)]

    def note(self, request: Request) -> Rule | None:
        """Record a request; the first rule that is due for it."""
        with self._lock:
            self.requests.append(request)
            for rule in self.rules:
                if not request.matches(rule.method, rule.path, rule.body):
                    continue
                rule.hits += 1
                if rule.hits > rule.skip and (rule.times is None or rule.hits <= rule.skip + rule.times):
                    return rule
        return None


@contextlib.contextmanager
def fault_proxy(upstream_uri: str, context: ssl.SSLContext | None = None) -> Iterator[FaultProxy]:
    """A proxy before the server at `upstream_uri`; with a `context` it speaks TLS to it, and never itself."""
    proxy = FaultProxy(urlsplit(upstream_uri).netloc, context)

    class Handler(BaseHTTPRequestHandler):
        def handle_any(self) -> None:
            body = self._chunks() if "chunked" in self.headers.get("Transfer-Encoding", "") else self._body()
            request = Request(self.command, self.path, body, dict(self.headers.items()))
            exchange = _Exchange(proxy, self, request)
            rule = proxy.note(request)
            # A client that gave up meanwhile is what most faults are about.
            with contextlib.suppress(ConnectionError, TimeoutError):
                if rule is not None and rule.fault is not None:
                    rule.fault(exchange)
                else:
                    exchange.reply(exchange.forward())

        def _body(self) -> bytes:
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))

        def _chunks(self) -> bytes:
            parts = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)

        do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = do_HEAD = handle_any  # noqa: N815  (the base class's names)

        def finish(self) -> None:
            with contextlib.suppress(OSError, ValueError):
                super().finish()

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing: the tests look at `requests`."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    proxy.uri = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.closing.set()
        server.shutdown()
        server.server_close()
        thread.join(timeout=10)
