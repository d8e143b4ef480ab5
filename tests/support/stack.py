"""Servers as a team has them: MLflow with sign-in behind TLS, over PostgreSQL and S3, and a Redis for the lease.

They run in containers or come from wheels; the tests in tests/integration/stack do not know which.
"""

from __future__ import annotations

import base64
import contextlib
import json
import secrets
import ssl
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ADMIN = "admin"
JOBS = "search-ci"
"""The user that the release jobs of a team sign in as; it may do what it made itself, and nothing else."""


@dataclass(frozen=True)
class S3:
    """An object store, and the keys that MLflow's server has for it."""

    endpoint: str
    key_id: str
    secret: str
    bucket: str = "mlflow"

    def client(self) -> Any:
        """boto3's client, to arrange and to look."""
        import boto3

        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=self.key_id,
            aws_secret_access_key=self.secret,
            region_name="us-east-1",
        )

    def variables(self) -> dict[str, str]:
        """AWS's variables of a job that may use it."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.key_id,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_DEFAULT_REGION": "us-east-1",
        }


class Stack(ABC):
    """Running servers, and the users that were made on them."""

    kind: str
    """containers or wheels"""
    workers: int
    """Processes of MLflow's server."""

    def __init__(self, uri: str, authority: Path, redis_url: str, passwords: dict[str, str]) -> None:
        self.uri = uri
        self.authority = authority
        """The file with the certificate that a client must trust."""
        self.redis_url = redis_url
        self._passwords = passwords
        """Of the users that are known, the administrator among them."""

    @property
    @abstractmethod
    def s3(self) -> S3:
        """Where the artifacts lie."""

    def variables(self, user: str = JOBS) -> dict[str, str]:
        """MLflow's variables of a job that signs in as this user."""
        return {
            "MLFLOW_TRACKING_USERNAME": user,
            "MLFLOW_TRACKING_PASSWORD": self._passwords[user],
            "MLFLOW_TRACKING_SERVER_CERT_PATH": str(self.authority),
        }

    def context(self) -> ssl.SSLContext:
        """TLS as its clients speak it."""
        return ssl.create_default_context(cafile=str(self.authority))

    def call(self, path: str, body: dict[str, str] | None = None, user: str = ADMIN) -> Any:
        """A call of MLflow's API, as the administrator unless told otherwise; a POST if it has a body."""
        account = base64.b64encode(f"{user}:{self._passwords[user]}".encode()).decode()
        request = urllib.request.Request(
            f"{self.uri}/api/{path}",
            None if body is None else json.dumps(body).encode(),
            {"Authorization": f"Basic {account}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60, context=self.context()) as answer:
            text = answer.read()
        return json.loads(text) if text else {}

    def add_user(self, name: str = JOBS) -> str:
        """A user without any rights; its name."""
        self._passwords[name] = secrets.token_hex(12)
        self.call("2.0/mlflow/users/create", {"username": name, "password": self._passwords[name]})
        return name

    def database_connections(self) -> int:
        """How many connections to the database are open, of all but who asks."""
        return int(
            self._ask(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        )

    @contextlib.contextmanager
    def outage(self, service: str) -> Iterator[None]:
        """`postgres` or `redis` is away for the length of the block; after it, everything answers again."""
        self._stop(service)
        try:
            yield
        finally:
            self._start(service)

    @abstractmethod
    def _stop(self, service: str) -> None: ...

    @abstractmethod
    def _start(self, service: str) -> None: ...

    @abstractmethod
    def _ask(self, query: str) -> Any:
        """The first column of the first row that the database answers with."""
