"""The stack from wheels: it needs Python and nothing else."""

from __future__ import annotations

import contextlib
import re
import secrets
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tests.support.certificates import for_localhost
from tests.support.compose import SERVER
from tests.support.postgres_server import PostgresServer, postgres_server
from tests.support.redis_server import RedisServer, Relay, redis_server
from tests.support.s3_server import s3_server
from tests.support.server import mlflow_server
from tests.support.stack import ADMIN, S3, Stack


class WheelStack(Stack):
    """Processes of this machine."""

    kind = "wheels"
    workers = 1

    def __init__(self, postgres: PostgresServer, redis: RedisServer, s3: S3, *more: Any) -> None:
        self._postgres = postgres
        self._redis = redis
        self._s3 = s3
        super().__init__(*more)

    @property
    def s3(self) -> S3:
        return self._s3

    def _stop(self, service: str) -> None:
        {"postgres": self._postgres.stop, "redis": self._redis.kill}[service]()

    def _start(self, service: str) -> None:
        {"postgres": self._postgres, "redis": self._redis}[service].start()

    def _ask(self, query: str) -> Any:
        return self._postgres.ask(query)


def _as_in_the_example(database: str) -> tuple[str, dict[str, str]]:
    """What examples/server says of signing in, with another database, and of the server's connections."""
    file = yaml.safe_load((SERVER / "compose.yml").read_text(encoding="utf-8"))
    variables: dict[str, str] = file["services"]["mlflow"]["environment"]
    pool = {name: value for name, value in variables.items() if name.startswith("MLFLOW_SQLALCHEMYSTORE_")}
    assert pool
    there = f"database_uri = {database.replace('%', '%%')}"
    auth, replaced = re.subn("(?m)^database_uri = .*$", lambda _: there, file["configs"]["auth.ini"]["content"])
    assert replaced == 1
    return auth, pool


@contextlib.contextmanager
def wheel_stack(folder: Path) -> Iterator[Stack]:
    """All of it, in `folder`, for the length of the block."""
    tls = for_localhost(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tls.certificate, tls.key)
    password, redis_password = secrets.token_hex(12), secrets.token_hex(12)
    with contextlib.ExitStack() as running:
        postgres = running.enter_context(postgres_server())
        s3 = S3(running.enter_context(s3_server(folder)), "mlflow", secrets.token_hex(12))
        s3.client().create_bucket(Bucket=s3.bucket)
        redis = running.enter_context(redis_server(folder, "--requirepass", redis_password))
        relay = Relay(redis.port, context)
        running.callback(relay.close)
        auth, pool = _as_in_the_example(postgres.uri)
        settings = folder / "auth.ini"
        settings.write_text(auth)
        server = running.enter_context(
            mlflow_server(
                folder,
                postgres.uri,
                artifacts=f"s3://{s3.bucket}/artifacts",
                options=["--app-name", "basic-auth"],
                variables={
                    **pool,
                    **s3.variables(),
                    "MLFLOW_S3_ENDPOINT_URL": s3.endpoint,
                    "MLFLOW_AUTH_CONFIG_PATH": str(settings),
                    "MLFLOW_AUTH_ADMIN_PASSWORD": password,
                    "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_hex(24),
                },
                tls=tls,
            )
        )
        redis_url = f"rediss://:{redis_password}@localhost:{relay.port}/0?ssl_ca_certs={tls.authority}"
        yield WheelStack(postgres, redis, s3, server.uri, tls.authority, redis_url, {ADMIN: password})
