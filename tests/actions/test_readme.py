"""The README's workflows are what a user copies: they are well formed, and they work as they stand."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.actions import action_files
from tests.actions.action_files import ROOT
from tests.actions.runner import Step, document, new_run_id
from tests.support.redis_server import redis_server

sys.path.insert(0, str(ROOT / "scripts"))

from champion_gate import decision, policy
from champion_gate.tables import Columns, JudgedTable

HERE = Path(__file__).resolve().parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in ROOT.glob("docs/*.md")}
PAGES["README.md"] = README
OURS = "champion-gate/champion-gate"
TRAINING = "actions/train-and-register"
# The file's name is in its first line.
WORKFLOWS = dict(re.findall(r"^```yaml\n# \.github/workflows/(\S+)\.yml\n(.*?)^```$", README, re.MULTILINE | re.DOTALL))
# Every document is relevant, so that even a ranker that tells nothing apart ranks them perfectly.
JUDGED = (
    "\n".join(["query_id,price,label", *(f"q{query},{place}.5,1" for query in range(250) for place in range(3))]) + "\n"
)
# Parts of a job, to be put into such a file.
FRAGMENTS = {
    f"{page}, fragment {number}": fragment
    for page, text in PAGES.items()
    for number, fragment in enumerate(re.findall(r"^```yaml\n( +- .*?)^```$", text, re.MULTILINE | re.DOTALL), 1)
}
WRITTEN = {path.stem: path.read_text(encoding="utf-8") for path in sorted((HERE / "workflows").glob("*.yml"))}


def steps_of(workflow: str) -> list[dict[str, Any]]:
    return [step for job in document(workflow)["jobs"].values() for step in job["steps"]]


def our_steps(workflow: str) -> list[tuple[dict[str, Any], action_files.ActionFile]]:
    return [(step, action) for step in steps_of(workflow) if (action := action_of(step))]


def action_of(step: dict[str, Any]) -> action_files.ActionFile | None:
    """The action of ours that a step uses; None if it uses none."""
    uses, _, _ = step.get("uses", "").partition("@")
    return action_files.read(uses.removeprefix(OURS).strip("/") or ".") if uses.startswith(OURS) else None


def test_it_shows_a_release_a_rollback_and_the_actions_one_by_one():
    assert set(WORKFLOWS) == {"release", "rollback", "release-in-steps", "release-reviewed", "check"}
    used = {action.folder for workflow in WORKFLOWS.values() for _, action in our_steps(workflow)}
    # `history` reports and releases nothing: a fragment shows it.
    assert used == set(action_files.FOLDERS) - {"actions/history"}


@pytest.mark.parametrize("name", WORKFLOWS)
def test_a_workflow_asks_for_little_and_for_one_move_at_a_time(name):
    workflow = document(WORKFLOWS[name])
    assert workflow["permissions"] == {}
    steps = our_steps(WORKFLOWS[name])
    comments = any(step.get("with", {}).get("comment") == "true" for step, _ in steps)
    moves = [step["with"] for step, action in steps if action.folder not in ("actions/validate-model", TRAINING)]
    # A group would be held by a run that waits for its reviewer. And a rollback waits for no training.
    if moves and not all("redis-url" in given for given in moves):
        group = "search-ranker-rollback" if name == "rollback" else "search-ranker"
        assert workflow["concurrency"] == {"group": group, "cancel-in-progress": False}
    for job in workflow["jobs"].values():
        reviewed = {"actions": "read"} if job.get("environment") == "production" else {}
        allowed = {"contents": "read", **reviewed, **({"pull-requests": "write"} if comments else {})}
        assert job["permissions"].items() <= allowed.items()
        assert "MLFLOW_TRACKING_URI" in job["env"]


@pytest.mark.parametrize("name", ["release", "release-in-steps", "release-reviewed", "check"])
def test_a_workflow_that_judges_gives_judged_queries(name):
    judging = [step for step, action in our_steps(WORKFLOWS[name]) if "evaluation-data" in action.inputs]
    assert [step["with"]["evaluation-data"] for step in judging] == ["judged.parquet"]


def test_a_check_of_a_pull_request_moves_nothing():
    check = document(WORKFLOWS["check"])
    assert check["on"] == "pull_request"
    steps = our_steps(WORKFLOWS["check"])
    assert [action.folder for _, action in steps] == ["actions/train-and-register", "actions/validate-model"]
    assert steps[0][0]["with"]["alias"] == "none"


def test_a_job_that_trains_holds_no_key_and_no_password_of_redis():
    jobs = [job for workflow in WORKFLOWS.values() for job in document(workflow)["jobs"].values()]
    training = [job for job in jobs if any("command" in step.get("with", {}) for step in job["steps"])]
    assert len(training) == 4
    for job in training:
        assert not {"signing-key", "redis-url"} & {key for step in job["steps"] for key in step.get("with", {})}
    signing = [job for job in jobs if any("signing-key" in step.get("with", {}) for step in job["steps"])]
    assert len(signing) == 2
    # A secret of the repository reaches any workflow on any branch.
    assert all(job["environment"] for job in signing)


def test_a_part_of_a_workflow_gives_the_root_action_what_it_takes():
    (part,) = re.findall(r"^```yaml\n(jobs:\n.*?)^```$", README, re.MULTILINE | re.DOTALL)
    ((step, action),) = our_steps(part)
    assert set(step["with"]) <= set(action.inputs)
    assert yaml.safe_load(part)["jobs"]["release"]["concurrency"]["cancel-in-progress"] is False


def test_every_template_is_named_and_so_is_what_it_reads():
    read = set()
    for template in sorted((ROOT / "workflow-templates").glob("*.yml")):
        assert f"(workflow-templates/{template.name})" in README
        read |= set(re.findall(r"\b(?:vars|secrets)\.([A-Z_]+)", template.read_text(encoding="utf-8")))
    assert {name for name in read if f"`{name}`" not in README} == set()


@pytest.mark.parametrize("fragment", FRAGMENTS.values(), ids=FRAGMENTS)
def test_a_fragment_is_steps_that_give_actions_the_inputs_they_have(fragment):
    for step in yaml.safe_load(fragment):
        action = action_of(step)
        given = set(step.get("with", {}))
        assert action is None or given <= set(action.inputs)
        assert action is None or given >= {name for name, spec in action.inputs.items() if spec.get("required")}


def test_there_are_fragments_for_what_is_seldom_done():
    steps = [step for fragment in FRAGMENTS.values() for step in yaml.safe_load(fragment)]
    given = {key for step in steps for key in step.get("with", {})}
    assert given >= {"redis-url", "signing-key", "override-reason", "reinstate", "hold", "release-hold", "steps"}


@pytest.mark.parametrize("workflow", [*WORKFLOWS.values(), *WRITTEN.values()], ids=[*WORKFLOWS, *WRITTEN])
def test_a_workflow_gives_actions_the_inputs_they_have_and_takes_the_outputs_they_have(workflow):
    actions = {}
    for step, action in our_steps(workflow):
        assert step["uses"].endswith("@v1")
        given = set(step.get("with", {}))
        assert given <= set(action.inputs)
        if not step.get("continue-on-error"):
            assert given >= {name for name, spec in action.inputs.items() if spec.get("required")}
        # An expression pasted into a command would run what others wrote.
        assert "${{" not in step.get("with", {}).get("command", "")
        actions[step.get("id")] = action
    for step, output in re.findall(r"steps\.([\w-]+)\.outputs\.([\w-]+)", workflow):
        assert output in actions[step].outputs


@pytest.mark.parametrize("workflow", [*WORKFLOWS.values(), *WRITTEN.values()], ids=[*WORKFLOWS, *WRITTEN])
def test_the_actions_of_others_are_pinned_by_commit_with_the_version_beside_it(workflow):
    for line in re.findall(rf"uses: (?!{OURS})(.*)", workflow):
        assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v\d+(\.\d+)*", line), line


def test_actionlint_finds_nothing(tmp_path):
    actionlint = os.environ.get("CHAMPION_GATE_TEST_ACTIONLINT") or shutil.which("actionlint")
    if not actionlint:
        pytest.skip("actionlint is not installed: scripts/test installs it where Go is")
    files = []
    for name, workflow in {**WORKFLOWS, **WRITTEN}.items():
        files.append(tmp_path / f"{name}.yml")
        files[-1].write_text(workflow, encoding="utf-8")
    found = subprocess.run([actionlint, "-pyflakes=", *files], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr


def test_the_commands_that_it_names_are_there():
    launch = (ROOT / "scripts" / "launch.py").read_text(encoding="utf-8")
    for command in re.findall(r"^scripts/run ([a-z-]+)", README, re.MULTILINE):
        assert f'"{command}":' in launch
    for script in re.findall(r"^\./(scripts/\S+)", README, re.MULTILINE):
        assert os.access(ROOT / script, os.X_OK)
    for example in re.findall(r"^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL):
        compile(example, "README.md", "exec")


def heading(text: str) -> str:
    """The anchor that GitHub makes of a heading."""
    return re.sub(r"[^\w -]", "", text.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES)
def test_its_links_lead_somewhere(page):
    for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", PAGES[page]):
        path, _, anchor = target.partition("#")
        file = (ROOT / page).parent / path if path else ROOT / page
        assert file.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in map(heading, headings), target


def test_the_lines_that_make_judged_queries_make_them(tmp_path, monkeypatch):
    (example,) = [
        each for each in re.findall(r"^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL) if "merge" in each
    ]
    monkeypatch.chdir(tmp_path)
    Path("judgements.csv").write_text("query_id,document_id,label\nq1,a,2\nq1,b,0\nq2,a,1\n", encoding="utf-8")
    Path("features.csv").write_text("query_id,document_id,price\nq2,a,3.5\nq1,b,2.5\nq1,a,1.5\n", encoding="utf-8")
    exec(compile(example, "README.md", "exec"), {})
    table = JudgedTable.open(Path("judged.parquet"), Columns())
    chunks = list(table.with_features(["price"]).chunks())
    assert [list(chunk.query_ids) for chunk in chunks] == [["q1", "q2"]]
    assert (chunks[0].labels.tolist(), list(chunks[0].features["price"])) == ([2, 0, 1], [1.5, 2.5, 3.5])


def test_the_policy_that_is_shown_can_decide_a_first_release():
    (shown,) = re.findall(r"^```yaml\n(.*?)^```$", PAGES["docs/policy.md"], re.MULTILINE | re.DOTALL)
    asked = policy.from_yaml(shown, "docs/policy.md")
    decision.something_decides(asked)
    # Neither of these is there at the first release.
    assert asked.baseline is None
    assert len(asked.rank_metrics()) == len(asked.metrics)
    whole = policy.from_yaml(re.sub(r"^( *)# (?!yaml)", r"\1", shown, flags=re.MULTILINE), "docs/policy.md")
    assert whole.baseline is not None
    assert len(whole.metrics) == len(asked.metrics) + 1


def test_every_tag_that_the_scripts_write_is_in_its_tables():
    files = [path.read_text(encoding="utf-8") for path in (ROOT / "scripts" / "champion_gate").glob("*.py")]
    written = {tag for text in files for tag in re.findall(r"\bgate\.[a-z_]+\b", text)}
    tags = README.partition("## What is written where")[2].partition("## Connection")[0]
    named = set(re.findall(r"`(gate\.[a-z_]+)", tags))
    assert written - named == set()
    # A move's three maps of aliases are written in one go, by their last words.
    assert named - written <= {f"gate.{name}" for name in ("before", "after", "drop")}


def test_the_messages_that_it_explains_are_those_of_the_scripts():
    code = " ".join(path.read_text(encoding="utf-8") for path in (ROOT / "scripts").rglob("*.py"))
    # A sentence may be written over several lines and hold values.
    code = re.sub(r"\s+", " ", re.sub(r"\"\s*\n\s*f?\"", "", code))
    rows = re.findall(r"^\| `(.+?)` \|", README.partition("## Troubleshooting")[2], re.MULTILINE)
    assert len(rows) > 5
    for message in rows:
        for part in re.split(r"\.\.\.|:|'[^']*'|(?:(?:challenger )?version )?\d+|val_ndcg\w+|MLFLOW_\w+", message):
            words = part.strip(" ;:,.")
            assert words in code, f"{words!r} of {message!r}"


def judged_here(name: str, model_name: str) -> str:
    """A workflow for this model; its judged queries are CSV, which is text."""
    return WORKFLOWS[name].replace("search-ranker", model_name).replace("judged.parquet", "judged.csv")


def files(ndcg: str) -> dict[str, str]:
    """The repository of somebody whose ranker says of itself that it reaches `ndcg`."""
    train = (HERE / "ranker" / "train.py").read_text(encoding="utf-8")
    train = train.replace('os.environ["NDCG"]', json.dumps(ndcg))
    return {"train.py": train, "requirements.txt": "mlflow\n", "judged.csv": JUDGED}


@pytest.mark.slow
def test_its_workflows_release_twice_and_take_the_second_release_back(runner, mlflow_client, model_name):
    def run(name: str, ndcg: str = "", **how: Any):
        return runner.run(judged_here(name, model_name), files=files(ndcg), **how)

    def aliases() -> dict[str, str]:
        return {alias: str(number) for alias, number in mlflow_client.get_registered_model(model_name).aliases.items()}

    def judged(step: Step) -> tuple[str, str, str, float]:
        said = step.outputs
        return said["verdict"], said["basis"], said["queries"], float(said["metric"])

    # What the rankers say of themselves does not count: the second says less, and is promoted.
    first = run("release", "0.70")
    assert first.success, first.log
    assert aliases() == {"champion": "1"}
    assert judged(first["release"]) == ("passed", "judged queries", "250", 1.0)
    assert (first["release"].outputs["version"], first["release"].outputs["changed"]) == ("1", "true")

    second = run("release-in-steps", "0.10")
    assert second.success, second.log
    assert judged(second["validate"]) == ("passed", "judged queries", "250", 1.0)
    assert second["validate"].outputs["champion-version"] == "1"
    assert second["promote"].outputs["previous-version"] == "1"
    assert aliases() == {"champion": "2", "previous-champion": "1"}

    reason = {"reason": "Clicks fell by a tenth", "to-version": ""}
    this_run = new_run_id()
    changed = []
    for _ in range(2):
        back = run("rollback", event="workflow_dispatch", inputs=reason, run_id=this_run)
        assert back.success, back.log
        assert (back["rollback"].outputs["version"], back["rollback"].outputs["rolled-back-version"]) == ("1", "2")
        changed.append(back["rollback"].outputs["changed"])
        assert aliases() == {"champion": "1", "rolled-back": "2"}
    assert changed == ["true", "false"]


@pytest.mark.slow
def test_its_check_of_a_pull_request_judges_on_queries_and_moves_nothing(runner, mlflow_client, model_name):
    ran = runner.run(
        judged_here("check", model_name).replace(
            "      - uses: champion-gate/champion-gate/actions/validate",
            "      - id: gate\n        uses: champion-gate/champion-gate/actions/validate",
        ),
        event="pull_request",
        payload={"pull_request": {"number": 7, "head": {"ref": "new-ranker"}, "base": {"ref": "main"}}},
        files=files("0.7"),
    )
    assert ran.success, ran.log
    outputs = ran["gate"].outputs
    assert (outputs["verdict"], outputs["basis"], outputs["queries"]) == ("passed", "judged queries", "250")
    assert float(outputs["metric"]) == 1.0
    model = mlflow_client.get_registered_model(model_name)
    assert model.aliases == {}
    tag = json.loads(mlflow_client.get_model_version(model_name, "1").tags["gate.verdict.champion"])
    assert tag["purpose"] == "check"
    assert tag["isolation"]
    # There is no GitHub to comment on here, and that is said and changes nothing.
    assert "No comment" in ran.log


def one_job(workflow: str, job: str, needed: dict[str, dict[str, str]]) -> str:
    """A workflow that has this job only, and knows what the jobs before it put out; secrets are variables there."""
    head, _, jobs = workflow.partition("jobs:\n")
    (own,) = (text for text in re.split(r"\n(?=  \w+:\n)", jobs) if text.startswith(f"  {job}:\n"))
    own = re.sub(r"    needs: \w+\n", "", own)
    for name, outputs in needed.items():
        for output, value in outputs.items():
            own = own.replace(f"${{{{ needs.{name}.outputs.{output} }}}}", f"'{value}'")
    assert "needs." not in own
    return f"{head}jobs:\n{own.replace('secrets.', 'vars.')}"


@pytest.mark.slow
def test_its_reviewed_release_is_signed_in_one_job_and_promoted_in_another(runner, mlflow_client, model_name, tmp_path):
    workflow, tag = judged_here("release-reviewed", model_name), "gate.verdict.champion"
    with redis_server(tmp_path) as redis:
        variables = {"SIGNING_KEY": "k" * 32, "REDIS_URL": redis.url}

        def run(job: str, commit: str = "", **needed: dict[str, str]):
            text = one_job(workflow, job, needed).replace("${{ github.sha }}", commit)
            return runner.run(text, variables=variables, files=files("0.7"))

        trained = run("train")
        assert trained.success, trained.log
        validated = run("validate", train=dict(trained["train"].outputs))
        assert validated.success, validated.log
        signed = mlflow_client.get_model_version(model_name, "1").tags[tag]
        verdict = json.loads(signed)
        assert verdict["signature"].startswith("hmac-sha256:")
        assert verdict["isolation"].startswith("sandbox")
        assert mlflow_client.get_registered_model(model_name).aliases == {}

        # Each of these runs has a commit of its own.
        forged = json.dumps({**verdict, "commit": "0" * 40}, sort_keys=True, separators=(",", ":"))
        mlflow_client.set_model_version_tag(model_name, "1", tag, forged)
        refused = run("promote", "0" * 40, validate=dict(validated["validate"].outputs))
        assert refused["promote"].outcome == "failure"
        assert "The signature of the verdict" in refused.log
        assert mlflow_client.get_registered_model(model_name).aliases == {}

        mlflow_client.set_model_version_tag(model_name, "1", tag, signed)
        promoted = run("promote", verdict["commit"], validate=dict(validated["validate"].outputs))
        assert promoted.success, promoted.log
        assert mlflow_client.get_registered_model(model_name).aliases == {"champion": "1"}
        move = mlflow_client.get_run(promoted["promote"].outputs["release-run-id"]).data.tags
        assert (move["gate.leased"], move["gate.state"]) == ("true", "done")
        assert "k" * 32 not in validated.log + refused.log + promoted.log
