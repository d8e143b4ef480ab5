"""The workflow templates as a repository runs them, on the servers of a team, with keys and reviewers.

What cannot be reached from here is played by others: GitHub's API by `github_api`, and serving by a server that notes
what it is told. `act` knows no environments, groups and permissions; tests/actions/test_templates.py reads those.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests.actions import runner as runners
from tests.actions import templates
from tests.actions.runner import Ran, Runner, new_run_id
from tests.support.github_api import GitHubApi, github_api
from tests.support.names import letters
from tests.support.server import free_port
from tests.support.stack import JOBS, Stack

RANKER = templates.ROOT / "tests" / "actions" / "ranker" / "by_price.py"
KEY = "a-key-that-only-gates-and-promotions-see"
# The dearer document is always the better one.
JUDGED = "\n".join(
    [
        "query_id,price,label",
        *(f"q{query},{3 - place}.{query % 10},{2 - place}" for query in range(250) for place in range(3)),
    ]
)

pytestmark = pytest.mark.slow


def files(direction: int = 1) -> dict[str, str]:
    """A repository with a ranker; `direction` -1 ranks the worst first."""
    train = RANKER.read_text(encoding="utf-8").replace("DIRECTION = 1 ", f"DIRECTION = {direction} ")
    return {"train.py": train, "requirements.txt": "mlflow\n", "judged.csv": JUDGED + "\n"}


@pytest.fixture(scope="module")
def runner(stack, tmp_path_factory) -> Runner:
    """Runs workflows with `act`."""
    return runners.make(tmp_path_factory, stack.uri)


@pytest.fixture
def github() -> Iterator[GitHubApi]:
    with github_api() as api:
        yield api


@pytest.fixture
def serving() -> Iterator[Serving]:
    told: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield Serving(f"http://127.0.0.1:{server.server_port}/reload", told)
    server.shutdown()
    server.server_close()


@dataclass(frozen=True)
class Serving:
    """What serves the model: its address, and what it was told since last asked."""

    uri: str
    told: list[str]

    def heard(self) -> list[str]:
        said = list(self.told)
        self.told.clear()
        return said


@dataclass
class Repository:
    """A repository with all templates, for one model."""

    runner: Runner
    client: Any
    model: str
    stack: Stack
    github: GitHubApi
    serving: Serving
    team: str = field(default_factory=lambda: f"team-{letters()}")

    def run(self, name: str, *changes: tuple[str, str], **how: Any) -> Ran:
        """Run a template as it is, but for the names of model and team, and for judged queries that are text."""
        text = templates.read(name).workflow
        names = (("search-ranker", self.model), ("/search/ranking/", f"/{self.team}/ranking/"))
        for old, new in (*changes, *names, ("judged.parquet", "judged.csv")):
            text = text.replace(old, new)
        how.setdefault("event", "workflow_dispatch")
        account = self.stack.variables(how.pop("user", JOBS))
        known = {
            "SERVING_RELOAD_URL": self.serving.uri,
            "MLFLOW_TRACKING_USERNAME": account["MLFLOW_TRACKING_USERNAME"],
        }
        secrets = {
            "CHAMPION_GATE_SIGNING_KEY": KEY,
            "CHAMPION_GATE_REDIS_URL": self.stack.redis_url,
            "GITHUB_TOKEN": "token-of-the-job",
            "MLFLOW_TRACKING_PASSWORD": account["MLFLOW_TRACKING_PASSWORD"],
        }
        # A company's own certificate authority is known to its runners.
        image = {"GITHUB_API_URL": self.github.uri, "MLFLOW_TRACKING_SERVER_CERT_PATH": str(self.stack.authority)}
        if how.pop("outside", False):
            # To a fork's job GitHub gives neither, nor has it been to the company.
            known, secrets, image = {"MLFLOW_TRACKING_URI": ""}, {}, {"GITHUB_API_URL": self.github.uri}
        how["variables"] = {**known, **how.get("variables", {})}
        how["secrets"] = {**secrets, **how.get("secrets", {})}
        how["environment"] = {**image, **how.get("environment", {})}
        return self.runner.run(text, timeout=600, **how)

    @property
    def log(self) -> list[Any]:
        """The runs of the model's release log."""
        experiment = self.client.get_registered_model(self.model).tags["gate.release_log"]
        return list(self.client.search_runs([experiment]))

    @property
    def aliases(self) -> dict[str, str]:
        found = self.client.get_registered_model(self.model).aliases
        return {alias: str(number) for alias, number in found.items()}

    def tags(self, number: str) -> dict[str, str]:
        return dict(self.client.get_model_version(self.model, number).tags)

    def told(self, number: str) -> str:
        return f"model={self.model}&version={number}"


@pytest.fixture
def repository(runner, mlflow_client, model_name, stack, github, serving) -> Repository:
    return Repository(runner, mlflow_client, model_name, stack, github, serving)


def test_a_model_is_trained_judged_promoted_taken_back_held_and_promoted_again(repository):
    run, github, serving, model = repository.run, repository.github, repository.serving, repository.model

    # -- a push: nobody was champion, so the threshold decides
    first = new_run_id()
    github.review("grace", "approved", "production", run=f"acme/search#{first}")
    ran = run("train-and-register", event="push", run_id=first, files=files())
    assert ran.success, ran.log
    assert set(ran.jobs) == {"train", "gate", "promote"}
    assert ran.jobs["gate"]["gate"].outputs["verdict"] == "passed"
    assert (ran.jobs["promote"]["promote"].outputs["version"], ran["promote"].outputs["changed"]) == ("1", "true")
    assert repository.aliases == {"champion": "1"}
    assert serving.heard() == [repository.told("1")]
    assert repository.tags("1")["approved_by"] == "grace"
    assert "hmac-sha256:" in repository.tags("1")["gate.verdict.champion"]
    seen = (ran.results / "seen-by-training.txt").read_text()
    assert "MLFLOW_RUN_ID=" in seen
    for secret in (KEY, repository.stack.redis_url, "token-of-the-job"):
        assert secret not in seen
    assert KEY not in ran.log

    # -- by hand, on a runner with a GPU
    ran = run("train-and-register", inputs={"gpu": "true"}, files=files())
    assert ran.success, ran.log
    assert repository.aliases == {"champion": "2", "previous-champion": "1"}
    assert serving.heard() == [repository.told("2")]

    # -- a worse model is not promoted
    ran = run(
        "train-and-register", event="push", files=files(-1), variables={"TRAINING_RUNNER": '["self-hosted", "gpu"]'}
    )
    assert not ran.success
    assert set(ran.jobs) == {"train", "gate"}
    assert ran.jobs["gate"]["gate"].outputs["verdict"] == "failed"
    assert (repository.aliases["champion"], repository.aliases["challenger"], serving.heard()) == ("2", "3", [])

    # -- the release is taken back, once, and no other is let through
    back = {"model": model, "reason": 'Clicks fell; $(touch "$RESULTS/pwned")', "from-version": "2", "hold": "true"}
    this_run = new_run_id()
    for changed, heard in (("true", [repository.told("1")]), ("false", [])):
        ran = run("rollback-model", inputs=back, run_id=this_run)
        assert ran.success, ran.log
        assert ran["rollback"].outputs["changed"] == changed
        assert not (ran.results / "pwned").exists()
        assert serving.heard() == heard
    assert (repository.aliases["champion"], repository.aliases["rolled-back"]) == ("1", "2")
    assert repository.tags("2")["rollback_reason"] == back["reason"]
    again = {"model": model, "version": "2", "judge": "true"}
    ran = run("promote-model", inputs=again, files=files())
    assert not ran.success
    assert ran.jobs["gate"]["gate"].outputs["verdict"] == "passed"
    assert "hold" in ran.log
    weekly = run("weekly-operations", inputs={"team": repository.team})
    assert json.loads(weekly["history"].outputs["holds"]) == [model]

    # -- the hold is lifted, and the version promoted again, for a reason
    ran = run("rollback-model", inputs={"model": model, "reason": "It was the logs", "release-hold": "true"})
    assert ran.success, ran.log
    assert (ran["rollback"].outputs["changed"], repository.aliases["champion"]) == ("false", "1")
    ran = run("promote-model", inputs={**again, "judge": "false"})
    assert not ran.success
    assert set(ran.jobs) == {"promote"}
    assert "quarantine" in ran.log
    ran = run("promote-model", inputs={**again, "judge": "false", "reinstate": "It was the logs"})
    assert ran.success, ran.log
    assert repository.aliases["champion"] == "2"
    assert serving.heard() == [repository.told("2")]

    # -- against the verdict: not without a reviewer who agrees
    against = {"model": model, "version": "3", "judge": "true", "override-reason": "A new shop has other prices"}
    for reviewed in (False, True):
        this_run = new_run_id()
        if reviewed:
            github.review("grace", "approved", "production", run=f"acme/search#{this_run}")
        ran = run("promote-model", inputs=against, run_id=this_run, files=files())
        assert ran.success is reviewed, ran.log
        assert set(ran.jobs) == {"gate", "promote"}
        assert ran.jobs["gate"]["gate"].outcome == "failure"
        assert ran.jobs["promote"]["promote"].outcome == ("success" if reviewed else "failure")
    assert repository.aliases["champion"] == "3"
    assert serving.heard() == [repository.told("3")]

    moves = [run.data.tags for run in repository.log if run.data.tags["gate.kind"] in ("promotion", "rollback")]
    assert [tags["gate.leased"] for tags in moves] == ["true"] * 5


def test_a_verdict_that_no_gate_of_ours_signed_is_not_promoted(repository):
    assert repository.run("train-and-register", event="push", files=files()).success
    whole = templates.read("train-and-register").workflow
    judged_only = (whole[whole.index("\n  promote:") :], "\n")
    other = {"CHAMPION_GATE_SIGNING_KEY": "a-key-that-somebody-else-made-up"}
    ran = repository.run("train-and-register", judged_only, event="push", files=files(), secrets=other)
    assert set(ran.jobs) == {"train", "gate"}
    assert ran.jobs["gate"]["gate"].outputs["verdict"] == "passed", ran.log
    ran = repository.run("promote-model", inputs={"model": repository.model, "version": "2", "judge": "false"})
    assert not ran.success
    assert "sign" in ran.log
    assert repository.aliases == {"champion": "1", "challenger": "2"}
    # Judged again, by a gate that has the key, it is.
    ran = repository.run("promote-model", inputs={"model": repository.model, "version": "2"}, files=files())
    assert ran.success, ran.log
    assert repository.aliases["champion"] == "2"


def pull_request(number: int = 7, body: str | None = None, head: str = "acme/search") -> dict[str, Any]:
    """What the event of a pull request says; `head` is the repository that it comes from."""
    ids = {"acme/search": 1, "stranger/search": 2}
    return {
        "repository": {"id": 1, "full_name": "acme/search"},
        "pull_request": {
            "number": number,
            "body": body,
            "head": {"ref": "new-ranker", "repo": {"id": ids[head], "full_name": head}},
            "base": {"ref": "main", "sha": "EARLIER_COMMIT", "repo": {"id": 1, "full_name": "acme/search"}},
        },
    }


def test_a_pull_request_is_judged_against_the_champion_in_one_comment_and_promotes_nothing(repository):
    released = repository.run("train-and-register", event="push", files=files())
    assert released.success, released.log
    before = repository.aliases
    repository.serving.heard()

    ran = repository.run("model-check", event="pull_request", payload=pull_request(), files=files())
    assert ran.success, ran.log
    assert set(ran.jobs) == {"check", "result"}
    said = ran.jobs["check"]["check"].outputs
    assert (said["verdict"], said["version"], said["champion-version"]) == ("passed", "2", "1")
    (comment,) = repository.github.bodies().values()
    assert repository.model in comment.replace("\\", "")
    verdict = json.loads(repository.tags("2")["gate.verdict.champion"])
    assert verdict["purpose"] == "check"
    assert "hmac" not in json.dumps(verdict)

    # The next push names a run of elsewhere: that is taken, nothing is trained, and the comment is updated.
    trained = repository.client.get_model_version(repository.model, "1").run_id
    payload = pull_request(body=f'Ranks by price.\r\nMLflow run: {trained}\r\n$(touch "$RESULTS/pwned") ::error::x')
    ran = repository.run("model-check", event="pull_request", payload=payload, files=files(-1))
    assert ran.success, ran.log
    assert ran.jobs["check"]["train"].outcome == "skipped"
    assert not (ran.results / "pwned").exists()
    assert repository.client.get_model_version(repository.model, ran["check"].outputs["version"]).run_id == trained
    assert len(repository.github.bodies()) == 1

    # One that is worse fails.
    ran = repository.run("model-check", event="pull_request", payload=pull_request(), files=files(-1))
    assert not ran.success
    assert ran.jobs["check"]["check"].outputs["verdict"] == "failed"
    assert len(repository.github.bodies()) == 1
    assert repository.aliases == before
    assert repository.serving.heard() == []
    promoted = repository.run("promote-model", inputs={"model": repository.model, "version": "2", "judge": "false"})
    assert not promoted.success
    assert repository.aliases == before


@pytest.mark.parametrize(("direction", "verdict"), [(1, "passed"), (-1, "failed")])
def test_a_fork_is_judged_against_the_target_branch_without_secrets_and_without_our_registry(
    repository, direction, verdict
):
    # The stranger's own queries would let the worse ranker pass.
    flattering = "\n".join(
        re.sub(r",([012])$", lambda label: f",{2 - int(label[1])}", line) for line in JUDGED.splitlines()
    )
    ran = repository.run(
        "model-check",
        ("5000", str(free_port())),  # on this machine that port may be taken
        event="pull_request",
        payload=pull_request(head="stranger/search"),
        earlier=files(),
        files={**files(direction), "judged.csv": flattering if direction < 0 else JUDGED},
        outside=True,
    )
    assert ran.success is (verdict == "passed"), ran.log
    assert set(ran.jobs) == {"outside", "result"}
    said = ran.jobs["outside"]["check"].outputs
    assert (said["verdict"], said["version"], said["champion-version"]) == (verdict, "2", "1")
    assert said["basis"] == "judged queries"
    assert repository.github.requests == []
    assert not repository.client.search_registered_models(f"name='{repository.model}'")


def test_all_models_of_a_team_are_looked_at_every_week_and_kept_every_month(repository):
    assert repository.run("train-and-register", event="push", files=files()).success
    reader = repository.stack.add_user(f"reader-of-{repository.model}")

    theirs = {"event": "schedule", "variables": {"MODEL_TEAM": repository.team}, "user": reader}
    ran = repository.run("weekly-operations", **theirs)
    assert ran.success, ran.log
    assert json.loads(ran["history"].outputs["models"]) == [repository.model]
    assert "Summary - " in ran.log

    kept_here = ("releases/history.json", "${{ env.RESULTS }}/kept/history.json")
    ran = repository.run("monthly-operations", kept_here, **theirs)
    assert ran.success, ran.log
    (kept,) = json.loads((ran.results / "kept" / "history.json").read_text())
    assert (kept["model"], kept["champions"]) == (repository.model, {"champion": "1"})
    assert [row["kind"] for row in kept["rows"]] == ["promotion", "gate"]

    # A move that did not end, as a job leaves it that was killed: somebody is told.
    move = next(run for run in repository.log if run.data.tags["gate.kind"] == "promotion")
    repository.client.set_tag(move.info.run_id, "gate.state", "open")
    repository.client.set_registered_model_tag(repository.model, "gate.open_move", move.info.run_id)
    ran = repository.run("weekly-operations", inputs={"team": repository.team})
    assert not ran.success
    assert json.loads(ran["history"].outputs["open-moves"]) == [repository.model]
    assert f'Did not end: ["{repository.model}"]' in ran.log
