"""Promotion and rollback with a real Redis: whose turn it is, what others left, and what people did by hand."""

from __future__ import annotations

import datetime as dt
import os
import signal
import sys
import time

import pytest

from champion_gate.lease import Holder, hold
from tests.support.cli import ROOT, Cli
from tests.support.fault_proxy import fault_proxy
from tests.support.prepared import template
from tests.support.redis_server import commands_of
from tests.support.steps import history, promote, rollback, validated

DEAD = -signal.SIGKILL
TRAINING = (sys.executable, ROOT / "tests" / "support" / "trainer.py", "metric=val_ndcg_at_10:0.81", "model=model")
HOLDER = Holder("grace", "https://git.example/runs/7", dt.datetime.now(dt.timezone.utc), "rollback", "op-7")


@pytest.fixture(scope="module")
def three_released(mlflow_server, mlflow_client, forks, tmp_path_factory):
    """Versions 1 to 3 released in turn, 4 with a passed verdict; to be copied."""
    return template(mlflow_client, Cli(mlflow_server.uri, tmp_path_factory.mktemp("released"), forks), 3)


@pytest.fixture
def world(three_released):
    return three_released.copy()


@pytest.fixture
def killed_at(cli, mlflow_server, redis):
    """Runs a command and kills it at a call to the registry: when it was done, and before its answer."""

    def run(step, world, *arguments, method="", path="", body="", done=True, locked=True):
        with fault_proxy(mlflow_server.uri) as proxy:
            rule = proxy.when(method, path, body, times=1)
            rule.kill(cli.kill, forwarded=done, answered=False)
            lock = ("--redis-url", redis.url) if locked else ()
            broken = step(cli.at(proxy.uri), world, *lock, *arguments)
            assert broken.exit_code == DEAD, broken.text
        lease_ends(redis)

    return run


def lease_ends(server):
    """What time does to the lease of a dead holder."""
    with server.client as client:
        for key in client.keys("{champion-gate:*:lease"):
            client.pexpire(key, 1)
        while client.keys("{champion-gate:*:lease"):
            time.sleep(0.001)


def leases(server):
    with server.client as client:
        return client.keys("{champion-gate:*:lease")


def lock(server):
    return ("--redis-url", server.url)


def held_elsewhere(server, world, **more):
    created = world.client.get_registered_model(world.name).creation_timestamp
    return hold(server.url, world.name, created, highest_fence=0, holder=HOLDER, lock_timeout=0, **more)


def states(world, kind="promotion"):
    return [run.data.tags["gate.state"] for run in world.log(kind)]


# -- whose turn it is


def test_promotion_and_rollback_take_the_lease_and_give_it_back(cli, world, redis):
    assert promote(cli, world, *lock(redis)).exit_code == 0
    done = rollback(cli, world, *lock(redis))
    assert done.exit_code == 0, done.text
    assert world.aliases == {"champion": "3", "previous-champion": "2", "rolled-back": "4"}
    tags = [run.data.tags for run in world.log()][-2:]
    assert [t["gate.leased"] for t in tags] == ["true", "true"]
    fences = [int(run.data.tags["gate.fence"]) for run in world.log()]
    assert fences == sorted(set(fences))
    assert leases(redis) == []


def test_calls_of_one_promotion_and_of_one_rollback(faulty, proxy, world, redis, measured):
    for step in (promote, rollback):
        proxy.requests.clear()
        with commands_of(redis) as sent:
            assert step(faulty, world, *lock(redis)).exit_code == 0
        measured(f"{step.__name__}: {len(proxy.requests)} calls to the registry, {sum(sent.values())} to Redis")
        assert sum(sent.values()) <= 6, sent
        if step is promote:
            assert len(proxy.requests) <= 16, [f"{r.method} {r.path}" for r in proxy.requests]


def test_who_waits_too_long_is_told_who_holds_it(cli, world, redis):
    before = world.snapshot()
    with held_elsewhere(redis, world):
        for step in (promote, rollback):
            done = step(cli, world, *lock(redis), "--lock-timeout", 0)
            assert done.exit_code == 3, done.text
            assert "grace" in done.text
            assert HOLDER.run_url in done.text
    assert world.snapshot() == before
    assert promote(cli, world, *lock(redis)).exit_code == 0


def test_who_waits_gets_its_turn_when_the_lease_of_a_dead_job_ends(cli, killed_at, world, redis):
    killed_at(promote, world, method="DELETE", path="/alias")
    with held_elsewhere(redis, world, duration=60.0):
        name = leases(redis)[0]
        token = redis.client.get(name)
    redis.client.set(name, token, px=1500)  # as a job leaves it that was killed
    done = promote(cli, world, *lock(redis), "--lock-timeout", 30)
    assert done.exit_code == 0, done.text
    assert "Waiting for the lease" in done.text
    assert world.champion == "4"


def test_the_model_made_anew_has_another_lease(cli, world, redis):
    with held_elsewhere(redis, world):
        name = world.name
        world.delete_model()
        world.client.create_registered_model(name, tags={"team": "search"})
        world.version(0.9)
        done = promote(cli, world, *lock(redis), "--lock-timeout", 0.2)
    assert done.exit_code == 1, done.text
    assert "no verdict" in done.flat()


def test_training_points_the_challenger_under_the_lease(cli, world, redis):
    options = ("--model-name", world.name, "--experiment-name", world.experiment, "--data-version", "d1")
    command = (*options, *lock(redis), "--", *TRAINING)
    with commands_of(redis) as sent:
        done = cli("train-and-register", *command)
    assert done.exit_code == 0, done.text
    assert sent["eval"] >= 2, "acquired and given back"
    assert world.aliases["challenger"] == "5"
    with held_elsewhere(redis, world):
        done = cli("train-and-register", *options, "--lock-timeout", 0.2, *command[len(options) :])
    assert done.exit_code == 3, done.text
    assert "grace" in done.text
    assert world.aliases["challenger"] == "5"


def test_a_wrong_redis_url_is_said_before_the_training(cli, world, tmp_path):
    options = ("--model-name", world.name, "--experiment-name", world.experiment, "--data-version", "d1")
    for command in ("train-and-register", "release"):
        done = cli(command, *options, "--redis-url", "http://redis.example", "--", "touch", tmp_path / "trained")
        assert done.exit_code == 2, done.text
        assert "redis-url" in done.text
    assert not (tmp_path / "trained").exists()


# -- a holder that stood still, and a Redis that fails


def test_who_stood_still_past_its_lease_writes_nothing_more(cli, world, redis):
    with fault_proxy(cli.uri) as proxy:
        slow = cli.at(proxy.uri)
        frozen = []

        def freeze():
            os.kill(process.pid, signal.SIGSTOP)
            frozen.append(len(proxy.writes))
            time.sleep(7)  # the lease lasts for six
            other = rollback(cli, world, *lock(redis), reason="while it slept")
            frozen.append((other.exit_code, world.aliases, len(proxy.writes)))
            os.kill(process.pid, signal.SIGCONT)

        proxy.when("POST", "registered-models/alias", '"previous-champion"', times=1).first(freeze)
        arguments = ("--model-name", world.name, *lock(redis), "--registry-timeout", "2")
        with slow.start("promote-alias", *arguments) as process:
            out, err = process.communicate(timeout=60)
        assert process.returncode == 3, (out, err)
        (_, (code, between, writes)) = frozen
        assert code == 0
        assert between == {"champion": "2", "previous-champion": "1", "rolled-back": "3", "challenger": "4"}
        assert len(proxy.writes) == writes, "what it had sent before it froze was its last write"
    assert states(world)[-1] == "undone"
    assert world.aliases["previous-champion"] == "3", "a late write: no lock stops what was sent before"
    done = promote(cli, world, *lock(redis), "--version", 2)
    assert done.exit_code == 0, done.text
    assert "Late write repaired" in done.text
    assert world.aliases == {**between}


def test_without_redis_nothing_moves(cli, world, own_redis):
    before = world.snapshot()
    own_redis.kill()
    for step in (promote, rollback):
        done = step(cli, world, *lock(own_redis))
        assert done.exit_code == 3, done.text
        assert "Redis" in done.text
    assert world.snapshot() == before


def test_with_a_redis_that_takes_no_writes_nothing_moves(cli, world, own_redis):
    before = world.snapshot()
    own_redis.client.replicaof("127.0.0.1", 1)
    done = promote(cli, world, *lock(own_redis))
    assert done.exit_code == 3, done.text
    assert "replica" in done.text
    assert world.snapshot() == before


@pytest.mark.parametrize("how", ["flushed", "restarted", "killed", "read-only"])
def test_a_redis_that_forgets_or_fails_in_the_middle_stops_the_move_before_an_alias(
    faulty, cli, proxy, world, own_redis, how
):
    aliases = world.aliases
    happens = {
        "flushed": own_redis.client.flushall,
        "restarted": own_redis.restart,
        "killed": own_redis.kill,
        "read-only": lambda: own_redis.client.replicaof("127.0.0.1", 1),
    }[how]
    proxy.when("POST", "set-tag", "gate.open_move", times=1).first(happens)
    done = promote(faulty, world, *lock(own_redis))
    assert done.exit_code == 3, done.text
    assert world.aliases == aliases
    assert proxy.seen("POST", "registered-models/alias") == []
    if how == "killed":
        own_redis.start()
    if how == "read-only":
        own_redis.client.replicaof("NO", "ONE")
    lease_ends(own_redis)
    again = promote(cli, world, *lock(own_redis))
    assert (again.exit_code, world.champion) == (0, "4"), again.text
    assert states(world)[-2:] == ["undone", "done"]


def test_a_redis_that_was_flushed_does_not_count_anew(cli, world, own_redis):
    assert promote(cli, world, *lock(own_redis)).exit_code == 0
    own_redis.client.flushall()
    assert rollback(cli, world, *lock(own_redis)).exit_code == 0
    fences = [int(run.data.tags["gate.fence"]) for run in world.log()]
    assert fences == sorted(set(fences))


# -- what a killed job left


def test_an_open_move_whose_alias_moved_is_finished_and_says_so(cli, killed_at, world, redis):
    killed_at(promote, world, method="POST", path="registered-models/alias", body='"alias": "champion"')
    assert (world.champion, states(world)[-1]) == ("4", "open")
    done = promote(cli, world, *lock(redis), GITHUB_ACTOR="grace")
    assert (done.exit_code, done.outputs["changed"]) == (0, "false"), done.text
    assert "was left open" in done.flat()
    assert "it was finished" in done.flat()
    assert world.last("promotion")["gate.recovered_by"] == "grace"
    assert history(cli, world).json()[0]["state"].startswith("done")


def test_an_open_move_whose_alias_did_not_move_is_undone_and_says_so(cli, killed_at, world, redis):
    killed_at(promote, world, method="POST", path="registered-models/alias", body="previous-champion")
    assert world.aliases["previous-champion"] == "3"
    done = rollback(cli, world, *lock(redis))
    assert done.exit_code == 0, done.text
    assert "it was undone" in done.flat()
    assert (world.champion, states(world)[-1]) == ("2", "undone")


def test_a_cleaner_of_stuck_runs_changes_nothing(cli, killed_at, world, redis):
    killed_at(promote, world, method="POST", path="registered-models/alias", body='"alias": "champion"')
    world.client.set_terminated(world.tags["gate.open_move"], "KILLED")
    done = promote(cli, world, *lock(redis))
    assert "it was finished" in done.flat()
    assert states(world)[-1] == "done"
    assert world.log("promotion")[-1].info.status == "FINISHED"


def test_another_job_that_finds_the_rollback_half_done_does_not_go_further_back(cli, killed_at, world, redis):
    killed_at(rollback, world, method="POST", path="registered-models/alias", body='"alias": "champion"')
    done = rollback(cli, world, *lock(redis))
    assert (done.exit_code, done.outputs["changed"]) == (0, "false"), done.text
    assert (done.outputs["version"], done.outputs["rolled-back-version"], world.champion) == ("2", "3", "2")
    assert world.version_tags("3")["rollback_reason"] == "clicks fell"
    again = rollback(cli, world, *lock(redis))
    assert (again.outputs["version"], world.champion) == ("1", "1"), "asked once more, it does"


def test_several_steps_are_not_counted_from_a_rollback_that_was_finished_just_now(cli, killed_at, world, redis):
    killed_at(rollback, world, method="POST", path="registered-models/alias", body='"alias": "champion"')
    done = rollback(cli, world, *lock(redis), "--steps", 2)
    assert done.exit_code == 1, done.text
    assert (world.champion, states(world, "rollback")) == ("2", ["done"])


def test_a_rollback_from_the_version_of_now_goes_on_after_a_recovery(cli, killed_at, world, redis):
    killed_at(rollback, world, method="POST", path="registered-models/alias", body='"alias": "champion"')
    done = rollback(cli, world, *lock(redis), "--from-version", 2)
    assert (done.exit_code, world.champion) == (0, "1"), done.text


def test_the_same_rollback_job_again_finishes_its_own_move(cli, killed_at, world, redis):
    own = {"GITHUB_RUN_ID": "900200"}
    killed_at(
        lambda *given: rollback(*given, **own), world, method="POST", path="registered-models/alias", body='"champion"'
    )
    done = rollback(cli, world, *lock(redis), **own, GITHUB_RUN_ATTEMPT="2")
    assert (done.exit_code, done.outputs["changed"], world.champion) == (0, "false", "2"), done.text


def test_a_name_that_comes_back_late_is_taken_off_and_nothing_moves(cli, killed_at, world, redis):
    killed_at(promote, world, method="POST", path="set-tag", body="gate.open_move", done=False)
    late = world.log("promotion")[-1].info.run_id
    assert rollback(cli, world, *lock(redis)).exit_code == 0
    world.client.set_registered_model_tag(world.name, "gate.open_move", late)
    done = promote(cli, world, *lock(redis), "--version", 2)
    assert (done.exit_code, done.outputs["changed"]) == (0, "false"), done.text
    assert (world.champion, states(world)[-1]) == ("2", "undone")
    assert "gate.open_move" not in world.tags


def test_an_open_move_that_lost_its_name_to_a_late_write_is_finished(cli, killed_at, world, redis):
    killed_at(promote, world, method="POST", path="registered-models/alias", body='"alias": "champion"')
    world.client.delete_registered_model_tag(world.name, "gate.open_move")
    done = promote(cli, world, *lock(redis))
    assert done.exit_code == 0, done.text
    assert "it was finished" in done.flat()
    assert states(world)[-1] == "done"


def test_the_open_move_of_a_model_that_was_deleted_is_none_of_the_new_one(cli, killed_at, world, redis):
    killed_at(promote, world, method="POST", path="registered-models/alias", body="previous-champion")
    open_move, experiment = world.tags["gate.open_move"], world.log_experiment
    world.delete_model()
    number = world.version(0.9)
    world.client.set_registered_model_tag(world.name, "gate.release_log", experiment)
    world.client.set_registered_model_tag(world.name, "gate.open_move", open_move)
    assert validated(cli, world, 0.91)
    done = promote(cli, world, *lock(redis))
    assert done.exit_code == 0, done.text
    assert world.champion != number
    assert "gate.open_move" not in world.tags


def test_of_two_runs_with_one_operation_id_the_first_counts(cli, world, redis):
    last = world.last("promotion")
    world.client.create_run(world.log_experiment, tags={**last, "gate.to": "1", "gate.after": '{"champion":"1"}'})
    done = rollback(cli, world, *lock(redis))
    assert (done.exit_code, done.outputs["version"]) == (0, "2"), done.text


def test_a_deleted_log_is_exit_3_and_nothing_moves(cli, world, redis):
    world.client.delete_experiment(world.log_experiment)
    before = world.snapshot()
    for step in (promote, rollback):
        done = step(cli, world, *lock(redis))
        assert done.exit_code == 3, done.text
        assert "Restore it" in done.flat()
    for command in ("validate-model", "release"):
        done = cli(command, "--model-name", world.name, "--threshold", "0.1")
        assert done.exit_code == 3, done.text
        assert "Restore it" in done.flat()
    assert world.snapshot() == before


def test_a_log_that_the_model_does_not_name_any_more_is_exit_3_and_nothing_moves(cli, world, redis):
    world.client.delete_registered_model_tag(world.name, "gate.release_log")
    for team in (world.team, "other", None):
        if team:
            world.client.set_registered_model_tag(world.name, "team", team)
        else:
            world.client.delete_registered_model_tag(world.name, "team")
        told = cli("history", "--model-name", world.name, github=False)
        if team == world.team:
            assert (told.exit_code, "promotion" in told.text) == (0, True), "it is found by its name"
            continue
        assert told.exit_code == 3, told.text
        before = world.snapshot()
        for step in (promote, rollback):
            done = step(cli, world, *lock(redis))
            assert done.exit_code == 3, done.text
            assert "does not name it" in done.flat()
        assert world.snapshot() == before
    world.client.delete_experiment(world.client.get_experiment_by_name(f"/search/{world.name}/releases").experiment_id)
    done = promote(cli, world, *lock(redis))
    assert done.exit_code == 3, done.text
    assert "experiments restore" in done.flat()


# -- what people did by hand


def test_an_alias_moved_by_hand_between_moves_is_reported_and_kept(cli, world, redis):
    world.point("champion", "1")
    before = world.snapshot()
    for step in (promote, rollback):
        done = step(cli, world, *lock(redis))
        assert done.exit_code == 1, done.text
        assert "is version 1, and the release log says 3" in done.flat()
        assert "expect-champion 1" in done.flat()
    assert promote(cli, world, *lock(redis), "--expect-champion", 2).exit_code == 1, "not what is there"
    assert world.snapshot() == before


def test_who_knows_of_it_may_go_on(cli, world, redis):
    world.point("champion", "2")
    number = validated(cli, world, 0.95)
    done = promote(cli, world, *lock(redis), "--expect-champion", 2)
    assert done.exit_code == 0, done.text
    assert world.aliases == {"champion": number, "previous-champion": "2"}
    assert promote(cli, world, *lock(redis), "--version", number).exit_code == 0, "the log knows it now"


def test_who_expects_another_champion_than_there_is_moves_nothing(cli, world, redis):
    before = world.snapshot()
    for step in (promote, rollback):
        done = step(cli, world, *lock(redis), "--expect-champion", 1)
        assert done.exit_code == 1, done.text
        assert "is version 3, not 1" in done.flat()
    assert world.snapshot() == before
    assert promote(cli, world, *lock(redis), "--expect-champion", 3).exit_code == 0
    again = promote(cli, world, *lock(redis), "--version", 4, "--expect-champion", 3)
    assert (again.exit_code, again.outputs["changed"]) == (0, "false"), "done twice it changes nothing"


def test_a_rollback_from_a_version_set_by_hand(cli, world, redis):
    world.point("champion", "4")
    assert rollback(cli, world, *lock(redis)).exit_code == 1
    done = rollback(cli, world, *lock(redis), "--from-version", 4)
    assert (done.exit_code, world.champion, world.aliases["rolled-back"]) == (0, "3", "4"), done.text


def test_an_alias_moved_by_hand_while_a_move_is_open_is_reported_and_kept(cli, killed_at, world, redis):
    killed_at(promote, world, method="POST", path="registered-models/alias", body='"alias": "champion"')
    world.point("champion", "1")
    before = world.snapshot()
    done = promote(cli, world, *lock(redis))
    assert done.exit_code == 1, done.text
    assert "moved it by hand while a move was open" in done.flat()
    assert "from version 3 to 4" in done.flat()
    assert world.snapshot() == before
    number = validated(cli, world, 0.95)
    done = promote(cli, world, *lock(redis), "--expect-champion", 1)
    assert done.exit_code == 0, done.text
    assert world.champion == number
    assert states(world)[-2:] == ["undone", "done"]


def test_an_alias_deleted_by_hand_while_a_move_is_open_says_how_to_go_on(cli, killed_at, world, redis):
    killed_at(promote, world, method="POST", path="registered-models/alias", body='"alias": "champion"')
    world.client.delete_registered_model_alias(world.name, "champion")
    done = rollback(cli, world, *lock(redis))
    assert done.exit_code == 1, done.text
    world.point("champion", "3")
    done = rollback(cli, world, *lock(redis))
    assert (done.exit_code, world.champion) == (0, "2"), done.text


def test_what_a_person_set_after_an_abandoned_move_is_by_hand(cli, killed_at, world, redis):
    killed_at(promote, world, method="POST", path="set-tag", body="gate.open_move", done=False)
    world.point("champion", "4")
    done = rollback(cli, world, *lock(redis))
    assert done.exit_code == 1, done.text
    assert "by hand" in done.flat()


def test_the_run_of_the_open_move_is_gone(cli, killed_at, world, redis):
    killed_at(promote, world, method="POST", path="registered-models/alias", body="previous-champion")
    world.client.delete_run(world.tags["gate.open_move"])
    before = world.snapshot()
    assert promote(cli, world, *lock(redis)).exit_code == 3
    assert world.snapshot() == before
    done = promote(cli, world, *lock(redis), "--expect-champion", 3)
    assert (done.exit_code, world.champion) == (0, "4"), done.text


# -- late writes


def test_a_late_write_of_a_superseded_move_is_repaired(cli, killed_at, world, redis):
    killed_at(promote, world, method="POST", path="registered-models/alias", body='"alias": "champion"', done=False)
    assert rollback(cli, world, *lock(redis)).exit_code == 0
    world.point("champion", "4")  # what the killed job had sent
    shown = history(cli, world)
    assert "late write" in shown.text
    done = promote(cli, world, *lock(redis), "--version", 2)
    assert (done.exit_code, done.outputs["changed"]) == (0, "false"), done.text
    assert "Late write repaired" in done.text
    assert world.champion == "2"


def test_a_late_write_of_the_first_promotion_is_none_by_hand(cli, killed_at, mlflow_client, redis, model_name):
    from tests.support.registry_world import World

    world = World(mlflow_client, model_name)
    number = validated(cli, world, 0.8)
    killed_at(promote, world, method="POST", path="registered-models/alias", body='"alias": "champion"', done=False)
    assert promote(cli, world, *lock(redis), "--version", number, "--commit", "0" * 40).exit_code == 1
    assert states(world) == ["undone"]
    world.point("champion", number)
    done = promote(cli, world, *lock(redis))
    assert (done.exit_code, done.outputs["changed"]) == (0, "true"), done.text
    assert world.champion == number
    assert states(world) == ["undone", "done"]


# -- without a lock


def test_without_a_lock_there_is_a_notice_and_a_young_open_move_is_somebody_at_work(cli, killed_at, world):
    killed_at(promote, world, method="POST", path="registered-models/alias", body="previous-champion", locked=False)
    before = world.snapshot()
    done = promote(cli, world)
    assert done.exit_code == 3, done.text
    assert any("No lock" in line for line in done.annotations("notice")), done.text
    assert "Another job is at work" in done.flat()
    assert world.snapshot() == before


def test_without_a_lock_an_old_open_move_is_recovered(cli, killed_at, world):
    killed_at(promote, world, method="POST", path="registered-models/alias", body="previous-champion", locked=False)
    young = world.client.get_run(world.tags["gate.open_move"])
    began = young.info.start_time - 16 * 60 * 1000
    old = world.client.create_run(world.log_experiment, start_time=began, tags=young.data.tags).info.run_id
    world.client.delete_run(young.info.run_id)
    world.client.set_registered_model_tag(world.name, "gate.open_move", old)
    done = promote(cli, world)
    assert (done.exit_code, world.champion) == (0, "4"), done.text
    assert "it was undone" in done.flat()


# -- hold, reinstatement, steps


def test_hold_stops_promotions_until_it_is_released(cli, world, redis):
    done = rollback(cli, world, *lock(redis), "--hold", reason="holidays")
    assert done.exit_code == 0, done.text
    assert "on hold: nothing is promoted" in done.text
    assert "Promotions are on hold" in done.summary
    number = validated(cli, world, 0.95)
    done = promote(cli, world, *lock(redis))
    assert done.exit_code == 1, done.text
    assert "ada" in done.text
    assert "holidays" in done.text
    assert rollback(cli, world, *lock(redis), "--release-hold", reason="back").exit_code == 0
    assert "gate.hold" not in world.tags
    assert states(world, "hold release") == ["done"]
    assert promote(cli, world, *lock(redis)).exit_code == 0
    assert world.champion == number
    assert "UNCHANGED" in rollback(cli, world, *lock(redis), "--release-hold", reason="again").text
    (lifted,) = [line for line in history(cli, world).summary.splitlines() if "hold release" in line]
    assert "holidays" in lifted  # what the hold had said, beside why it was lifted
    assert "back" in lifted


def test_a_refused_rollback_says_that_the_hold_it_was_to_set_is_set(cli, world, redis):
    before = world.aliases
    done = rollback(cli, world, *lock(redis), "--hold", "--from-version", 1, reason="holidays")
    assert (done.exit_code, world.aliases) == (1, before), done.text
    assert "Promotions are on hold, as you asked." in done.flat()
    assert "gate.hold" in world.tags


def test_a_dry_run_lifts_no_hold(cli, world, redis):
    assert rollback(cli, world, *lock(redis), "--hold", reason="holidays").exit_code == 0
    before = world.snapshot()
    done = rollback(cli, world, *lock(redis), "--release-hold", "--dry-run")
    assert done.exit_code == 0, done.text
    assert "holidays" in done.text
    assert world.snapshot() == before


def test_the_same_rollback_job_again_does_not_hold_what_somebody_released(cli, world, redis):
    job = {"GITHUB_RUN_ID": "77"}
    assert rollback(cli, world, *lock(redis), "--hold", **job).exit_code == 0
    assert rollback(cli, world, *lock(redis), "--release-hold", GITHUB_RUN_ID="78").exit_code == 0
    again = rollback(cli, world, *lock(redis), "--hold", **job)
    assert (again.exit_code, again.outputs["changed"]) == (0, "false"), again.text
    assert "gate.hold" not in world.tags


def test_a_killed_release_of_a_hold_is_done_by_the_next(cli, killed_at, world, redis):
    assert rollback(cli, world, *lock(redis), "--hold").exit_code == 0
    killed_at(rollback, world, "--release-hold", method="DELETE", path="delete-tag", body="gate.hold", done=False)
    assert "gate.hold" in world.tags
    assert rollback(cli, world, *lock(redis), "--release-hold").exit_code == 0
    assert "gate.hold" not in world.tags


def test_quarantine_ends_only_by_a_reason(cli, world, redis):
    assert promote(cli, world, *lock(redis)).exit_code == 0
    assert rollback(cli, world, *lock(redis)).exit_code == 0
    judged = cli("validate-model", "--model-name", world.name, "--threshold", "0.1", "--version", 4)
    assert judged.exit_code == 0, judged.text
    assert promote(cli, world, *lock(redis), "--version", 4).exit_code == 1
    done = promote(cli, world, *lock(redis), "--version", 4, "--reinstate", "the clicks were bots")
    assert (done.exit_code, world.champion) == (0, "4"), done.text
    assert world.last("promotion")["gate.reinstated"] == "the clicks were bots"
    assert "reinstated" in history(cli, world).text


def test_steps_go_several_good_releases_back(cli, world, redis):
    done = rollback(cli, world, *lock(redis), "--steps", 2)
    assert (done.exit_code, world.champion) == (0, "1"), done.text
    assert "previous-champion" not in world.aliases
    assert rollback(cli, world, *lock(redis), "--steps", 5).exit_code == 2
