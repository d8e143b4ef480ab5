"""What `--redis-url` says: one Redis, a service behind Sentinels, or a cluster. Read only; nothing is connected.

The forms are redis-py's (https://redis.readthedocs.io/en/stable/connections.html), and two for which it has no URL:
`redis+sentinel://HOST:PORT,HOST:PORT/SERVICE[/DB]` and `redis+cluster://HOST:PORT,HOST:PORT`. No part of a URL is
shown in an error: in one that is written wrongly, a password can be anywhere.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from champion_gate.errors import BadInput

_FORMS = (
    "It takes redis://[USER:PASSWORD@]HOST:PORT[/DB], unix:///PATH[?db=DB], redis+sentinel://HOST:PORT,HOST:PORT/SERVICE"
    "[/DB], or redis+cluster://HOST:PORT,HOST:PORT; with TLS rediss in place of redis. A password that holds any of"
    " / ? # @ : % must be percent-encoded."
)
_KINDS = {"": "one", "sentinel": "sentinel", "cluster": "cluster"}
_PORTS = {"one": 6379, "sentinel": 26379, "cluster": 6379}
_YES = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
_TLS_OPTIONS = ("ssl_ca_certs", "ssl_ca_path", "ssl_cert_reqs", "ssl_check_hostname", "ssl_certfile", "ssl_keyfile")
_TIMES = ("socket_timeout", "socket_connect_timeout")
_OPTIONS = ("db", "username", "password", *_TLS_OPTIONS, *_TIMES)
_SENTINEL_OPTIONS = ("sentinel_username", "sentinel_password")


@dataclass(frozen=True)
class Address:
    """Where a Redis is.

    `kind` is one, unix, sentinel or cluster. `options` are redis-py's arguments of a connection; `sentinel_options`
    those to the Sentinels. `secrets` are the texts that must not be shown.
    """

    kind: str
    tls: bool = False
    hosts: tuple[tuple[str, int], ...] = ()
    path: str = ""
    service: str = ""
    options: Mapping[str, str | int | float | bool] = field(default_factory=dict, repr=False)
    sentinel_options: Mapping[str, str] = field(default_factory=dict, repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)

    @property
    def shown(self) -> str:
        """The address as people may see it: no user, no password."""
        hosts = ", ".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.hosts)
        return {
            "unix": self.path,
            "sentinel": f"the service '{self.service}' behind Sentinel {hosts}",
            "cluster": f"the cluster {hosts}",
        }.get(self.kind, hosts)


def parsed(url: str) -> Address:
    """What a URL says.

    Raises:
        BadInput: it is no such URL, or has options that are not taken.
    """
    url = url.strip()  # a secret is often pasted with the end of its line
    try:
        parts = urlsplit(url)
        scheme, _, flavour = parts.scheme.partition("+")
        if not url.isprintable() or " " in url or "#" in url:
            raise _wrong("It holds a character that a URL cannot hold.")
        if scheme == "unix" and not flavour:
            return _unix(parts)
        if scheme not in ("redis", "rediss") or flavour not in _KINDS or "://" not in url:
            raise _wrong("It begins with no scheme that is known here.")
        return _network(parts, _KINDS[flavour], tls=scheme == "rediss")
    except ValueError:  # a port that is no number, brackets that do not match; the text may quote a password
        raise _wrong("It cannot be read as a URL.") from None


def _unix(parts: SplitResult) -> Address:
    user, host = _user_and_hosts(parts)
    if host or len(parts.path) < 2:
        raise _wrong("A Unix socket is named by three slashes and a path.")
    given = _query(parts, _OPTIONS)
    return Address("unix", path=unquote(parts.path), options=_options(user | given), secrets=_secrets(parts, given))


def _network(parts: SplitResult, kind: str, *, tls: bool) -> Address:
    user, netloc = _user_and_hosts(parts)
    hosts = tuple(_host(each, _PORTS[kind]) for each in netloc.split(","))
    if kind == "one" and len(hosts) > 1:
        raise _wrong("Several hosts are a cluster's or Sentinels'.")
    given = _query(parts, (*_OPTIONS, *_SENTINEL_OPTIONS) if kind == "sentinel" else _OPTIONS)
    sentinel = {name.removeprefix("sentinel_"): given.pop(name) for name in _SENTINEL_OPTIONS if name in given}
    if not tls and any(name in _TLS_OPTIONS for name in given):
        raise _wrong("It has options of TLS, but no TLS.")
    path = parts.path.removesuffix("/").split("/")[1:]
    service = unquote(path.pop(0)) if kind == "sentinel" and path else ""
    if kind == "sentinel" and not service:
        raise _wrong("It does not name the service that the Sentinels watch.")
    if len(path) > 1:
        raise _wrong("Its path says more than the number of a database.")
    options = _options({**({"db": path[0]} if path else {}), **user, **given})
    if kind == "cluster" and options.pop("db", 0) != 0:
        raise _wrong("A cluster has no database but 0.")
    return Address(
        kind,
        tls=tls,
        hosts=hosts,
        service=service,
        options=options,
        sentinel_options=sentinel,
        secrets=_secrets(parts, {**given, **sentinel}, sentinel.get("password", "")),
    )


def _user_and_hosts(parts: SplitResult) -> tuple[dict[str, str], str]:
    user, at, hosts = parts.netloc.rpartition("@")
    name, colon, password = user.partition(":")
    found = {"username": unquote(name), "password": unquote(password)}
    if "@" in user or (at and colon and not password):
        raise _wrong("Its user or password is empty or not encoded; perhaps a secret that it is made of is not set.")
    return {key: value for key, value in found.items() if value}, hosts


def _host(text: str, port: int) -> tuple[str, int]:
    if not re.fullmatch(r"(\[[0-9a-fA-F:.%]+\]|[A-Za-z0-9._-]+)(:[1-9][0-9]{0,4})?", text):
        raise _wrong("It names no host, or one that is not well formed.")
    parts = urlsplit(f"//{text}")
    return unquote(parts.hostname or ""), parts.port or port


def _query(parts: SplitResult, taken: tuple[str, ...]) -> dict[str, str]:
    pairs = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    given = dict(pairs)
    if len(given) < len(pairs) or not set(given) <= set(taken):
        raise _wrong(f"It has an option twice, or one that is not taken. Taken are: {', '.join(taken)}.")
    return given


def _options(given: Mapping[str, str]) -> dict[str, str | int | float | bool]:
    options: dict[str, str | int | float | bool] = dict(given)
    if "db" in given:
        if not re.fullmatch(r"[0-9]{1,6}", given["db"]):
            raise _wrong("Its database is no number.")
        options["db"] = int(given["db"])
    for name in _TIMES:
        if name in given:
            seconds = float(given[name])
            if not 0 < seconds < float("inf"):
                raise _wrong("A time limit in it is no number of seconds.")
            options[name] = seconds
    if "ssl_check_hostname" in given:
        if given["ssl_check_hostname"].lower() not in _YES:
            raise _wrong("Its ssl_check_hostname is neither true nor false.")
        options["ssl_check_hostname"] = _YES[given["ssl_check_hostname"].lower()]
    if given.get("ssl_cert_reqs", "required") not in ("none", "optional", "required"):
        raise _wrong("Its ssl_cert_reqs is none of: none, optional, required.")
    return options


def _secrets(parts: SplitResult, given: Mapping[str, str], *others: str) -> tuple[str, ...]:
    password = parts.netloc.rpartition("@")[0].partition(":")[2]
    found = (password, unquote(password), given.get("password", ""), *others)
    return tuple(dict.fromkeys(each for each in found if each))


def _wrong(why: str) -> BadInput:
    return BadInput("redis-url is not the address of a Redis.", why, _FORMS)
