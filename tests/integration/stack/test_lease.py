"""The lease in the Redis of the stack, which speaks TLS and wants a password."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from champion_gate.errors import OutsideWorldFailed
from champion_gate.lease import LeaseLost, RedisUnavailable
from tests.integration.test_lease import eventually, fence_of, fences_of_twenty, held, lost
from tests.support.names import unique_model_name


@pytest.fixture
def name():
    return unique_model_name()


@pytest.fixture
def url(stack):
    return stack.redis_url


def test_each_lease_has_a_higher_fence_than_the_one_before(url, name):
    fences = []
    for _ in range(3):
        with held(url, name) as lease:
            lease.require(30)
            lease.confirm()
            fences.append(lease.fence)
        with pytest.raises(LeaseLost, match="given back"):
            lease.require(0)
    assert fences == [1, 2, 3]


def test_a_fence_is_higher_than_the_logs(url, name):
    assert fence_of(url, name, highest_fence=41) == 42
    assert fence_of(url, name, highest_fence=7) == 43


def test_who_holds_it_is_told(url, name):
    with held(url, name), pytest.raises(OutsideWorldFailed, match="could not be had") as refused:
        fence_of(url, name)
    assert "alice (promotion)" in str(refused.value)


def test_it_is_had_when_the_holder_gives_it_back(url, name, capsys):
    with ThreadPoolExecutor(1) as pool:
        with held(url, name):
            waiter = pool.submit(lambda: fence_of(url, name, lock_timeout=60))
            eventually(lambda: "Waiting" in capsys.readouterr().err)
            assert not waiter.done()
        assert waiter.result(timeout=60) == 2


def test_one_holder_at_a_time_among_twenty(url, name, tmp_path):
    assert fences_of_twenty(url, name, tmp_path / "inside", times=1) == list(range(1, 21))


def test_it_is_renewed_while_work_goes_on(url, name):
    with held(url, name, duration=3) as lease:
        first = lease._until
        eventually(lambda: lease._until > first + 2)
        lease.confirm()


def test_a_redis_that_is_away_confirms_nothing_and_the_lease_runs_out(stack, url, name):
    with held(url, name, duration=4) as lease:
        with stack.outage("redis"):
            with pytest.raises(RedisUnavailable):
                lease.confirm()
            eventually(lambda: lost(lease))
        with pytest.raises(LeaseLost):  # and does not come back
            lease.confirm()
    assert fence_of(url, name, highest_fence=1) > 1
