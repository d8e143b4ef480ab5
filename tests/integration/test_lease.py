"""The lease, with a real Redis: one holder at a time, whatever happens to Redis or to a holder."""

import datetime as dt
import json
import os
import signal
import ssl
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from redis._parsers import BaseParser  # what redis-py makes of an answer

from champion_gate import github
from champion_gate.errors import BadInput, OutsideWorldFailed
from champion_gate.lease import Holder, LeaseLost, RedisUnavailable, _Redis, hold
from tests.support.names import unique_model_name
from tests.support.redis_server import Relay, commands_of, redis_server
from tests.support.server import free_port

SCRIPTS = Path(__file__).parents[2] / "scripts"
CREATED = 1_790_000_000_000
ALICE = Holder("alice", "https://git.example/runs/1", dt.datetime.now(dt.timezone.utc), "promotion", "op-1")
PASSWORD = "a p@ss: 100%"
ENCODED = "a%20p%40ss%3A%20100%25"


@pytest.fixture
def name():
    return unique_model_name()


def held(server, name, created=CREATED, highest_fence=0, holder=ALICE, lock_timeout=0.0, **more):
    url = server if isinstance(server, str) else server.url
    return hold(url, name, created, highest_fence=highest_fence, holder=holder, lock_timeout=lock_timeout, **more)


def key_of(server, name, *, suffix="lease"):
    """The one key of that kind in this server, or in one that only this test uses."""
    keys = [key for key in server.client.keys("{champion-gate:*") if key.decode().endswith(suffix)]
    assert len(keys) == 1
    return keys[0]


def eventually(check, seconds=20.0):
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def lost(lease):
    try:
        lease.require(0)
    except LeaseLost:
        return True
    return False


def fence_of(server, name, **more):
    with held(server, name, **more) as lease:
        return lease.fence


def fences_of_twenty(server, name, inside, times):
    """What twenty threads at once were given, each some times, in their order; the file `inside` shows who is in."""
    fences = []

    def contend(_):
        for _ in range(times):
            with held(server, name, lock_timeout=60) as lease:
                inside.touch(exist_ok=False)
                fences.append(lease.fence)
                lease.require(1)
                inside.unlink()

    with ThreadPoolExecutor(20) as pool:
        list(pool.map(contend, range(20)))
    return fences


def confirmed(lease):
    try:
        lease.confirm()
    except RedisUnavailable:
        return False
    return True


class TestHolding:
    def test_each_lease_has_a_higher_fence_than_the_one_before(self, redis, name):
        fences = []
        for _ in range(3):
            with held(redis, name) as lease:
                lease.require(30)
                lease.confirm()
                assert 0 < lease.remaining() <= 60
                fences.append(lease.fence)
            with pytest.raises(LeaseLost, match="given back"):
                lease.require(0)
        assert fences == [1, 2, 3]

    @pytest.mark.parametrize("spelling", ["redis://localhost:{port}/0", "redis://127.0.0.1:{port}", "unix://{socket}"])
    def test_two_spellings_of_an_address_are_one_lock(self, redis, name, spelling):
        other = spelling.format(port=redis.port, socket=redis.socket)
        with held(redis, name), pytest.raises(OutsideWorldFailed, match="could not be had"):
            fence_of(other, name)
        with held(other, name) as lease:
            assert lease.fence == 2

    def test_a_model_made_anew_and_another_model_are_other_locks(self, redis, name):
        with held(redis, name), held(redis, name, created=CREATED + 1), held(redis, name + "-b") as lease:
            assert lease.fence == 1

    def test_the_counter_of_fences_never_expires_and_shares_a_slot_with_the_lock(self, own_redis, name):
        with held(own_redis, name):
            lock, counter = key_of(own_redis, name), key_of(own_redis, name, suffix="fence")
            assert 0 < own_redis.client.pttl(lock) <= 60_000
            assert own_redis.client.pttl(counter) == -1
            assert lock.partition(b"}")[0] == counter.partition(b"}")[0]
            assert name.encode() not in lock
        assert own_redis.client.keys("*") == [counter]

    def test_a_block_that_fails_gives_the_lease_back(self, redis, name):
        with pytest.raises(KeyError), held(redis, name):
            raise KeyError
        with held(redis, name):
            pass

    @pytest.mark.parametrize("wrong", [{"lock_timeout": -1}, {"lock_timeout": float("nan")}, {"duration": 0}])
    def test_times_that_are_none_are_refused(self, redis, name, wrong):
        with pytest.raises(BadInput), held(redis, name, **wrong):
            pass


class TestFence:
    def test_it_is_higher_than_the_logs_in_a_redis_that_was_flushed(self, own_redis, name):
        with held(own_redis, name, highest_fence=41) as lease:
            assert lease.fence == 42
        own_redis.client.flushall()
        with held(own_redis, name, highest_fence=42) as lease:
            assert lease.fence == 43
        with held(own_redis, name, highest_fence=7) as lease:
            assert lease.fence == 44

    def test_a_log_that_is_read_under_the_lease_raises_it(self, redis, name):
        def reads():
            with pytest.raises(OutsideWorldFailed, match="could not be had"), held(redis, name):
                pass
            return 99

        with held(redis, name, highest_fence=reads) as lease:
            assert lease.fence == 100
            lease.confirm()
        with held(redis, name, highest_fence=lambda: 100) as lease:
            assert lease.fence == 101

    def test_a_log_that_cannot_be_read_gives_the_lease_back(self, redis, name):
        def reads():
            raise OutsideWorldFailed("The log cannot be read.")

        with pytest.raises(OutsideWorldFailed, match="The log"), held(redis, name, highest_fence=reads):
            pass
        with held(redis, name):
            pass

    @pytest.mark.parametrize("highest", [2**53, 10**30, -1])
    def test_one_that_nobody_issued_is_refused(self, redis, name, highest):
        for given in (highest, lambda: highest):
            with pytest.raises(OutsideWorldFailed, match="fence"), held(redis, name, highest_fence=given):
                pass
        with held(redis, name):
            pass

    def test_a_counter_beyond_what_can_be_told_apart_is_refused_and_nothing_stays_held(self, own_redis, name):
        with held(own_redis, name):
            counter = key_of(own_redis, name, suffix="fence")
        own_redis.client.set(counter, 2**60)
        for _ in range(2):
            with pytest.raises(OutsideWorldFailed, match="The fence"), held(own_redis, name):
                pass
        assert own_redis.client.keys("*") == [counter]


class TestCalls:
    def test_a_promotion_takes_at_most_six_commands_connecting_included(self, own_redis, name):
        own_redis.client.execute_command("ACL", "SETUSER", "team", "on", f">{PASSWORD}", "~*", "+@all")
        url = f"redis://team:{ENCODED}@127.0.0.1:{own_redis.port}/3"
        with commands_of(own_redis) as sent, held(url, name) as lease:
            lease.confirm()
        assert sent == {"auth": 1, "client": 1, "select": 1, "eval": 3}

    def test_a_restarted_redis_takes_no_more_of_them(self, own_redis, name):
        own_redis.restart()
        with commands_of(own_redis) as sent, held(own_redis, name):
            pass
        assert sent == {"client": 1, "eval": 2}

    def test_the_connection_carries_our_name_and_ends_with_the_lease(self, redis, name):
        def names():
            return [each["name"] for each in redis.client.client_list()]

        with held(redis, name):
            assert "champion-gate" in names()
        eventually(lambda: "champion-gate" not in names())


class TestWaiting:
    def test_it_is_told_who_holds_it_at_once_and_ends_with_what_to_do(self, redis, name, capsys):
        bob = Holder("bob", "https://git.example/runs/2", ALICE.since, "rollback", "op-2")
        with (
            held(redis, name),
            pytest.raises(OutsideWorldFailed) as refused,
            held(redis, name, holder=bob, lock_timeout=0.4),
        ):
            pass
        for text in (capsys.readouterr().err, str(refused.value)):
            assert "alice (promotion) since 20" in text
            assert "https://git.example/runs/1" in text
        assert "lock-timeout" in refused.value.do
        assert refused.value.exit_code == 3

    def test_it_has_it_when_the_holder_gives_it_back(self, redis, name, capsys):
        with ThreadPoolExecutor(1) as pool:
            with held(redis, name):
                waiter = pool.submit(lambda: fence_of(redis, name, lock_timeout=60))
                eventually(lambda: "Waiting" in capsys.readouterr().err)
                assert not waiter.done()
            assert waiter.result(timeout=60) == 2

    @pytest.mark.parametrize(
        "forged",
        [
            *(b"", b"\xff\xfe", b"[]", b"3", b"[" * 100_000, b'{"actor": "x"}'),
            json.dumps(
                dict.fromkeys(("actor", "operation", "since", "run_url"), "::error::\n##[group]\x1b[31m")
            ).encode(),
        ],
    )
    def test_what_others_wrote_under_the_key_is_shown_harmlessly(self, own_redis, name, capsys, forged):
        with held(own_redis, name):
            lock = key_of(own_redis, name)
        own_redis.client.set(lock, forged)
        with pytest.raises(OutsideWorldFailed, match="It is held by") as refused, held(own_redis, name):
            pass
        assert lock.decode() in refused.value.do  # it has no end, so nobody gives it back
        for text in (str(refused.value), capsys.readouterr().err.rstrip("\n")):
            assert not set("\n\x1b") & set(text)
            assert "##[" not in text
        assert own_redis.client.get(lock) == forged

    def test_a_redis_that_restarts_meanwhile_is_waited_for(self, own_redis, name, capsys):
        with ThreadPoolExecutor(1) as pool, held(own_redis, name) as lease:
            waiter = pool.submit(lambda: fence_of(own_redis, name, lock_timeout=60))
            eventually(lambda: "Waiting" in capsys.readouterr().err)
            own_redis.restart()
            assert waiter.result(timeout=60) == 1  # all was forgotten
            with pytest.raises(LeaseLost):
                lease.confirm()

    def test_one_holder_at_a_time_among_twenty(self, redis, name, tmp_path):
        assert fences_of_twenty(redis, name, tmp_path / "inside", times=2) == list(range(1, 41))


class TestLosing:
    def test_a_flush_is_noticed_when_asked(self, own_redis, name):
        with held(own_redis, name) as lease:
            own_redis.client.flushall()
            with pytest.raises(LeaseLost, match="flushed") as refused:
                lease.confirm()
            assert refused.value.exit_code == 3
            assert lease.remaining() == 0
            with pytest.raises(LeaseLost), held(own_redis, name):  # whoever has it now,
                lease.require(0)
            with pytest.raises(LeaseLost):  # it does not come back
                lease.confirm()

    def test_a_flush_is_noticed_by_the_next_renewal(self, own_redis, name, capsys):
        with held(own_redis, name, duration=3) as lease:
            own_redis.client.flushall()
            eventually(lambda: lost(lease))
            assert lease._lost
        assert "is lost" in capsys.readouterr().err

    def test_it_is_renewed_while_work_goes_on(self, redis, name):
        with held(redis, name, duration=3) as lease:
            first = lease._until
            eventually(lambda: lease._until > first + 2)
            lease.confirm()

    def test_somebody_elses_lease_is_not_given_back(self, own_redis, name, capsys):
        with held(own_redis, name):
            own_redis.client.flushall()
            other = held(own_redis, name)
            other.__enter__()
        assert "had ended before it was given back" in capsys.readouterr().err
        with pytest.raises(OutsideWorldFailed, match="could not be had"), held(own_redis, name):
            pass
        other.__exit__(None, None, None)

    def test_a_restart_that_forgets_loses_it(self, own_redis, name):
        with held(own_redis, name) as lease:
            own_redis.restart()
            with pytest.raises(LeaseLost):
                lease.confirm()

    def test_a_restart_that_remembers_does_not(self, tmp_path, name):
        with redis_server(tmp_path, "--appendonly", "yes") as server:
            with held(server, name, highest_fence=6) as lease:
                server.restart()
                lease.confirm()
                with pytest.raises(OutsideWorldFailed, match="could not be had"), held(server, name):
                    pass
            with held(server, name) as lease:
                assert lease.fence == 8

    def test_a_redis_that_is_gone_confirms_nothing_and_the_lease_runs_out(self, own_redis, name, capsys):
        with held(own_redis, name, duration=3) as lease:
            own_redis.kill()
            with pytest.raises(RedisUnavailable, match="cannot be used"):
                lease.confirm()
            eventually(lambda: lost(lease))
        said = capsys.readouterr().err
        assert "is not renewed" in said
        assert "ends by itself" in said

    def test_a_redis_that_stands_still_confirms_nothing_and_the_lease_runs_out(self, own_redis, name):
        with held(own_redis, name, duration=3) as lease:
            own_redis.freeze()
            with pytest.raises(RedisUnavailable, match="did not answer in time"):
                lease.confirm()
            eventually(lambda: lost(lease))
            own_redis.thaw()

    def test_a_redis_that_became_a_replica_confirms_nothing(self, own_redis, name):
        with held(own_redis, name) as lease:
            own_redis.client.execute_command("REPLICAOF", "127.0.0.1", "1")
            with pytest.raises(RedisUnavailable, match="replica"):
                lease.confirm()
            own_redis.client.execute_command("REPLICAOF", "NO", "ONE")
            lease.confirm()

    def test_a_write_that_may_take_longer_than_the_lease_is_not_begun(self, redis, name):
        with held(redis, name, duration=10) as lease:
            with pytest.raises(LeaseLost, match="may take 10 s"):
                lease.require(10)
            with pytest.raises(LeaseLost):
                lease.require(float("nan"))
            lease.require(1)

    def test_an_answer_that_was_lost_is_asked_for_again(self, redis, name):
        relay = Relay(redis.port, lose=b"*1\r\n:")
        try:
            with held(f"redis://127.0.0.1:{relay.port}", name) as lease:
                assert relay.lost == 1
                assert lease.fence == 2
                lease.confirm()
        finally:
            relay.close()
        with held(redis, name):
            pass


class TestRefusals:
    def test_nothing_there(self, name):
        with pytest.raises(RedisUnavailable, match="Check redis-url") as refused:
            fence_of(f"redis://user:{ENCODED}@127.0.0.1:{free_port()}", name)
        assert PASSWORD not in str(refused.value)
        assert github.without_secrets(f"x {PASSWORD} y {ENCODED}") == "x *** y ***"

    def test_no_such_host(self, name):
        with pytest.raises(RedisUnavailable, match=r"nosuch\.invalid"):
            fence_of("redis://nosuch.invalid", name)

    @pytest.mark.parametrize("user", ["", f":{ENCODED}@", "team:wrong@"])
    def test_a_user_or_password_that_is_missing_or_wrong(self, own_redis, name, user):
        own_redis.client.config_set("requirepass", "another")
        with pytest.raises(OutsideWorldFailed, match="does not let us in") as refused:
            fence_of(f"redis://{user}127.0.0.1:{own_redis.port}", name)
        assert not isinstance(refused.value, RedisUnavailable)
        assert "user and the password" in refused.value.do

    def test_a_user_that_may_not(self, own_redis, name):
        own_redis.client.execute_command("ACL", "SETUSER", "weak", "on", ">weak", "~*", "+get", "+client")
        with pytest.raises(OutsideWorldFailed, match="forbids this user") as refused:
            fence_of(f"redis://weak:weak@127.0.0.1:{own_redis.port}", name)
        assert "eval" in refused.value.do

    def test_a_user_with_just_the_rights_that_are_named_may(self, own_redis, name):
        rights = ("~{champion-gate:*", *("+eval", "+get", "+set", "+incr", "+pttl", "+pexpire", "+del", "+client"))
        own_redis.client.execute_command("ACL", "SETUSER", "fits", "on", ">fits", *rights)
        url = f"redis://fits:fits@127.0.0.1:{own_redis.port}"
        with held(url, name) as lease:
            lease.confirm()
            with pytest.raises(OutsideWorldFailed, match="could not be had"):
                fence_of(url, name)

    @pytest.mark.parametrize(
        ("setting", "value", "said"),
        [
            ("maxmemory", 1, "no memory left"),
            ("min-replicas-to-write", 1, "too few replicas"),
        ],
    )
    def test_a_redis_that_takes_no_writes(self, own_redis, name, setting, value, said):
        own_redis.client.config_set(setting, value)
        with pytest.raises(RedisUnavailable, match=said):
            fence_of(own_redis, name)
        own_redis.client.config_set(setting, 0)
        assert not [key for key in own_redis.client.keys("*") if key.endswith(b"lease")]

    def test_a_replica(self, own_redis, name):
        own_redis.client.execute_command("REPLICAOF", "127.0.0.1", "1")
        with pytest.raises(RedisUnavailable, match="replica") as refused:
            fence_of(own_redis, name)
        assert "primary" in refused.value.do

    @pytest.mark.parametrize(
        ("answer", "said"),
        [
            ("READONLY You can't write against a read only replica. script: on @user_script:6.", "is a replica"),
            ("OOM command not allowed when used memory > 'maxmemory'. script: on @user_script:6.", "no memory left"),
            ("ERR Error running script: @user_script:6: -READONLY You can't write", "is a replica"),
            ("MISCONF Redis is configured to save RDB snapshots", "cannot write to its disk"),
        ],
    )
    def test_what_old_and_new_servers_answer_from_within_a_script(self, answer, said):
        error = BaseParser.parse_error(answer)
        failure = _Redis("redis.test:6379", 10.0)._explained(error)
        assert isinstance(failure, RedisUnavailable), "it is asked again"
        assert said in str(failure)

    def test_keys_of_another_type(self, own_redis, name):
        with held(own_redis, name):
            lock = key_of(own_redis, name)
        own_redis.client.rpush(lock, "x")
        with pytest.raises(OutsideWorldFailed, match="refused what a lease needs"):
            fence_of(own_redis, name)

    def test_a_database_that_is_not_there(self, redis, name):
        with pytest.raises(OutsideWorldFailed, match="out of range"):
            fence_of(f"redis://127.0.0.1:{redis.port}/9999", name)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A file with a key and a certificate that localhost signed for itself."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    own = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.timezone.utc)
    day = dt.timedelta(days=1)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(own)
        .issuer_name(own)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - day)
        .not_valid_after(now + day)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    path.write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain) + certificate.public_bytes(pem))
    return path


class TestTls:
    @pytest.fixture
    def relay(self, redis, certificate):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        relay = Relay(redis.port, context)
        yield relay
        relay.close()

    def test_a_certificate_that_is_known_is_accepted(self, relay, certificate, name):
        assert fence_of(f"rediss://localhost:{relay.port}?ssl_ca_certs={certificate}", name) == 1

    def test_an_unknown_one_is_not(self, relay, name):
        with pytest.raises(OutsideWorldFailed, match="TLS") as refused:
            fence_of(f"rediss://localhost:{relay.port}", name)
        assert "ssl_ca_certs" in refused.value.do

    def test_nor_one_of_another_host(self, relay, certificate, name):
        with pytest.raises(OutsideWorldFailed, match="TLS"):
            fence_of(f"rediss://127.0.0.1:{relay.port}?ssl_ca_certs={certificate}", name)

    def test_a_server_that_does_not_speak_it_says_so_in_time(self, redis, name):
        with pytest.raises(OutsideWorldFailed, match="TLS"):
            fence_of(f"rediss://localhost:{redis.port}", name, duration=6)


class TestSeveralServers:
    def test_sentinel_names_the_primary_and_the_next_one_after_a_failover(self, tmp_path, name):
        with (
            redis_server(tmp_path) as primary,
            redis_server(tmp_path, "--replicaof", "127.0.0.1", str(primary.port)) as replica,
        ):
            eventually(lambda: replica.client.info("replication")["master_link_status"] == "up")
            watch = (
                f"sentinel monitor releases 127.0.0.1 {primary.port} 1",
                "sentinel down-after-milliseconds releases 300",
                "sentinel failover-timeout releases 3000",
            )
            with redis_server(tmp_path, *watch, program="sentinel") as sentinel:
                url = f"redis+sentinel://127.0.0.1:{free_port()},127.0.0.1:{sentinel.port}/releases/0"
                eventually(lambda: sentinel.client.sentinel_slaves("releases"))
                with pytest.raises(RedisUnavailable, match="No Sentinel names a primary"):
                    fence_of(url.replace("/releases/", "/other/"), name)
                with held(url, name, highest_fence=4) as lease:
                    lease.confirm()
                    eventually(lambda: replica.client.dbsize() == 2)
                    primary.kill()
                    eventually(lambda: confirmed(lease))  # the replica knew of it
                    assert replica.client.info("replication")["role"] == "master"
                    with pytest.raises(OutsideWorldFailed, match="could not be had"):
                        fence_of(url, name)
                assert fence_of(url, name) == 6

    def test_a_failover_to_one_that_did_not_know_of_it_loses_it(self, redis, own_redis, name):
        relay = Relay(own_redis.port)
        try:
            with held(f"redis://127.0.0.1:{relay.port}", name) as lease:
                relay.target = redis.port
                own_redis.kill()
                with pytest.raises(LeaseLost):
                    lease.confirm()
                own_redis.start()
        finally:
            relay.close()

    def test_a_cluster_keeps_both_keys_in_one_slot(self, tmp_path, name):
        port = next(port for port in iter(free_port, None) if port <= 55_535)  # its nodes talk 10 000 ports above
        with redis_server(tmp_path, "--cluster-enabled", "yes", port=port) as node:
            url = f"redis+cluster://127.0.0.1:{free_port()},127.0.0.1:{node.port}"
            with pytest.raises(RedisUnavailable, match="the cluster"):
                fence_of(url, name)
            node.client.execute_command("CLUSTER", "ADDSLOTS", *range(16384))
            eventually(lambda: node.client.execute_command("CLUSTER INFO")["cluster_state"] == "ok")
            with commands_of(node) as sent, held(url, name, highest_fence=4) as lease:
                lease.confirm()
            assert lease.fence == 5
            assert sum(sent.values()) <= 12  # finding out what the cluster is takes most of them
            with held(url, name), pytest.raises(OutsideWorldFailed, match="could not be had"):
                fence_of(url, name)


JOB = """
import sys, time
from datetime import datetime, timezone
from champion_gate import signals
from champion_gate.errors import Cancelled, GateError
from champion_gate.lease import Holder, hold

url, name, duration, lock_timeout = sys.argv[1:]
signals.take()
holder = Holder("job", "", datetime.now(timezone.utc), "promotion", "op")
try:
    times = {"lock_timeout": float(lock_timeout), "duration": float(duration)}
    with hold(url, name, 1, highest_fence=0, holder=holder, **times) as lease:
        print("held", lease.fence, flush=True)
        while sys.stdin.readline():
            lease.require(0.5)
            print("wrote", flush=True)
except Cancelled as cancelled:
    print("cancelled", flush=True)
    sys.exit(cancelled.exit_code)
except GateError as error:
    print(type(error).__name__, flush=True)
    sys.exit(error.exit_code)
"""


@pytest.fixture
def job():
    """Starts a process that takes the lease, and writes for each line that it is sent."""
    started = []

    def start(url, name, duration=60.0, lock_timeout=60.0):
        process = subprocess.Popen(
            [sys.executable, "-c", JOB, url, name, str(duration), str(lock_timeout)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(SCRIPTS)},
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


class TestProcesses:
    def test_a_holder_that_was_frozen_and_wakes_up_late_writes_nothing(self, redis, name, job):
        frozen = job(redis.url, name, duration=2)
        assert frozen.stdout.readline() == "held 1\n"
        os.kill(frozen.pid, signal.SIGSTOP)
        with held(redis, name, created=1, lock_timeout=30) as lease:  # its lease ended by itself
            assert lease.fence == 2
            os.kill(frozen.pid, signal.SIGCONT)
            out, _ = frozen.communicate("go on\n", timeout=30)
            assert out == "LeaseLost\n"
            assert frozen.returncode == 3
            lease.confirm()  # nor did it give back what was not its own

    def test_a_killed_holders_lease_ends_by_itself(self, redis, name, job):
        killed = job(redis.url, name, duration=2)
        assert killed.stdout.readline() == "held 1\n"
        killed.kill()
        with held(redis, name, created=1, lock_timeout=30) as lease:
            assert lease.fence == 2

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_a_cancelled_holder_gives_it_back(self, redis, name, job, number):
        cancelled = job(redis.url, name)
        assert cancelled.stdout.readline() == "held 1\n"
        cancelled.send_signal(number)
        assert cancelled.wait(timeout=30) == 128 + number
        assert cancelled.stdout.read() == "cancelled\n"
        with held(redis, name, created=1):
            pass

    def test_a_cancelled_waiter_leaves_the_holder_alone(self, redis, name, job):
        with held(redis, name, created=1) as lease:
            waiter = job(redis.url, name)
            assert "Waiting for the lease" in waiter.stderr.readline()
            waiter.send_signal(signal.SIGTERM)
            assert waiter.wait(timeout=30) == 128 + signal.SIGTERM
            assert waiter.stdout.read() == "cancelled\n"
            lease.confirm()

    def test_a_waiter_that_is_cancelled_while_redis_stands_still_ends_soon(self, own_redis, name, job):
        with held(own_redis, name, created=1):
            waiter = job(own_redis.url, name, duration=12)
            assert "Waiting for the lease" in waiter.stderr.readline()
            own_redis.freeze()
            waiter.send_signal(signal.SIGTERM)
            assert waiter.wait(timeout=30) == 128 + signal.SIGTERM
            own_redis.thaw()
