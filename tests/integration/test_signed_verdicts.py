"""Forged, stale and borrowed verdicts on a real registry: none of them moves an alias, with a key or without."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest

from champion_gate import moves, verdict
from champion_gate.errors import Refused
from champion_gate.github import Context
from champion_gate.moves import Approved, Promotion
from champion_gate.moving import Rules
from champion_gate.registry import Registry
from tests.support import judged
from tests.support.cli import ACTOR, COMMIT, REPOSITORY, ROOT, Cli
from tests.support.github_api import User
from tests.support.names import unique_model_name
from tests.support.registry_world import World
from tests.support.steps import history, promote, released, rollback, validated

KEY, OLD, OTHER = ("key-" + letter * 40 for letter in "abc")
TAG = "gate.verdict.champion"
TOKEN = "token-of-the-job"
KEYS = {"CHAMPION_GATE_SIGNING_KEY": KEY}
JOB = Context(ACTOR, COMMIT, "main", REPOSITORY, "1", "https://github.com/acme/search/actions/runs/1", "push")


def dumped(document):
    return json.dumps(document, sort_keys=True, separators=(",", ":"))


def put(world, number, tag, alias="champion"):
    world.client.set_model_version_tag(world.name, number, f"gate.verdict.{alias}", tag)


def refusal(world, *, number, keys=(), **more):
    """Why a promotion is refused, asked in this process; nothing may have changed by it."""
    registry = Registry(world.client, "http://registry", 30.0)
    asked = Promotion(Approved("ada"), number, keys=keys, **more)
    before = world.snapshot()
    with pytest.raises(Refused) as raised:
        moves.promote(registry, world.name, JOB, asked, Rules())
    assert world.snapshot() == before, "nothing moved, nothing was written"
    return str(raised.value)


def allowed(world, *, number, keys=(), **more):
    registry = Registry(world.client, "http://registry", 30.0)
    asked = Promotion(Approved("ada"), number, keys=keys, dry_run=True, **more)
    moved = moves.promote(registry, world.name, JOB, asked, Rules())
    return moved.to_version == number and not moved.changed


@pytest.fixture(scope="module")
def signed_once(mlflow_server, mlflow_client, forks, tmp_path_factory):
    """Versions 1 and 2 released, 3 judged with a key and not promoted, 4 and 5 not judged; made once."""
    world = World(mlflow_client, unique_model_name())
    cli = Cli(mlflow_server.uri, tmp_path_factory.mktemp("signed"), forks)
    for ndcg in (0.80, 0.82):
        released(cli, world, ndcg)
    number = world.version(0.84)
    baseline = ("--baseline-version", "1")
    done = cli("validate-model", "--model-name", world.name, "--threshold", "0.1", *baseline, **KEYS)
    assert done.exit_code == 0, done.text
    world.version(0.99, alias=None)
    return world, number, world.version_tags(number)[TAG]


@pytest.fixture
def signed(signed_once):
    world, number, tag = signed_once
    yield world, number, tag
    put(world, number, tag)


# -- each field that a verdict is bound to

# What a forger puts there, and by which words the registry comparison tells without a key; None where it cannot.
FORGED = {
    "outcome": ("failed", "the verdict is failed"),
    "basis": ("paired test", None),
    "purpose": ("check", "pull request"),
    "model.name": ("search-other", "search-other"),
    "model.created": (1, "made anew"),
    "version.number": ("2", "version 2"),
    "version.created": (1, "replaced"),
    "version.run_id": ("0" * 32, "replaced"),
    "version.source": ("s3://elsewhere", "replaced"),
    "alias": ("champion-eu", "champion-eu"),
    "champion": ("1", "version 1"),
    "baseline": ("77", "baseline version 77"),
    "policy_digest": ("sha256:0", "another policy"),
    "dataset_digest": ("sha256:0", "another dataset"),
    "metric_options": ({"k": "1"}, None),
    "isolation": ("sandbox", None),
    "promote_inconclusive": (True, None),
    "repository": ("mallory/search", None),
    "commit": ("0" * 40, "another commit"),
    "time": ("2020-01-01T00:00:00Z", "days old"),
    "gate_run_id": ("0" * 32, None),
    "artifacts_digest": ("sha256:0", None),
    "checks": ([], "no check"),
    "checks_left_out": (9, None),
}


def forged(tag, field, value):
    document = json.loads(tag)
    inner, _, last = field.rpartition(".")
    target = document[inner] if inner else document
    assert target[last] != value
    target[last] = value
    return dumped(document)


def test_the_forged_fields_are_all_that_there_are(signed):
    document = json.loads(signed[2])
    fields = {f.partition(".")[0] for f in FORGED}
    assert fields == set(document) - {"schema", "signature"}
    assert {f"model.{name}" for name in document["model"]} <= set(FORGED)
    assert {f"version.{name}" for name in document["version"]} <= set(FORGED)


@pytest.mark.parametrize("field", FORGED)
def test_a_forged_field_is_refused_with_a_key_and_where_the_registry_tells_without(signed, field):
    world, number, tag = signed
    assert allowed(world, number=number, keys=(KEY,))
    value, words = FORGED[field]
    was = json.loads(tag)
    put(world, number, forged(tag, field, value))
    assert "signature" in refusal(world, number=number, keys=(KEY,))
    # dataset and commit are compared where they are given, and policy is computed from the promotion's own checkout
    expected = verdict.Expected(was["policy_digest"], was["dataset_digest"] or "sha256:none", was["commit"])
    if field != "dataset_digest":
        expected = replace(expected, dataset_digest=None)
    if words is None:
        assert allowed(world, number=number, expected=expected), "what only a signature protects"
    else:
        assert words in refusal(world, number=number, expected=expected)


def test_a_forged_field_signed_again_with_another_key_is_refused(signed):
    world, number, tag = signed
    document = json.loads(forged(tag, "basis", "paired test"))
    del document["signature"]
    put(world, number, verdict.signed(dumped(document), [OTHER]))
    assert "signature" in refusal(world, number=number, keys=(KEY, OLD))


def test_an_unsigned_verdict_is_refused_by_who_has_a_key(signed):
    world, number, tag = signed
    document = json.loads(tag)
    del document["signature"]
    put(world, number, dumped(document))
    assert "not signed" in refusal(world, number=number, keys=(KEY,))
    assert allowed(world, number=number), "who has no key must take what is there"


def test_keys_are_rotated(signed):
    world, number, tag = signed
    document = json.loads(tag)
    del document["signature"]
    put(world, number, verdict.signed(dumped(document), [OLD]))
    assert "signature" in refusal(world, number=number, keys=(KEY,))
    assert "signature" in refusal(world, number=number, keys=(KEY, OTHER))
    assert allowed(world, number=number, keys=(KEY, OLD))
    put(world, number, verdict.signed(dumped(document), [KEY, OLD]))
    assert allowed(world, number=number, keys=(KEY,))


@pytest.mark.parametrize(
    "spelled",
    [
        lambda tag: tag.replace(",", ", ", 1),
        lambda tag: '{"outcome":"failed",' + tag[1:],
        lambda tag: tag[:-1] + ',"champion":"2"}',
        lambda tag: json.dumps(json.loads(tag), indent=2),
    ],
)
@pytest.mark.parametrize("keys", [(), (KEY,)])
def test_a_verdict_in_another_spelling_is_refused(signed, spelled, keys):
    world, number, tag = signed
    put(world, number, spelled(tag))
    assert "no verdict" in refusal(world, number=number, keys=keys)


# -- a genuine verdict in a place where it does not belong


@pytest.mark.parametrize("keys", [(), (KEY,)])
def test_a_signed_verdict_counts_for_no_other_version_alias_or_model(signed, world, keys):
    of, number, tag = signed
    put(of, "4", tag)
    assert f"version {number}" in refusal(of, number="4", keys=keys)
    of.client.delete_model_version_tag(of.name, "4", TAG)
    put(of, number, tag, alias="champion-eu")
    said = refusal(of, number=number, keys=keys, to_alias="champion-eu")
    assert "against the alias 'champion'" in said
    of.client.delete_model_version_tag(of.name, number, "gate.verdict.champion-eu")
    there = world.version(0.10)
    put(world, there, tag)
    assert of.name in refusal(world, number=there, keys=keys)


def test_a_signature_is_worth_nothing_on_another_verdict(signed):
    world, number, tag = signed
    document = json.loads(tag) | {"outcome": "passed", "champion": "none"}
    put(world, number, dumped(document))
    assert "signature" in refusal(world, number=number, keys=(KEY,))


@pytest.mark.parametrize("keys", [(), (KEY,)])
def test_a_verdict_replayed_after_the_model_was_made_anew_is_refused(cli, world, keys):
    number = validated(cli, world, 0.80)
    put(world, number, tag := verdict.signed(world.version_tags(number)[TAG], [KEY]))
    assert allowed(world, number=number, keys=keys)
    world.delete_model()
    assert world.version(0.10) == number, "MLflow numbers versions from 1 again"
    put(world, number, tag)
    said = refusal(world, number=number, keys=keys)
    assert "made anew" in said
    assert "replaced" in said


@pytest.mark.parametrize("keys", [(), (KEY,)])
def test_a_verdict_of_days_gone_by_is_refused_once_the_champion_moved_on(cli, world, keys):
    released(cli, world, 0.80)
    number = validated(cli, world, 0.82)
    tag = verdict.signed(world.version_tags(number)[TAG], [KEY])
    newer = validated(cli, world, 0.83)
    assert promote(cli, world, "--version", newer).exit_code == 0
    put(world, number, tag)
    assert f"'champion' is now version {newer}" in refusal(world, number=number, keys=keys)


def test_a_pull_requests_verdict_is_never_promotable_signed_or_not(cli, world):
    number = world.version(0.80)
    arguments = ("--model-name", world.name, "--threshold", "0.1")
    done = cli("validate-model", *arguments, GITHUB_EVENT_NAME="pull_request", GITHUB_REF="refs/pull/7/merge", **KEYS)
    assert done.exit_code == 0, done.text
    assert world.verdict(number)["purpose"] == "check"
    assert "pull request" in refusal(world, number=number, keys=(KEY,))
    put(world, number, forged(world.version_tags(number)[TAG], "purpose", "release"))
    assert "signature" in refusal(world, number=number, keys=(KEY,))


def test_a_pull_requests_verdict_is_not_overridden_either(cli, world, github):
    world.version(0.80)
    arguments = ("--model-name", world.name, "--threshold", "0.1")
    assert cli("validate-model", *arguments, GITHUB_EVENT_NAME="pull_request").exit_code == 0
    github.review("grace", "approved", "production")
    done = overriding(cli, world, github)
    assert done.exit_code == 1, done.text
    assert "pull request" in done.flat()
    assert "champion" not in world.aliases


# -- age, and clocks that differ


def test_the_age_limit_is_as_given(cli, signed):
    world, number, tag = signed
    hour_ago = (datetime.now(timezone.utc) - timedelta(hours=1)).isoformat()
    put(world, number, forged(tag, "time", hour_ago))
    refused = promote(cli, world, "--version", number, "--max-verdict-age", "30m", "--dry-run")
    assert refused.exit_code == 1, refused.text
    assert "1 hours old" in refused.flat()
    assert promote(cli, world, "--version", number, "--max-verdict-age", "2h", "--dry-run").exit_code == 0
    for wrong in ("0h", "-1h", "7", "a week", "1w"):
        done = promote(cli, world, "--version", number, f"--max-verdict-age={wrong}", "--dry-run")
        assert done.exit_code == 2, done.text
        assert "max-verdict-age" in done.text


@pytest.mark.parametrize(
    ("gate_is", "words"),
    [
        (timedelta(hours=1), "future"),  # the gate's clock an hour before the promotion's
        (timedelta(minutes=6), "future"),
        (timedelta(minutes=4), None),
        (timedelta(hours=-1), None),  # an hour behind: it looks older than it is
        (timedelta(days=-7, hours=1), None),
        (timedelta(days=-7, hours=-1), "old"),
    ],
)
def test_a_clock_that_is_off_lets_no_verdict_pass_that_is_too_old_or_too_new(signed, gate_is, words):
    world, number, tag = signed
    document = json.loads(tag)
    del document["signature"]
    document["time"] = (datetime.now(timezone.utc) + gate_is).isoformat()
    put(world, number, verdict.signed(dumped(document), [KEY]))
    if words is None:
        assert allowed(world, number=number, keys=(KEY,))
    else:
        assert words in refusal(world, number=number, keys=(KEY,))


# -- what is compared when it is given, and reported when it is not


def test_policy_dataset_and_commit_are_compared_when_given(cli, world, tmp_path):
    policy, other = tmp_path / "policy.yml", tmp_path / "other.yml"
    policy.write_text("metrics:\n  - name: val_ndcg_at_10\n    threshold: 0.1\n")
    other.write_text("metrics:\n  - name: val_ndcg_at_10\n    threshold: 0.05\n")
    number = world.version(0.80)
    done = cli("validate-model", "--model-name", world.name, "--policy", policy)
    assert done.exit_code == 0, done.text
    recorded = world.verdict(number)
    for arguments, words in (
        (("--policy", other), "another policy"),
        (("--dataset-digest", "sha256:0"), "another dataset"),
        (("--commit", "0" * 40), "another commit"),
    ):
        refused = promote(cli, world, *arguments)
        assert refused.exit_code == 1, refused.text
        assert words in refused.flat()
    assert promote(cli, world, "--policy", tmp_path / "none.yml").exit_code == 2
    unsaid = promote(cli, world, "--dry-run")
    assert f"Recorded, not verified: policy {recorded['policy_digest'][:19]}, commit {COMMIT[:19]}" in unsaid.stderr
    done = promote(cli, world, "--policy", policy, "--commit", COMMIT)
    assert done.exit_code == 0, done.text
    assert "not verified" not in done.text
    assert world.champion == number


@pytest.fixture
def ranker(mlflow_server, mlflow_client, world, tmp_path):
    world.team = "search"
    return judged.log_ranker(mlflow_client, mlflow_server.uri, world.name, "good", tmp_path)


def artifact(world, server_folder, number, name):
    """A file of the model where the server keeps it."""
    source = world.client.get_model_version(world.name, number).source
    model_id = source.rpartition("/")[2]
    [found] = [path for path in server_folder.rglob(name) if model_id in str(path)]
    return found


def test_changed_files_of_a_model_are_found(cli, world, ranker, mlflow_server):
    arguments = ("--model-name", world.name, "--threshold", "0.1")
    assert cli("validate-model", *arguments).exit_code == 0
    never = promote(cli, world, "--verify-artifacts", "--dry-run")
    assert never.exit_code == 1, "what was not hashed cannot be verified"
    assert "other model files" in never.flat()
    done = cli("validate-model", *arguments, "--verify-artifacts", **KEYS)
    assert done.exit_code == 0, done.text
    assert world.verdict(ranker)["artifacts_digest"].startswith("sha256:")
    same = promote(cli, world, "--verify-artifacts", "--dry-run", **KEYS)
    assert same.exit_code == 0, same.text
    assert "files sha256:" not in same.text
    file = artifact(world, mlflow_server.log.parent, ranker, "MLmodel")
    file.write_text(file.read_text() + "\n# changed since\n")
    found = promote(cli, world, "--verify-artifacts", **KEYS)
    assert found.exit_code == 1, found.text
    assert "other model files" in found.flat()
    assert "champion" not in world.aliases
    unseen = promote(cli, world, "--dry-run", **KEYS)
    assert unseen.exit_code == 0
    assert "files sha256:" in unseen.stderr, "recorded, not verified"


def test_files_that_are_gone_are_no_pass(cli, world, ranker, mlflow_server):
    assert cli("validate-model", "--model-name", world.name, "--threshold", "0.1", "--verify-artifacts").exit_code == 0
    artifact(world, mlflow_server.log.parent, ranker, "MLmodel").unlink()
    done = promote(cli, world, "--verify-artifacts")
    assert done.exit_code == 1, done.text
    assert "champion" not in world.aliases


def test_a_promotion_without_a_key_says_of_a_signed_verdict_that_it_did_not_verify_the_signature(cli, world):
    number = validated(cli, world, 0.80, "--signing-key", KEY)
    assert "not verified" in promote(cli, world, "--dry-run").stderr
    assert "signature" in promote(cli, world, "--dry-run").stderr
    assert "signature" not in promote(cli, world, "--dry-run", **KEYS).stderr
    unsigned = world.verdict(number)
    del unsigned["signature"]
    tag = json.dumps(unsigned, sort_keys=True, separators=(",", ":"))
    world.client.set_model_version_tag(world.name, number, "gate.verdict.champion", tag)
    assert "signature" not in promote(cli, world, "--dry-run").stderr


# -- against the verdict, by two people


@pytest.fixture
def github(api):
    return api


def overriding(cli, world, github, *arguments, **env):
    env = {"GITHUB_API_URL": github.uri, "GITHUB_RUN_ID": "42", "CHAMPION_GATE_GITHUB_TOKEN": TOKEN, **env}
    return promote(cli, world, "--override-reason", "The outage is worse.", *arguments, **env)


@pytest.fixture
def failed(cli, world):
    """A champion, and a challenger that is worse."""
    released(cli, world, 0.80)
    number = world.version(0.60)
    assert cli("validate-model", "--model-name", world.name).exit_code == 1
    return number


def test_an_override_takes_the_approval_of_another_person_and_is_marked_everywhere(cli, world, github, failed):
    github.review("grace", "approved", "production", comment="Go.")
    done = overriding(cli, world, github)
    assert done.exit_code == 0, done.text
    assert world.champion == failed
    tags = world.last("promotion")
    assert (tags["gate.override"], tags["gate.verdict"]) == ("The outage is worse.", "failed")
    assert (tags["gate.approved_by"], tags["gate.approved_by_reviewer"]) == ("grace", "true")
    assert tags["gate.approval_comment"] == "Go."
    assert tags["gate.reason"].startswith("OVERRIDE by grace: The outage is worse.")
    assert "failed" in tags["gate.reason"]
    version = world.version_tags(failed)
    assert (version["gate.override"], version["approved_by"]) == ("The outage is worse.", "grace")
    assert any("Override" in line and "against its verdict" in line for line in done.annotations("warning"))
    shown = history(cli, world)
    assert "The outage is worse." in json.dumps(shown.json()), shown.text
    assert "override" in cli("history", "--model-name", world.name, github=False).flat().lower()


def test_a_rollback_to_what_never_was_champion_takes_an_override_and_says_who_approved(cli, world, github):
    first, second = released(cli, world, 0.80), released(cli, world, 0.82)
    number = world.version(0.90)
    env = {"GITHUB_API_URL": github.uri, "GITHUB_RUN_ID": "42", "CHAMPION_GATE_GITHUB_TOKEN": TOKEN}
    why = ("--to-version", number, "--override-reason", "The index needs it.")
    assert rollback(cli, world, *why, **env).exit_code == 1
    github.review("grace", "approved", "production", comment="Go.")
    done = rollback(cli, world, *why, **env)
    assert done.exit_code == 0, done.text
    assert world.aliases == {
        "champion": number,
        "previous-champion": first,
        "rolled-back": second,
        "challenger": number,
    }
    tags = world.last("rollback")
    assert (tags["gate.override"], tags["gate.approved_by"]) == ("The index needs it.", "grace")
    back = rollback(cli, world, "--override-reason", "None is needed.")
    assert (back.exit_code, world.champion) == (0, first), back.text
    assert world.last("rollback")["gate.override"] == ""


@pytest.mark.parametrize(
    "reviews",
    [
        [],
        [(ACTOR, "approved")],
        [(ACTOR.upper(), "approved")],
        [("deploy[bot]", "approved")],
        [("grace", "approved"), ("bea", "rejected")],
        [("grace", "rejected")],
        [(None, "approved")],
        [("grace", "pending")],
    ],
)
def test_an_override_without_another_persons_approval_is_refused(cli, world, github, failed, reviews):
    for login, state in reviews:
        github.review(login, state, "production")
    before = world.snapshot()
    done = overriding(cli, world, github)
    assert done.exit_code == 1, done.text
    assert "another person" in done.flat()
    assert world.snapshot() == before


def test_an_override_by_who_re_ran_the_job_is_refused(cli, world, github, failed):
    github.review("grace", "approved", "production")
    done = overriding(cli, world, github, GITHUB_TRIGGERING_ACTOR="grace", GITHUB_RUN_ATTEMPT="2")
    assert done.exit_code == 1, done.text
    assert "another person" in done.flat()


def test_an_override_that_only_names_somebody_is_refused(cli, world, github, failed):
    before = world.snapshot()
    arguments = ("--override-reason", "r", "--approved-by", "grace")
    assert promote(cli, world, *arguments).exit_code == 1
    assert promote(cli, world, *arguments, github=False).exit_code == 1
    assert world.snapshot() == before


@pytest.mark.parametrize("status", [403, 404, 500])
def test_an_override_whose_approval_cannot_be_read_is_exit_3(cli, world, github, failed, status):
    github.users[TOKEN] = User("github-actions[bot]", 41898282, may_read_runs=status != 403)
    if status != 403:
        github.refuse(status)
    before = world.snapshot()
    done = overriding(cli, world, github)
    assert done.exit_code == 3, done.text
    assert world.snapshot() == before


def test_a_pull_request_overrides_nothing(cli, world, github, failed):
    github.review("grace", "approved", "production")
    before = world.snapshot()
    for event in ("pull_request", "pull_request_target"):
        done = overriding(cli, world, github, GITHUB_EVENT_NAME=event, GITHUB_REF="refs/pull/7/merge")
        assert done.exit_code == 1, done.text
    assert world.snapshot() == before


def test_quarantine_and_hold_stand_above_an_override(cli, world, github):
    github.review("grace", "approved", "production")
    released(cli, world, 0.80)
    bad = released(cli, world, 0.90)
    assert rollback(cli, world, "--hold").exit_code == 0
    held = overriding(cli, world, github, "--version", bad)
    assert held.exit_code == 1
    assert "on hold" in held.flat()
    assert rollback(cli, world, "--release-hold").exit_code == 0
    done = overriding(cli, world, github, "--version", bad)
    assert done.exit_code == 1
    assert "quarantine" in done.flat()


def test_a_forged_verdict_is_overridden_only_by_two_people_either(cli, world, github):
    number = world.version(0.99)
    put(world, number, "{}")
    assert overriding(cli, world, github, **KEYS).exit_code == 1
    github.review("grace", "approved", "production")
    done = overriding(cli, world, github, **KEYS)
    assert done.exit_code == 0, done.text
    assert "is not signed" in world.last("promotion")["gate.reason"]


def test_a_promotion_that_its_verdict_allows_is_no_override(cli, world, github):
    number = validated(cli, world, 0.80)
    done = overriding(cli, world, github)
    assert done.exit_code == 0, done.text
    assert world.last("promotion").get("gate.override", "") == ""
    assert "gate.override" not in world.version_tags(number)
    assert not done.annotations("warning")


# -- keys


def test_the_whole_release_signs_and_checks_with_the_same_key(cli, world):
    number = world.version(0.80)
    done = cli("release", "--model-name", world.name, "--threshold", "0.1", **KEYS)
    assert done.exit_code == 0, done.text
    assert world.champion == number
    assert world.verdict(number)["signature"].startswith("hmac-sha256:")


def test_a_training_command_and_a_key_exclude_each_other(cli, world, tmp_path):
    trained = tmp_path / "trained"
    arguments = ("--experiment-name", world.experiment, "--model-name", world.name, "--threshold", "0.1")
    command = f"touch {trained}"
    for given in (("--", "touch", str(trained)), ("--command", command)):
        done = cli("release", *arguments, *given, **KEYS)
        assert done.exit_code == 2, done.text
        assert "signing-key" in done.flat()
        assert KEY not in done.text
        assert not trained.exists()
    assert world.snapshot() == {"model": None}


@pytest.mark.parametrize("key", ["short", "x" * 15, f"{KEY}\nshort"])
@pytest.mark.parametrize("command", ["validate-model", "promote-alias", "release"])
def test_short_keys_are_refused(cli, untouched, command, key):
    done = cli(command, "--model-name", untouched.name, CHAMPION_GATE_SIGNING_KEY=key)
    assert done.exit_code == 2, done.text
    assert "signing-key" in done.flat()


@pytest.mark.parametrize("debug", ["true", "false"])
def test_keys_are_in_no_log_summary_or_output(cli, world, faulty, proxy, debug):
    """However it ends: passed, refused, bad input, a registry that echoes what it was told."""
    number = world.version(0.80)
    env = {"CHAMPION_GATE_SIGNING_KEY": f"{KEY}\n{OLD}", "CHAMPION_GATE_DEBUG": debug}
    arguments = ("--model-name", world.name)
    done = [cli("validate-model", *arguments, "--threshold", "0.1", **env)]
    put(world, number, forged(good := world.version_tags(number)[TAG], "basis", KEY))
    done.append(cli("promote-alias", *arguments, **env))
    put(world, number, good.replace("passed", KEY, 1))
    done.append(cli("promote-alias", *arguments, **env))
    put(world, number, good)
    done.append(cli("promote-alias", *arguments, "--version", KEY, **env))
    done.append(cli("promote-alias", *arguments, "--nonsense", KEY, **env))
    proxy.when("GET", "registered-models/get").answer(500, f"you said {KEY} and {OLD}".encode())
    done.append(faulty("promote-alias", *arguments, "--registry-timeout", "2", **env))
    done.append(cli("promote-alias", *arguments, **env))
    assert [each.exit_code for each in done] == [0, 1, 1, 2, 2, 3, 0], [each.text for each in done]
    for each in done:
        for key in (KEY, OLD):
            assert key not in each.text, each.text
            assert key not in json.dumps(dict(each.outputs))
    seen = json.dumps([world.snapshot()], default=str)
    assert KEY not in seen
    assert OLD not in seen


def test_a_training_command_is_given_no_key(cli, world, tmp_path):
    seen = tmp_path / "seen.json"
    trainer = ROOT / "tests" / "support" / "trainer.py"
    found = tmp_path / "found"
    peek = f"grep -alF {KEY} /proc/[0-9]*/environ > {found} 2>/dev/null"
    command = f"python {trainer} environment={seen} metric=val_ndcg_at_10:0.8 model=model && ({peek} || true)"
    arguments = ("--experiment-name", world.experiment, "--model-name", world.name, "--data-version", "d1")
    done = cli("train-and-register", *arguments, "--command", command, **KEYS)
    assert done.exit_code == 0, done.text
    assert KEY not in seen.read_text()
    assert not re.search("SIGNING", seen.read_text())


SPY = """\
import os
from pathlib import Path

import mlflow


def told(needle):
    if needle in str(os.environ):
        return True
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if needle.encode() in path.read_bytes():
                return True
        except OSError:
            pass
    return False


class Spy(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        if told({needle!r}):
            raise RuntimeError("it was told")
        return model_input["good"].to_numpy()


mlflow.models.set_model(Spy())
"""


@pytest.mark.slow
def test_a_scored_model_is_given_no_key(cli, world, ranker, mlflow_server, tmp_path):
    """Whatever it reads of its own process and of others': it would refuse to score."""
    data = tmp_path / "queries.parquet"
    judged.queries(30).write_parquet(data)
    arguments = ("--model-name", world.name, "--evaluation-data", data, "--environment", "current")
    policy = ("--threshold-ndcg", "0.1", "--min-queries", "10")
    code = artifact(world, mlflow_server.log.parent, ranker, "ranker_*.py")
    for needle, exit_code in ((KEY, 0), ("SIGNING_KEY", 0), ("OMP_NUM_THREADS", 3)):  # which it does have
        code.write_text(SPY.format(needle=needle))
        done = cli("validate-model", *arguments, *policy, **KEYS)
        assert (done.exit_code == 0) is (exit_code == 0), done.text
        assert ("it was told" in done.text) is (exit_code != 0), done.text
    assert world.verdict(ranker)["signature"]


# -- the mark that stops promotions


@pytest.mark.parametrize("mark", ["", "holidays", "[" * 4000, '{"who":"bea","when":"today","why":"holidays"}'])
def test_whatever_the_mark_says_it_is_a_hold_and_is_lifted_as_any_other(cli, world, mark):
    released(cli, world, 0.80)
    number = validated(cli, world, 0.82)
    world.client.set_registered_model_tag(world.name, "gate.hold", mark)
    assert "gate.hold" in world.tags
    assert "on hold" in refusal(world, number=number)
    assert rollback(cli, world, "--release-hold").exit_code == 0
    assert "gate.hold" not in world.tags
    assert allowed(world, number=number)
