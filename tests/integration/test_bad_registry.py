"""A registry that fails, lies or is silent: exit 3 in time, without secrets, and nothing moved, tagged or decided."""

from __future__ import annotations

import socket
import time

import pytest

from tests.support.server import free_port
from tests.support.steps import history, promote, released, rollback, validated

TIMEOUT = 1.0
# What a process needs beside the look-ups themselves, on a busy machine.
START_UP = 8.0
SECRET = "hunter2-in-the-url"
MODEL = "registered-models/get"


def limited(*arguments):
    return ("--registry-timeout", str(TIMEOUT), *arguments)


FAULTS = {
    "401": lambda rule: rule.answer(401, b'{"error_code": "UNAUTHENTICATED", "message": "who are you"}'),
    "401 without JSON": lambda rule: rule.answer(401, b"You are not authenticated.", "text/plain"),
    "403": lambda rule: rule.answer(403, b'{"error_code": "PERMISSION_DENIED", "message": "no"}'),
    "403 without JSON": lambda rule: rule.answer(403, b"Forbidden", "text/plain"),
    "404 page": lambda rule: rule.answer(404, b"<html>not here</html>", "text/html"),
    "429": lambda rule: rule.answer(429, b"slow down", "text/plain"),
    "500": lambda rule: rule.answer(500, b'{"error_code": "INTERNAL_ERROR", "message": "database is down"}'),
    "502": lambda rule: rule.answer(502, b"<html>bad gateway</html>", "text/html"),
    "503": lambda rule: rule.answer(503, b"try later", "text/plain"),
    "504": lambda rule: rule.answer(504, b"", "text/plain"),
    "login page": lambda rule: rule.login_page(),
    "login redirect": lambda rule: rule.answer(302, b""),
    "empty 200": lambda rule: rule.answer(200, b"", "application/json"),
    "empty object": lambda rule: rule.answer(200, b"{}", "application/json"),
    "other JSON": lambda rule: rule.answer(200, b'{"status": "ok"}', "application/json"),
    "list": lambda rule: rule.answer(200, b"[]", "application/json"),
    "cut JSON": lambda rule: rule.answer(200, b'{"registered_model": {"name": ', "application/json"),
    "silence": lambda rule: rule.silence(),
    "drip": lambda rule: rule.drip(),
    "reset": lambda rule: rule.drop(),
}
# One of each kind, for the commands that share the first look-up with validate-model.
FEW = ("403", "503", "silence", "login page", "empty object")
# And for the look-ups after the first one.
LATER = ("403", "503", "login page", "empty object")


def failed(done, uri):
    assert done.exit_code == 3, done.text
    assert done.seconds < TIMEOUT + START_UP
    assert uri.removeprefix("http://") in done.text, "the address is named"
    assert not done.outputs.get("verdict")
    assert not done.outputs.get("version")
    assert "Traceback" not in done.text
    assert done.annotations("error")


@pytest.mark.parametrize("fault", FAULTS)
def test_validate_model_on_a_registry_that_fails(faulty, proxy, untouched, fault):
    FAULTS[fault](proxy.when())
    failed(faulty("validate-model", "--model-name", untouched.name, *limited("--threshold", 0.5)), proxy.uri)
    assert proxy.writes == []


@pytest.mark.parametrize("path", ["model-versions/get", "runs/get"])
@pytest.mark.parametrize("fault", LATER)
def test_validate_model_when_a_later_look_up_fails(faulty, proxy, untouched, path, fault):
    FAULTS[fault](proxy.when("GET", path))
    failed(faulty("validate-model", "--model-name", untouched.name, *limited("--threshold", 0.5)), proxy.uri)
    assert proxy.seen("GET", path)
    assert proxy.writes == []


# A search that finds nothing is answered "{}" by MLflow itself, so that is no fault there.
SEARCHES = [("runs/search", fault) for fault in LATER if fault != "empty object"]
FIRST = [("", fault) for fault in FEW]


@pytest.mark.parametrize(("path", "fault"), [*FIRST, *SEARCHES, *(("model-versions/get", fault) for fault in LATER)])
def test_promote_alias_on_a_registry_that_fails(faulty, proxy, untouched, path, fault):
    FAULTS[fault](proxy.when(path=path))
    failed(promote(faulty, untouched, *limited()), proxy.uri)
    assert proxy.writes == []


@pytest.mark.parametrize(("path", "fault"), [*FIRST, *SEARCHES])
def test_rollback_on_a_registry_that_fails(faulty, proxy, untouched, path, fault):
    FAULTS[fault](proxy.when(path=path))
    failed(rollback(faulty, untouched, *limited()), proxy.uri)
    assert proxy.writes == []


@pytest.mark.parametrize(("path", "fault"), [*FIRST, *SEARCHES])
def test_history_that_cannot_be_read_is_never_empty(faulty, proxy, untouched, path, fault):
    FAULTS[fault](proxy.when(path=path))
    done = history(faulty, untouched, *limited())
    failed(done, proxy.uri)
    assert "[]" not in done.stdout


def test_refused_connection(cli, world):
    uri = f"http://127.0.0.1:{free_port()}"
    failed(cli.at(uri)("validate-model", "--model-name", world.name, *limited("--threshold", 0.5)), uri)


def test_socket_that_accepts_and_is_silent(cli, world):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(50)
        uri = f"http://127.0.0.1:{listener.getsockname()[1]}"
        failed(cli.at(uri)("validate-model", "--model-name", world.name, *limited("--threshold", 0.5)), uri)


def test_name_that_does_not_resolve(cli, world):
    uri = "http://registry.invalid:5000"
    failed(cli.at(uri)("validate-model", "--model-name", world.name, *limited("--threshold", 0.5)), uri)


def test_the_whole_process_ends_in_time_and_not_after_mlflows_twenty_minutes(cli, proxy, world):
    proxy.when().silence()
    arguments = ("--model-name", world.name, *limited())
    began = time.monotonic()
    with cli.at(proxy.uri).start("validate-model", *arguments) as process:
        assert process.wait(timeout=60) == 3
    assert time.monotonic() - began < TIMEOUT + 2 * START_UP, "a plain process, which imports MLflow too"


@pytest.mark.parametrize("path", [MODEL, "runs/get", "model-versions/get"])
@pytest.mark.parametrize("fault", ["503", "429", "reset"])
def test_a_short_trouble_is_waited_out(faulty, proxy, world, path, fault):
    number = world.version(0.80)
    rule = proxy.when("GET", path, times=2)
    FAULTS[fault](rule)
    done = faulty("validate-model", "--model-name", world.name, "--threshold", 0.5)
    assert done.exit_code == 0, done.text
    assert rule.hits > 2
    assert world.verdict(number)["outcome"] == "passed"


# -- secrets


@pytest.mark.parametrize("debug", [(), ("--debug",)], ids=["plain", "debug"])
@pytest.mark.parametrize("fault", ["401", "403", "503", "login page", "reset", "silence", "empty object"])
def test_credentials_are_never_shown(cli, proxy, world, fault, debug):
    echo = f'{{"error_code": "PERMISSION_DENIED", "message": "{SECRET} and token-{SECRET} may not"}}'.encode()
    faults = {**FAULTS, "403": lambda rule: rule.answer(403, echo)}
    faults[fault](proxy.when())
    uri = proxy.uri.replace("http://", f"http://ada:{SECRET}@")
    done = cli.at(uri)(
        "validate-model",
        *("--model-name", world.name, *limited("--threshold", 0.5), *debug),
        MLFLOW_TRACKING_TOKEN=None if fault != "403" else f"token-{SECRET}",
    )
    assert done.exit_code == 3, done.text
    assert SECRET not in done.text
    assert not any(SECRET in value for value in done.outputs.values())


def test_credentials_of_the_url_are_not_in_other_errors_and_records(cli, world, mlflow_server):
    uri = mlflow_server.uri.replace("http://", f"http://ada:{SECRET}@")
    missing = cli.at(uri)("validate-model", "--model-name", world.name, "--threshold", 0.5)
    assert missing.exit_code == 2, missing.text
    assert SECRET not in missing.text
    world.version(0.80)
    done = cli.at(uri)("release", "--model-name", world.name, "--threshold", 0.5)
    assert done.exit_code == 0, done.text
    assert SECRET not in done.text
    assert SECRET not in str(world.snapshot())


@pytest.mark.parametrize("variable", ["MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN"])
def test_credentials_that_a_server_echoes_are_not_shown(cli, proxy, variable):
    proxy.when().answer(403, f'{{"error_code": "PERMISSION_DENIED", "message": "not with {SECRET}"}}'.encode())
    env = {"MLFLOW_TRACKING_USERNAME": "ada", variable: SECRET}
    done = cli.at(proxy.uri)("history", "--model-name", "search-ranker", **env)
    assert done.exit_code == 3
    assert "not with" in done.text
    assert SECRET not in done.text


def test_refused_connection_with_credentials_in_the_url(cli, world):
    uri = f"http://ada:{SECRET}@127.0.0.1:{free_port()}"
    done = cli.at(uri)("validate-model", "--model-name", world.name, *limited("--debug"))
    assert done.exit_code == 3
    assert SECRET not in done.text


@pytest.mark.parametrize("uri", [f"ftp://ada:{SECRET}@host/x", f"postgresql://ada:{SECRET}@host/mlflow"])
def test_credentials_of_a_url_that_is_no_registry_are_not_shown(cli, uri):
    done = cli.at(uri)("validate-model", "--model-name", "search-ranker")
    assert done.exit_code == 2
    assert SECRET not in done.text


# -- writes that fail, or whose answer is lost


def test_gate_run_is_written_once_though_the_answer_was_lost(faulty, proxy, world):
    number = world.version(0.80)
    proxy.when("POST", "runs/create", times=1).answer_after_forwarding(504)
    done = faulty("validate-model", "--model-name", world.name, "--threshold", 0.5)
    assert done.exit_code == 0, done.text
    assert len(proxy.seen("POST", "runs/create")) == 1
    assert len(world.log("gate")) == 1
    assert world.verdict(number)["gate_run_id"] == done.outputs["gate-run-id"]
    assert len(history(faulty, world).json()) == 1


def test_release_log_is_made_once_though_the_answer_was_lost(faulty, proxy, world):
    world.version(0.80)
    proxy.when("POST", "experiments/create", times=1).lose_answer()
    done = faulty("validate-model", "--model-name", world.name, "--threshold", 0.5)
    assert done.exit_code == 0, done.text
    assert len(world.log("gate")) == 1


@pytest.mark.parametrize("path", ["runs/create", "runs/log-batch", "runs/update", "model-versions/set-tag"])
def test_verdict_that_could_not_be_written_is_none(faulty, proxy, world, path):
    number = world.version(0.80)
    proxy.when("POST", path).answer(503)
    done = faulty("validate-model", "--model-name", world.name, *limited("--threshold", 0.5))
    failed(done, proxy.uri)
    assert "gate.verdict.champion" not in world.version_tags(number)
    assert promote(faulty, world).exit_code == 1


@pytest.mark.parametrize("fault", ["403", "503", "reset"])
def test_promotion_that_cannot_set_the_champion_moves_nothing(faulty, cli, proxy, world, fault):
    first = released(cli, world, 0.80)
    second = validated(cli, world, 0.82)
    FAULTS[fault](proxy.when("POST", "registered-models/alias", '"champion"'))
    done = promote(faulty, world)
    assert done.exit_code == 3, done.text
    assert world.champion == first
    assert world.aliases.get("challenger") == second
    assert "previous-champion" not in world.aliases, "what was there before is restored"
    assert world.last("promotion")["gate.state"] == "undone"
    assert "gate.open_move" not in world.tags
    assert "promoted_at" not in world.version_tags(second)
    assert promote(cli, world).outputs["changed"] == "true", "and it can be done again"
    assert world.aliases == {"champion": second, "previous-champion": first}


def test_promotion_whose_write_got_no_answer_in_time_is_not_called_undone(faulty, cli, proxy, world):
    first = released(cli, world, 0.80)
    validated(cli, world, 0.82)
    proxy.when("POST", "registered-models/alias", '"champion"').silence()
    done = promote(faulty, world, "--registry-timeout", 3)
    assert done.exit_code == 3, done.text
    assert world.champion == first
    run = world.log("promotion")[-1]
    assert run.data.tags["gate.state"] == "open", "the write may still land"
    assert world.tags["gate.open_move"] == run.info.run_id


@pytest.mark.parametrize("fault", ["gateway", "lost"])
def test_promotion_whose_answer_was_lost_is_told_by_reading_back(faulty, cli, proxy, world, fault):
    first = released(cli, world, 0.80)
    second = validated(cli, world, 0.82)
    rule = proxy.when("POST", "registered-models/alias", '"champion"', times=1)
    rule.answer_after_forwarding(504) if fault == "gateway" else rule.lose_answer()
    done = promote(faulty, world)
    assert done.exit_code == 0, done.text
    assert (done.outputs["changed"], done.outputs["version"]) == ("true", second)
    assert world.aliases == {"champion": second, "previous-champion": first}
    assert world.last("promotion")["gate.state"] == "done"
    assert "gate.open_move" not in world.tags


def test_promotion_left_half_way_by_an_outage_is_on_record_as_open(faulty, cli, proxy, world):
    first = released(cli, world, 0.80)
    second = validated(cli, world, 0.82)
    proxy.when("POST", "registered-models/alias", '"champion"').first(lambda: proxy.outage(503))
    done = promote(faulty, world, "--registry-timeout", 3)
    assert done.exit_code == 3, done.text
    assert world.champion == second, "the last that the server did"
    run = world.log("promotion")[-1]
    assert (run.data.tags["gate.state"], run.data.tags["gate.previous"]) == ("open", "none")
    assert (run.data.tags["gate.from"], run.data.tags["gate.to"]) == (first, second)
    assert world.tags["gate.open_move"] == run.info.run_id
    assert history(cli, world).json()[0]["state"] == "open"
    before = world.snapshot()
    for again in (promote(cli, world), rollback(cli, world)):
        assert again.exit_code == 3, again.text
        assert run.info.run_id in again.text
    assert world.snapshot() == before


def test_dropping_the_challenger_may_be_forbidden(faulty, cli, proxy, world):
    released(cli, world, 0.80)
    second = validated(cli, world, 0.82)
    FAULTS["403"](proxy.when("DELETE", "registered-models/alias"))
    done = promote(faulty, world)
    assert done.exit_code == 0, done.text
    assert done.annotations("warning")
    assert (world.champion, world.aliases["challenger"]) == (second, second)
    assert world.last("promotion")["gate.state"] == "done"


def test_rollback_that_cannot_set_the_champion_moves_nothing(faulty, cli, proxy, world):
    first, second = released(cli, world, 0.80), released(cli, world, 0.82)
    proxy.when("POST", "registered-models/alias", '"champion"').answer(503)
    done = rollback(faulty, world)
    assert done.exit_code == 3, done.text
    assert world.aliases == {"champion": second, "previous-champion": first}
    assert world.last("rollback")["gate.state"] == "undone"
    assert rollback(cli, world).outputs["version"] == first
