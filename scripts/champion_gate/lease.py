"""Who may move a model's aliases: one holder at a time, by redis-py's Lock. The only file that calls Redis.

A lease ends by itself, so a job that was killed blocks nobody for long, and one that was frozen may wake up without
it. Hence the two questions to ask before every write: `require`, which needs no network, and `confirm`, which asks
Redis. Each lease carries a fence, a number higher than that of any lease of this model before it, by which a late
write of a former holder is recognised (https://redis.io/docs/latest/develop/clients/patterns/distributed-locks/).

Redis must not evict keys (`maxmemory-policy noeviction`): one that drops the lease ends it early.

Importing this file imports redis, a third of a second on a small machine: do so where it is needed.
"""

from __future__ import annotations

import hashlib
import json
import random
import ssl
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Any, TypeVar

from redis import Redis
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.connection import Connection, ConnectionPool, SSLConnection, UnixDomainSocketConnection
from redis.exceptions import (
    AuthenticationError,
    ClusterDownError,
    LockNotOwnedError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisClusterException,
    RedisError,
)
from redis.exceptions import ConnectionError as Unreachable
from redis.exceptions import TimeoutError as Silent
from redis.lock import Lock
from redis.retry import Retry
from redis.sentinel import MasterNotFoundError, Sentinel

from champion_gate import redis_address, signals
from champion_gate.errors import BadInput, GateError, LeaseLost, OutsideWorldFailed
from champion_gate.github import annotate, hide, log
from champion_gate.redis_address import Address
from champion_gate.text import one_line
from champion_gate.time_limit import NoAnswer, bounded

T = TypeVar("T")
Client = Redis | RedisCluster

_SOCKET_SECONDS = (0.5, 5.0)  # at least, at most; between them a twelfth of the lease, so that a renewal can fail twice
_RELEASE_SECONDS = 5.0  # a signal waits for it
_PAUSES = (0.2, 0.5)  # before the second try, and the third
_POLL_SECONDS = (0.1, 0.3)  # drawn anew each time, so that waiters spread out
_WORD_SECONDS = 10.0
_NAME = "champion-gate"
# Lua's numbers are doubles: a fence beyond this would no longer be higher than the one before.
_FENCES = 2**53
# Counts while the machine sleeps, which Linux's monotonic clock does not; macOS's does.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class RedisUnavailable(OutsideWorldFailed):
    """Redis cannot be asked at this moment: it is down, slow, starting, or failing over."""


@dataclass(frozen=True)
class Holder:
    """Who holds a lease, as those who wait are told. `since` is set when the lease is acquired."""

    actor: str
    run_url: str
    since: datetime
    operation: str
    id: str


class Lease:
    """A lease that is held, renewed in the background while the `hold` that gave it lasts."""

    def __init__(self, redis: _Redis, lock: _FencedLock, model_name: str, duration: float) -> None:
        self.fence = 0
        """Higher than that of any lease of this model before; lower than that of any later one."""
        self._redis = redis
        self._lock = lock
        self._model = one_line(model_name, 120)
        self._duration = duration
        self._until = 0.0
        self._lost = ""

    def remaining(self) -> float:
        """For how many seconds the lease is surely ours, if Redis forgets nothing; 0 if it is lost.

        Counted from before the request was sent that acquired or renewed it.
        """
        return 0.0 if self._lost else max(0.0, self._until - _now())

    def require(self, seconds: float) -> None:
        """See that the lease lasts for longer than `seconds`, the time limit of the write to come.

        Raises:
            LeaseLost: it does not, or is known to be lost.
        """
        left = self.remaining()
        if self._lost:
            raise self._gone(self._lost)
        if left <= 0:
            raise self._gone("it ended before it could be renewed: this job, its machine or Redis stood still.")
        if not left > seconds:
            raise self._gone(f"it lasts for {left:.0f} s more, and the next write may take {seconds:.0f} s.")

    def confirm(self) -> None:
        """Ask Redis whether the lease is still ours, by renewing it: a replica that is behind cannot say yes to that.

        Raises:
            LeaseLost: it is not.
            OutsideWorldFailed: Redis did not answer.
        """
        self._renew(self._redis.ask)

    def _renew(self, ask: Callable[[Callable[[], bool]], bool]) -> None:
        if self._lost:
            raise self._gone(self._lost)
        asked = _now()
        try:
            ask(lambda: self._lock.extend(self._duration, replace_ttl=True))
        except LockNotOwnedError as error:
            self._lost = "Redis does not know it any more: it ended, or Redis was flushed, restarted, or failed over."
            raise self._gone(self._lost) from error
        self._until = max(self._until, asked + self._duration)

    def _gone(self, why: str) -> LeaseLost:
        return LeaseLost(
            f"The lease of '{self._model}' is lost: {why}",
            "Another job may be at work, so this one writes nothing more.",
            "Run it again: it first finishes or undoes the move that is open.",
        )


class _Holding(Lease):
    """What is done with a lease by the one who hands it out."""

    def acquire(self, holder: Holder, lock_timeout: float) -> None:
        """Get it, and wait for it."""
        deadline = _now() + lock_timeout
        next_word = 0.0
        answered = False
        while True:
            failure: RedisUnavailable | None = None
            try:
                # After an unclear answer the lease may be ours already, under the token that was sent.
                if self._try(self._lock.local.token or _token(holder)):
                    return
                answered = True
            except RedisUnavailable as error:
                if not answered:  # it was not there to begin with; one that restarts while we wait is waited for
                    raise
                failure = error
            now = _now()
            if now >= deadline:
                raise failure or self._held(lock_timeout)
            if now >= next_word:
                log(str(failure) if failure else f"Waiting for the lease of '{self._model}'. {self._lock.shown}")
                next_word = now + _WORD_SECONDS
            time.sleep(min(random.SystemRandom().uniform(*_POLL_SECONDS), deadline - now))

    def _try(self, token: str) -> bool:
        asked = _now()
        try:
            if not self._redis.ask(lambda: self._lock.acquire(blocking=False, token=token)):
                return False
        except RedisUnavailable:
            raise
        except OutsideWorldFailed:
            self._lock.local.token = None  # a plain no
            raise
        self.fence, self._until = _checked(self._lock.fence), asked + self._duration
        return True

    def raise_fence(self, floor: int) -> None:
        """Issue another fence for the lease that we hold: the log knows a higher one than Redis did."""
        self._lock.floor = floor
        if not self._try(self._lock.local.token):
            self._lost = "somebody else took it."
            raise self._gone(self._lost)

    def release(self) -> None:
        """Give it back if it may be ours. Never raises: what was done under it is done."""
        if self._lock.local.token is None or self._lost:
            return
        self._lost = "it was given back."
        try:
            self._redis.ask(self._lock.release, _RELEASE_SECONDS)
        except LockNotOwnedError:
            if self.fence:  # else it was never ours
                annotate("warning", "Lease lost", f"The lease of '{self._model}' had ended before it was given back.")
        except GateError as error:
            if self.fence:
                left = f"The lease of '{self._model}' ends by itself, in {self._duration:.0f} s at most."
                annotate("warning", "Lease not given back", f"{left} {error}")

    def _held(self, lock_timeout: float) -> OutsideWorldFailed:
        do = "Wait for that job, or give more time by lock-timeout; the lease of a job that is dead ends by itself."
        if self._lock.left < 0:
            do = f"Champion Gate sets none without an end: delete the key {self._lock.name} in Redis."
        return OutsideWorldFailed(
            f"The lease of '{self._model}' could not be had in {lock_timeout:g} s; nothing was done.",
            self._lock.shown,
            do,
        )

    def keep(self) -> None:
        """Renew until it is over or lost; what cannot be renewed runs out, and `require` says so."""
        said = False
        pause = self._duration / 3
        while not self._redis.over.wait(pause):
            try:
                self._renew(self._redis.call)
            except LeaseLost as error:
                if not self._redis.over.is_set():  # else it was released meanwhile
                    log(str(error))
                return
            except GateError as error:
                if not said and not self._redis.over.is_set():
                    log(f"The lease of '{self._model}' is not renewed, {self.remaining():.0f} s are left: {error}")
                said, pause = True, min(1.0, self._duration / 12)
            else:
                said, pause = False, self._duration / 3


@contextmanager
def hold(
    url: str,
    model_name: str,
    model_created: int,
    *,
    highest_fence: Callable[[], int] | int,
    holder: Holder,
    lock_timeout: float = 60.0,
    duration: float = 60.0,
) -> Iterator[Lease]:
    """Hold the lease of the model `model_name` that was made at `model_created` (milliseconds, the server's clock).

    The fence is max(Redis' counter, `highest_fence`) + 1, so that a Redis that was flushed does not begin anew. A
    number is heeded in the script that acquires; a function is called once, under the lease, where what it reads cannot
    change, and the fence is raised before anybody saw it. Waits for `lock_timeout` seconds. The lease ends `duration`
    seconds after its last renewal, and is renewed every third of that: less than two thirds are surely left for a
    write.

    Raises:
        BadInput: `redis-url`, `lock-timeout` or `duration` is wrong.
        OutsideWorldFailed: somebody else holds it for longer than that, or Redis failed.
        LeaseLost: it was lost before it was handed over.
    """
    if not 0 <= lock_timeout < threading.TIMEOUT_MAX:
        raise BadInput("lock-timeout is not a number of seconds from 0 on.")
    if not 1 <= duration < threading.TIMEOUT_MAX:
        raise BadInput("The duration of a lease is not a number of seconds from 1 on.")
    address = redis_address.parsed(url)
    hide(address.secrets)
    redis = _Redis(one_line(address.shown, 200), _socket_seconds(duration))
    redis.client = client = redis.ask(lambda: _client(address, redis.limit))
    floor = 0 if callable(highest_fence) else _checked(highest_fence)
    lock = _FencedLock(client, _key(model_name, model_created), duration, floor)
    lease = _Holding(redis, lock, model_name, duration)
    keeper = threading.Thread(target=lease.keep, daemon=True)
    try:
        lease.acquire(holder, lock_timeout)
        keeper.start()
        if callable(highest_fence) and (highest := _checked(highest_fence())) >= lease.fence:
            lease.raise_fence(highest)
        yield lease
    finally:
        with signals.deferred():
            redis.over.set()
            lease.release()
            if keeper.ident:
                keeper.join(timeout=1)
            if not keeper.is_alive():  # else it waits for an answer, and its connection ends with the process
                client.close()


def _checked(fence: int) -> int:
    if 0 <= fence < _FENCES - 1:
        return fence
    raise OutsideWorldFailed(
        f"The fence {one_line(str(fence), 40)} is not one that Champion Gate issued.",
        "A higher one could not be told from it, so nobody would know which of two moves is the later.",
        "Find out who wrote it: the release log's tag gate.fence, or the key that ends in :fence in Redis.",
    )


def _token(holder: Holder) -> str:
    """What is kept under the key. No two are alike, whatever the caller calls itself."""
    shown = replace(holder, since=datetime.now(timezone.utc))
    return json.dumps(
        {
            "actor": shown.actor[:100],
            "operation": shown.operation[:100],
            "run_url": shown.run_url[:300],
            "since": shown.since.isoformat(timespec="seconds"),
            "id": shown.id[:100],
            "nonce": uuid.uuid4().hex,
        }
    )


def _key(model_name: str, model_created: int) -> str:
    """Names the model in Redis: the same for every spelling of an address, another one for a model made anew."""
    named = json.dumps([model_name, model_created]).encode()
    return f"{_NAME}:{hashlib.sha256(named).hexdigest()[:32]}"


def _socket_seconds(duration: float) -> float:
    least, most = _SOCKET_SECONDS
    return min(most, max(least, duration / 12))


def _now() -> float:
    return time.clock_gettime(_CLOCK)


class _FencedLock(Lock):
    """redis-py's lock, acquired together with a fence. Release and renewal are redis-py's own scripts."""

    # KEYS: the lock, the counter. ARGV: token, milliseconds, the lowest fence to issue.
    # Returns {fence}, or {0, holder's token, milliseconds that are left or -1}.
    # Asked again with the token that holds it, since an answer may have been lost, it issues another fence. The counter
    # is written first: a fence that nobody got does no harm, a lock without one would.
    LUA_ACQUIRE_SCRIPT = """
        local token = redis.call('get', KEYS[1])
        if token and token ~= ARGV[1] then
            return {0, token, redis.call('pttl', KEYS[1])}
        end
        local fence = redis.call('incr', KEYS[2])
        if fence < tonumber(ARGV[3]) then
            redis.call('set', KEYS[2], ARGV[3])
            fence = tonumber(ARGV[3])
        end
        redis.call('set', KEYS[1], ARGV[1], 'PX', ARGV[2])
        return {fence}
    """

    def __init__(self, client: Client, key: str, duration: float, floor: int) -> None:
        # The braces put both keys in one slot of a cluster.
        super().__init__(client, f"{{{key}}}:lease", timeout=duration, thread_local=False)
        self.counter = f"{{{key}}}:fence"
        self.floor = floor
        self.fence = 0
        self.holder = b""
        self.left = -1.0

    def register_scripts(self) -> None:
        """Send scripts by EVAL: one command each; EVALSHA takes three after every restart and failover."""
        self.lua_release = _evaluated(self.LUA_RELEASE_SCRIPT)  # type: ignore[assignment]
        self.lua_extend = _evaluated(self.LUA_EXTEND_SCRIPT)  # type: ignore[assignment]

    def do_acquire(self, token: str) -> bool:
        """Acquire it once, without waiting; until Redis says no, it may be ours."""
        self.local.token = token
        milliseconds = int(self.timeout * 1000) if self.timeout else 0
        fence, *held = _evaluated(self.LUA_ACQUIRE_SCRIPT)(
            [self.name, self.counter], [token, milliseconds, self.floor + 1], self.redis
        )
        if not held:
            self.fence = int(fence)
            return True
        self.local.token = None
        self.holder, self.left = held[0], int(held[1]) / 1000
        return False

    @property
    def shown(self) -> str:
        """Who holds it, since when and for how long, in words; whoever may write in Redis may have written this."""
        left = f"it ends in {self.left:.0f} s unless renewed" if self.left >= 0 else "it has no end"
        try:
            told = json.loads(self.holder)
            actor, operation, since = (one_line(str(told[key]), 100) for key in ("actor", "operation", "since"))
            url = one_line(str(told["run_url"]), 300)
        except (ValueError, KeyError, TypeError, RecursionError):
            return f"It is held by somebody unknown; {left}."
        return f"It is held by {actor} ({operation}) since {since}{url and f', {url}'}; {left}."


def _evaluated(script: str) -> Callable[[Sequence[str], Sequence[Any], Any], Any]:
    def run(keys: Sequence[str], args: Sequence[Any], client: Any) -> Any:
        return client.eval(script, len(keys), *keys, *args)

    return run


class _Redis:
    """Every call to Redis: its time limit, its tries, and what its failure means."""

    def __init__(self, where: str, limit: float) -> None:
        self.where = where
        self.limit = limit
        """Of one connection and of one answer, in seconds."""
        self.over = threading.Event()
        """Set when the lease is given back: no call is tried again after that."""
        self.client: Client | None = None

    def ask(self, work: Callable[[], T], seconds: float = threading.TIMEOUT_MAX) -> T:
        """`call` for the main thread: a signal ends the waiting, and so does a name server that is silent."""
        try:
            return bounded(lambda: self.call(work), min(seconds, 3 * self.limit + sum(_PAUSES)))
        except NoAnswer as error:
            raise self._explained(Silent("no answer")) from error

    def call(self, work: Callable[[], T]) -> T:
        """`work()`, up to three times while there is time.

        Raises:
            LockNotOwnedError: what redis-py says.
            OutsideWorldFailed: what else failed, in a sentence.
        """
        begun = _now()
        for pause in (*_PAUSES, 0.0):
            try:
                return work()
            except LockNotOwnedError:
                raise
            except (RedisError, RedisClusterException, OSError, ValueError) as error:
                failure = self._explained(error)
                if isinstance(self.client, Redis):  # a new connection asks Sentinel anew who is the primary
                    self.client.connection_pool.disconnect(inuse_connections=False)
                late = not pause or _now() - begun > self.limit
                if late or not isinstance(failure, RedisUnavailable) or self.over.wait(pause):
                    raise failure from error
        raise AssertionError  # the last try returned or raised

    def _explained(self, error: Exception) -> OutsideWorldFailed:
        said = f"It says: {one_line(str(error), 300).rstrip('.')}."
        if isinstance(error, MasterNotFoundError):
            return RedisUnavailable(
                f"No Sentinel names a primary for {self.where}.",
                said,
                "Check the name of the service, and whether the Sentinels and the primary are up.",
            )
        if isinstance(error, NoPermissionError):
            return OutsideWorldFailed(
                f"Redis at {self.where} forbids this user what a lease needs.",
                said,
                f"Allow it eval, get, set, incr, pttl, pexpire, del and client on keys that begin with {{{_NAME}:.",
            )
        if isinstance(error, AuthenticationError) or "NOAUTH" in said:
            return OutsideWorldFailed(
                f"Redis at {self.where} does not let us in.", said, "Check the user and the password in redis-url."
            )
        if _is_tls(error):
            return OutsideWorldFailed(
                f"Redis at {self.where} and we do not agree on TLS.",
                said,
                "Name the authority that signed its certificate by ssl_ca_certs in redis-url, and the host as the"
                " certificate does.",
            )
        for mark, kind, what, do in _REFUSALS:
            if mark in said or isinstance(error, kind):
                return RedisUnavailable(f"Redis at {self.where} {what}", said, do)
        if isinstance(error, Silent | TimeoutError):
            return RedisUnavailable(
                f"Redis at {self.where} did not answer in time.",
                said,
                "See whether it is up and not overloaded, and whether it speaks TLS just where redis-url says so; then"
                " run this again.",
            )
        if isinstance(error, Unreachable | ClusterDownError | RedisClusterException | OSError):
            return RedisUnavailable(
                f"Redis at {self.where} cannot be used.",
                said,
                "Check redis-url, and whether Redis is up and can be reached from this runner; then run this again.",
            )
        return OutsideWorldFailed(
            f"Redis at {self.where} refused what a lease needs.", said, "See what it says, and run this again."
        )


# All of them may pass. From Redis 7 on, redis-py turns the first word of some into a class; inside a script, older
# versions wrap what they say, and the word remains.
_REFUSALS: tuple[tuple[str, tuple[type[Exception], ...], str, str], ...] = (
    (
        "READONLY",
        (ReadOnlyError,),
        "is a replica, and takes no writes.",
        "Name the primary in redis-url, or wait for the failover.",
    ),
    ("OOM ", (OutOfMemoryError,), "has no memory left.", "Raise its maxmemory, or free some; then run this again."),
    ("MISCONF", (), "cannot write to its disk, and takes no writes.", "Free its disk; then run this again."),
    ("NOREPLICAS", (), "has too few replicas, and takes no writes.", "Bring its replicas back; then run this again."),
)


def _is_tls(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ssl.SSLError):
            return True
        error = error.__cause__ or error.__context__
    return False


def _client(address: Address, limit: float) -> Client:
    """redis-py's client for an address. Only a cluster's connects at once."""
    options: dict[str, Any] = {
        **address.options,
        "client_name": _NAME,
        "driver_info": None,  # two commands less for each connection,
        "protocol": 2,  # and one less
        "retry": Retry(NoBackoff(), 0),  # `_Redis.call` tries again, and knows when not to
        "decode_responses": False,
    }
    for name in ("socket_timeout", "socket_connect_timeout"):
        options[name] = min(limit, options.get(name, limit))
    if address.kind == "unix":
        del options["socket_connect_timeout"]
        pool = ConnectionPool(connection_class=UnixDomainSocketConnection, path=address.path, **options)
        return Redis.from_pool(pool)
    if address.kind == "one":
        host, port = address.hosts[0]
        connection = SSLConnection if address.tls else Connection
        return Redis.from_pool(ConnectionPool(connection_class=connection, host=host, port=port, **options))
    if address.tls:
        options["ssl"] = True
    if address.kind == "cluster":
        nodes = [ClusterNode(host, port) for host, port in address.hosts]  # type: ignore[no-untyped-call]
        return RedisCluster(startup_nodes=nodes, **options)
    own = {name: value for name, value in options.items() if name not in ("db", "username", "password")}
    to_sentinels = {**own, **address.sentinel_options}
    sentinels = Sentinel(address.hosts, sentinel_kwargs=to_sentinels, **options)  # type: ignore[no-untyped-call]
    client: Redis = sentinels.master_for(address.service)  # type: ignore[no-untyped-call]
    return client
