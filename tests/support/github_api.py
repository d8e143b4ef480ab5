"""A stand-in for GitHub's API: a fake, only because GitHub cannot be reached from the tests.

It is a real HTTP server that keeps comments as GitHub does: numbered, paged with a Link header, each with its author;
and the reviews of workflow runs, which GitHub gives no numbers, no times and no pages.
It checks tokens and their rights, and refuses what GitHub refuses. Only what the tests need is there. Networks that
fail are not its business: `fault_proxy` stands before it for that.
"""

from __future__ import annotations

import contextlib
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

LONGEST_BODY = 65_536
FORBIDDEN = {"message": "Resource not accessible by integration"}
NOT_FOUND = {"message": "Not Found"}


@dataclass(frozen=True)
class User:
    """Who a token is. An app's token cannot ask `GET /user`.

    `may_write` is `pull-requests: write`, `may_read_runs` is `actions: read`.
    """

    login: str
    id: int
    may_write: bool = True
    may_read_runs: bool = True

    @property
    def is_app(self) -> bool:
        return self.login.endswith("[bot]")


ACTIONS = User("github-actions[bot]", 41898282)


@dataclass(frozen=True)
class Request:
    """One request, as it came."""

    method: str
    path: str
    headers: dict[str, str]
    document: Any


@dataclass
class Refusal:
    """What the next `times` requests get that match, in place of an answer."""

    method: str
    path: str
    status: int
    headers: dict[str, str]
    document: Any
    times: int


@dataclass
class GitHubApi:
    """The API of one GitHub: comments by repository and number of issue, users by token."""

    uri: str = ""
    prefix: str = ""
    """Where the REST API is below `uri`: "/api/v3" on Enterprise Server."""
    reviews: dict[str, list[Any]] = field(default_factory=lambda: {"acme/search#42": []})
    """The reviews of each workflow run, by repository and number."""
    reviews_per_page: int = 0
    """Zero for what GitHub does: all of them in one answer."""
    users: dict[str, User] = field(default_factory=lambda: {"token-of-the-job": ACTIONS})
    comments: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    viewer: dict[str, Any] | None = None
    """What GraphQL says of the token's user, where that is not what the fake makes of it."""
    has_graphql: bool = True
    _numbers: int = 1000
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, author: User | None, body: str, issue: str = "acme/search#7") -> int:
        """A comment that somebody wrote before; returns its number. `author` None: whose account is gone."""
        with self._lock:
            self._numbers += 1
            repository, _, number = issue.partition("#")
            row = {
                "id": self._numbers,
                "body": body,
                "user": author and {"login": author.login, "id": author.id, "type": "Bot" if author.is_app else "User"},
                "html_url": f"https://github.com/{repository}/pull/{number}#issuecomment-{self._numbers}",
            }
            self.comments.setdefault(issue, []).append(row)
            return self._numbers

    def review(
        self, login: str | None, state: str, *environments: str, comment: str = "", run: str = "acme/search#42"
    ) -> None:
        """Somebody reviews a run's environments. `login` None: whose account is gone."""
        row = {
            "state": state,
            "comment": comment,
            "environments": [
                {"id": 100 + number, "name": name, "created_at": "2020-11-23T22:00:40Z"}
                for number, name in enumerate(environments)
            ],
            "user": login and {"login": login, "id": 11, "type": "Bot" if login.endswith("[bot]") else "User"},
        }
        self.reviews.setdefault(run, []).append(row)

    def delete(self, number: int) -> None:
        """Take a comment away, as anybody with rights may at any time."""
        with self._lock:
            for rows in self.comments.values():
                rows[:] = [row for row in rows if row["id"] != number]

    def bodies(self, issue: str = "acme/search#7") -> dict[int, str]:
        """The comments of a pull request: number -> text."""
        return {row["id"]: row["body"] for row in self.comments.get(issue, [])}

    def refuse(
        self,
        status: int,
        method: str = "",
        path: str = "",
        *,
        headers: dict[str, str] | None = None,
        document: Any = None,
        times: int = 1_000_000,
    ) -> None:
        """Answer the next `times` requests that match with this, and do nothing."""
        self.refusals.append(Refusal(method, path, status, headers or {}, document or {"message": "No"}, times))

    def seen(self, method: str = "", path: str = "") -> list[Request]:
        """The requests so far that match."""
        return [each for each in self.requests if each.method in (method or each.method) and path in each.path]

    @property
    def writes(self) -> list[str]:
        """The methods of the requests that ask for a change of comments."""
        return [each.method for each in self.requests if each.method != "GET" and "graphql" not in each.path]

    def refusal_of(self, request: Request) -> Refusal | None:
        """Record the request; what refuses it, if anything does."""
        with self._lock:
            self.requests.append(request)
            for each in self.refusals:
                if request.method in (each.method or request.method) and each.path in request.path and each.times > 0:
                    each.times -= 1
                    return each
        return None

    def answer(self, request: Request) -> tuple[int, dict[str, str], Any]:
        """Status, headers and document for a request."""
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        user = self.users.get(token)
        url = urlsplit(request.path)
        if not url.path.startswith(self.prefix):
            return 404, {}, NOT_FOUND
        url = url._replace(path=url.path.removeprefix(self.prefix))
        if user is None:
            return 401, {}, {"message": "Bad credentials"}
        if url.path == "/graphql":
            return self._viewer(user)
        if url.path == "/user":
            return (403, {}, FORBIDDEN) if user.is_app else (200, {}, {"login": user.login, "id": user.id})
        query = {key: int(values[0]) for key, values in parse_qs(url.query).items()}
        if match := re.fullmatch(r"/repos/([^/]+/[^/]+)/actions/runs/(\d+)/approvals", url.path):
            return self._reviews(user, f"{match[1]}#{match[2]}", query)
        if match := re.fullmatch(r"/repos/([^/]+/[^/]+)/issues/(\d+)/comments", url.path):
            issue = f"{match[1]}#{match[2]}"
            if request.method == "POST":
                return self._write(user, 201, request.document["body"], self._creator(user, issue))
            address = f"/repositories/1/issues/{match[2]}/comments"
            return self._page(self.comments.get(issue, []), address, min(query.get("per_page", 30), 100), query)
        if match := re.fullmatch(r"/repos/([^/]+/[^/]+)/issues/comments/(\d+)", url.path):
            row = next((r for rows in self.comments.values() for r in rows if r["id"] == int(match[2])), None)
            if row is None:
                return 404, {}, NOT_FOUND
            if request.method == "DELETE":
                self.delete(row["id"])
                return 204, {}, None
            return self._write(user, 200, request.document["body"], lambda _: row)
        return 404, {}, NOT_FOUND

    def _viewer(self, user: User) -> tuple[int, dict[str, str], Any]:
        if not self.has_graphql:
            return 404, {}, NOT_FOUND
        return 200, {}, {"data": {"viewer": self.viewer or {"login": user.login, "databaseId": user.id}}}

    def _creator(self, user: User, issue: str) -> Any:
        def create(body: str) -> dict[str, Any]:
            number = self.add(user, body, issue)
            return next(row for row in self.comments[issue] if row["id"] == number)

        return create

    def _write(self, user: User, status: int, body: str, target: Any) -> tuple[int, dict[str, str], Any]:
        if not user.may_write:
            return 403, {}, FORBIDDEN
        if len(body) > LONGEST_BODY:
            problem = {"message": f"Body is too long (maximum is {LONGEST_BODY} characters)"}
            return 422, {}, {"message": "Validation Failed", "errors": [problem]}
        row = target(body)
        row["body"] = body
        return status, {}, row

    def _reviews(self, user: User, run: str, query: dict[str, int]) -> tuple[int, dict[str, str], Any]:
        if not user.may_read_runs:
            return 403, {}, FORBIDDEN
        if run not in self.reviews:
            return 404, {}, NOT_FOUND
        address = f"/repositories/1/actions/runs/{run.partition('#')[2]}/approvals"
        rows = self.reviews[run]
        return self._page(rows, address, self.reviews_per_page or len(rows) or 1, query)

    def _page(self, rows: list[Any], address: str, size: int, query: dict[str, int]) -> tuple[int, dict[str, str], Any]:
        page = query.get("page", 1)
        url = f"{self.uri}{self.prefix}{address}?per_page={size}&page="
        links = [f'<{url}{page - 1}>; rel="prev"'] if page > 1 else []
        links += [f'<{url}{page + 1}>; rel="next"'] if page * size < len(rows) else []
        return 200, {"Link": ", ".join(links)} if links else {}, rows[(page - 1) * size : page * size]


@contextlib.contextmanager
def github_api() -> Iterator[GitHubApi]:
    """The fake, listening on this machine."""
    api = GitHubApi()

    class Handler(BaseHTTPRequestHandler):
        def handle_any(self) -> None:
            raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            request = Request(self.command, self.path, dict(self.headers.items()), json.loads(raw) if raw else None)
            refusal = api.refusal_of(request)
            status, headers, document = (
                (refusal.status, refusal.headers, refusal.document) if refusal else api.answer(request)
            )
            body = document if isinstance(document, bytes) else json.dumps(document).encode()
            self.send_response(status)
            for key, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(key, value)
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PATCH = do_DELETE = handle_any  # noqa: N815  (the base class's names)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing: the tests look at `requests`."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    api.uri = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield api
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=10)
