"""train-and-register on a real server: the run always ends, one version is registered, and nothing is half done."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.support.cli import ACTOR, COMMIT, REPOSITORY, ROOT
from tests.support.names import letters

TRAINER = ROOT / "tests" / "support" / "trainer.py"
METRIC = "val_ndcg_at_10"
GOOD = (f"metric={METRIC}:0.81", "model=model")


class Training:
    """One experiment and model name, and train-and-register on them."""

    def __init__(self, cli, world):
        self.cli = cli
        self.world = world
        self.experiment = world.experiment

    def options(self, **given):
        required = {"experiment_name": self.experiment, "model_name": self.world.name, "data_version": "2026-11-01"}
        given = {**required, **given}
        return [x for k, v in given.items() if v is not None for x in (f"--{k.replace('_', '-')}", str(v))]

    def __call__(self, *steps, argv=None, options=(), env=None, **given):
        words = argv if argv is not None else ("python", str(TRAINER), *steps)
        return self.cli("train-and-register", *self.options(**given), *options, "--", *words, **(env or {}))

    def runs(self):
        found = self.world.client.get_experiment_by_name(self.experiment)
        return [] if found is None else list(self.world.client.search_runs([found.experiment_id]))

    def run(self):
        """The one run that was opened."""
        (run,) = [run for run in self.runs() if "mlflow.parentRunId" not in run.data.tags]
        return run

    def registered(self):
        """The versions of the model; none if there is no model."""
        return sorted(self.world.snapshot().get("versions", {}))


@pytest.fixture
def training(cli, world):
    return Training(cli, world)


# -- what a good training leaves


def test_model_of_the_run_artifacts_is_registered_and_becomes_challenger(training, world):
    done = training(*GOOD, run_name="nightly", description="with clicks", options=("--tag", "ticket=SEARCH-12"))
    assert done.exit_code == 0, done.text
    run = training.run()
    assert done.outputs == {"run-id": run.info.run_id, "version": "1", "model-uri": f"models:/{world.name}/1"}
    assert (run.info.status, run.info.run_name) == ("FINISHED", "nightly")
    assert world.aliases == {"challenger": "1"}
    version = world.client.get_model_version(world.name, "1")
    assert version.run_id == run.info.run_id
    assert version.source.endswith("/model")
    assert version.description == "with clicks"
    assert world.tags["team"] == "search"
    tags = version.tags
    assert tags["training_data"] == "2026-11-01"
    assert tags["training_commit"] == COMMIT
    assert float(tags["validation_ndcg"]) == 0.81
    assert tags["ticket"] == "SEARCH-12"


def test_run_has_all_required_tags_and_where_it_came_from(training):
    done = training(
        *GOOD,
        owner="grace",
        evaluation_data_version="gold-a",
        environment="nightly",
        purpose="experiment",
        options=("--tag", "ticket=SEARCH-12", "--tag", "note=a=b"),
        env={"GITHUB_RUN_ID": "4711"},
    )
    assert done.exit_code == 0, done.text
    tags = training.run().data.tags
    expected = {
        "team": "search",
        "owner": "grace",
        "git.commit": COMMIT,
        "data.version": "2026-11-01",
        "evaluation.data.version": "gold-a",
        "environment": "nightly",
        "purpose": "experiment",
        "ticket": "SEARCH-12",
        "note": "a=b",
    }
    assert {key: tags.get(key) for key in expected} == expected
    values = set(tags.values())
    assert {"main", REPOSITORY, ACTOR, f"https://github.com/{REPOSITORY}/actions/runs/4711"} <= values


def test_defaults_of_owner_environment_and_purpose(training):
    assert training(*GOOD).exit_code == 0
    tags = training.run().data.tags
    assert (tags["owner"], tags["environment"], tags["purpose"]) == (ACTOR, "ci", "training")


def test_outside_github_the_commit_comes_from_git(training, tmp_path):
    git = ("git", "-C", str(tmp_path), "-c", "user.name=g", "-c", "user.email=g@example.com")
    subprocess.run([*git, "init", "-q", "-b", "topic"], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "c"], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    done = training(*GOOD, env={"github": False})
    assert done.exit_code == 0, done.text
    tags = training.run().data.tags
    assert tags["git.commit"] == head
    assert "topic" in tags.values()


def test_the_command_knows_its_run_and_nothing_of_the_gate(training, world, mlflow_server, tmp_path):
    seen = tmp_path / "environment.json"
    env = {
        "CHAMPION_GATE_OWNER": "grace",
        "CHAMPION_GATE_DESCRIPTION": "d",
        "PYTHONPATH": "/lib/of/the/caller",
        "X": "1",
    }
    done = training(f"environment={seen}", *GOOD, env=env)
    assert done.exit_code == 0, done.text
    had = json.loads(seen.read_text())
    assert had["MLFLOW_RUN_ID"] == done.outputs["run-id"]
    assert had["MLFLOW_EXPERIMENT_NAME"] == training.experiment
    assert had["MLFLOW_TRACKING_URI"] == mlflow_server.uri
    assert not [key for key in had if key.startswith("CHAMPION_GATE_")]
    assert (had["PYTHONPATH"], had["X"]) == ("/lib/of/the/caller", "1"), "the caller's own environment is untouched"
    ours = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_HTTP_REQUEST_TIMEOUT", "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"}
    assert not ours & set(had), "settings of the gate's own process stay there"


def test_command_is_a_shell_line_in_the_working_directory(training, tmp_path):
    folder = tmp_path / "a b"
    folder.mkdir()
    line = f"echo first | cat > seen; pwd >> seen; python {TRAINER} {' '.join(GOOD)}"
    done = training.cli(
        "train-and-register", *training.options(command=line, working_directory=folder, alias="none"), timeout=60
    )
    assert done.exit_code == 0, done.text
    assert (folder / "seen").read_text().split("\n") == ["first", str(folder), ""]
    assert training.world.aliases == {}, "the alias none sets none"


def test_command_stops_at_the_first_error_as_a_step_does(training, tmp_path):
    options = training.options(command="false | cat\ntouch went-on")
    done = training.cli("train-and-register", *options)
    assert done.exit_code == 5, done.text
    assert not (tmp_path / "went-on").exists()


def test_argv_is_no_shell(training, tmp_path):
    done = training(*GOOD, "say=$(touch pwned) `touch pwned` ; touch pwned")
    assert done.exit_code == 0, done.text
    assert not (tmp_path / "pwned").exists()
    assert "$(touch pwned) `touch pwned` ; touch pwned" in done.stdout


def test_output_is_streamed(training):
    arguments = (*training.options(), "--", "python", TRAINER, "say=epoch 1", "complain=careful", "sleep=60")
    with training.cli.start("train-and-register", *arguments) as process:
        began = time.monotonic()
        assert process.stdout.readline() == "epoch 1\n"
        assert time.monotonic() - began < 45
        os.kill(process.pid, signal.SIGTERM)
        assert "careful" in process.communicate(timeout=20)[1]


def test_logged_model_of_mlflow_3_is_registered(training, world, mlflow_client):
    done = training(f"metric={METRIC}:0.81", "logged=ranker")
    assert done.exit_code == 0, done.text
    version = mlflow_client.get_model_version(world.name, done.outputs["version"])
    assert version.source.startswith("models:/m-")
    assert version.run_id == done.outputs["run-id"]


def test_script_with_mlflow_itself(training, world, tmp_path, mlflow_client):
    script = tmp_path / "train.py"
    script.write_text(
        "import mlflow\n"
        "class Ranker(mlflow.pyfunc.PythonModel):\n"
        "    def predict(self, context, model_input: list[str]) -> list[str]:\n"
        "        return model_input\n"
        "with mlflow.start_run():\n"
        f"    mlflow.log_metric('{METRIC}', 0.81)\n"
        "    mlflow.pyfunc.log_model(name='ranker', python_model=Ranker(), pip_requirements=['mlflow'])\n"
    )
    done = training(argv=("python", str(script)), metric="val_ndcg@10")
    assert done.exit_code == 0, done.text
    run = training.run()
    assert run.info.status == "FINISHED"
    version = mlflow_client.get_model_version(world.name, done.outputs["version"])
    assert version.run_id == run.info.run_id
    assert float(version.tags["validation_ndcg"]) == 0.81
    assert len(training.registered()) == 1


def test_model_of_a_child_run_is_found(training, world, mlflow_client):
    done = training("child", "child", *GOOD)
    assert done.exit_code == 0, done.text
    version = mlflow_client.get_model_version(world.name, done.outputs["version"])
    assert version.run_id != done.outputs["run-id"] == training.run().info.run_id
    assert float(version.tags["validation_ndcg"]) == 0.81


def test_version_that_the_script_registered_itself_is_taken(training, world, mlflow_client):
    mlflow_client.create_registered_model(world.name)
    done = training(*GOOD, f"register={world.name}", options=("--tag", "ticket=SEARCH-12"))
    assert done.exit_code == 0, done.text
    assert training.registered() == [done.outputs["version"]], "and none is registered beside it"
    assert world.aliases == {"challenger": done.outputs["version"]}
    tags = world.version_tags(done.outputs["version"])
    assert (tags["ticket"], tags["training_commit"]) == ("SEARCH-12", COMMIT)
    assert float(tags["validation_ndcg"]) == 0.81


def test_second_training_makes_the_second_version(training, world):
    assert training(*GOOD).outputs["version"] == "1"
    assert training(*GOOD).outputs["version"] == "2"
    assert world.aliases == {"challenger": "2"}


def test_another_alias(training, world):
    assert training(*GOOD, alias="contender").exit_code == 0
    assert world.aliases == {"contender": "1"}


def test_metric_of_another_name_is_copied(training, world):
    assert training("metric=val/ndcg_at_5:0.7", *GOOD, metric="val/ndcg_at_5").exit_code == 0
    assert float(world.version_tags("1")["validation_ndcg"]) == 0.7


# -- which model


@pytest.mark.parametrize("kind", ["model", "logged"])
def test_several_models_are_listed_and_one_can_be_chosen(training, mlflow_client, world, kind):
    steps = (f"metric={METRIC}:0.81", f"{kind}=alpha", f"{kind}=beta")
    done = training(*steps)
    assert done.exit_code == 2, done.text
    for word in ("alpha", "beta", "logged-model"):
        assert word in done.flat()
    assert training.registered() == []
    assert [run.info.status for run in training.runs()] == ["FINISHED"], "the training itself was good"
    done = training(*steps, logged_model="beta")
    assert done.exit_code == 0, done.text
    source = mlflow_client.get_model_version(world.name, done.outputs["version"]).source
    if kind == "model":
        assert source.endswith("/beta")
    else:
        assert mlflow_client.get_logged_model(source.removeprefix("models:/")).name == "beta"


def test_logged_model_that_is_not_there_lists_what_is(training):
    done = training(*GOOD, logged_model="gamma")
    assert done.exit_code == 2, done.text
    assert "gamma" in done.text
    assert "model" in done.text
    assert training.registered() == []


def test_no_model_logged(training):
    done = training(f"metric={METRIC}:0.81")
    assert done.exit_code == 2, done.text
    assert "log" in done.text
    assert training.registered() == []
    assert training.run().info.status == "FINISHED"
    assert not done.outputs.get("version")


# -- the run always ends


def ended(training, *statuses):
    assert tuple(run.info.status for run in training.runs()) == statuses
    assert training.registered() == []


def test_exit_code(training):
    done = training(*GOOD, "exit=3")
    assert done.exit_code == 5, done.text
    assert "3" in done.stderr + done.summary
    ended(training, "FAILED")


def test_exception(training):
    done = training(*GOOD, "raise")
    assert done.exit_code == 5, done.text
    assert "the training data is empty" in done.stderr, "the command's own words are shown"
    ended(training, "FAILED")


def test_command_that_kills_itself(training):
    done = training(argv=("bash", "-c", "kill -9 $$"))
    assert done.exit_code == 5, done.text
    ended(training, "FAILED")


def test_command_that_ends_its_run_as_failed_is_believed(training):
    done = training(*GOOD, "end=FAILED")
    assert done.exit_code == 5, done.text
    ended(training, "FAILED")


def test_command_that_ends_its_run_itself(training):
    assert training(*GOOD, "end=FINISHED").exit_code == 0
    assert training.run().info.status == "FINISHED"


def test_mlflow_exception_inside_with_is_a_failure(training, tmp_path):
    script = tmp_path / "train.py"
    script.write_text("import mlflow\nwith mlflow.start_run():\n    raise SystemExit(1)\n")
    assert training(argv=("python", str(script))).exit_code == 5
    ended(training, "FAILED")


def test_time_limit_kills_the_run_and_all_children(training, tmp_path):
    pids = tmp_path / "pids"
    began = time.monotonic()
    done = training(f"spawn={pids}", "sleep=60", timeout=3)
    assert done.exit_code == 5, done.text
    assert time.monotonic() - began < 25
    assert "timeout" in done.text
    ended(training, "KILLED")
    assert alive(pids) == []


@pytest.mark.parametrize(
    ("number", "exit_code", "stubborn"),
    [(signal.SIGTERM, 143, False), (signal.SIGINT, 130, False), (signal.SIGTERM, 143, True)],
    ids=["SIGTERM", "SIGINT", "SIGTERM with children that ignore it"],
)
def test_cancelled_job_kills_the_run_and_the_whole_child_tree_within_7_s(
    training, tmp_path, number, exit_code, stubborn
):
    pids = tmp_path / "pids"
    steps = [f"spawn={pids}"] if stubborn else []
    arguments = (*training.options(), "--", "python", TRAINER, *steps, "say=training", "sleep=60")
    with training.cli.start("train-and-register", *arguments) as process:
        assert process.stdout.readline() == "training\n"
        began = time.monotonic()
        # As the runner does it: to the whole group. The command is in a group of its own.
        os.killpg(process.pid, number)
        process.wait(timeout=30)
        seconds = time.monotonic() - began
        assert process.returncode == exit_code, process.communicate()[1]
    assert seconds < 7
    ended(training, "KILLED")
    if stubborn:
        assert alive(pids) == []


def test_second_signal_does_not_cut_the_clean_up_short(training, tmp_path):
    pids = tmp_path / "pids"
    arguments = (*training.options(), "--", "python", TRAINER, f"spawn={pids}", "say=training", "sleep=60")
    with training.cli.start("train-and-register", *arguments) as process:
        assert process.stdout.readline() == "training\n"
        os.killpg(process.pid, signal.SIGINT)
        time.sleep(0.5)
        os.killpg(process.pid, signal.SIGTERM)
        assert process.wait(timeout=30) == 130
    ended(training, "KILLED")
    assert alive(pids) == []


def test_cancelled_while_the_run_is_being_opened(training, proxy):
    training.cli = training.cli.at(proxy.uri)
    arguments = (*training.options(), "--", "python", str(TRAINER), "sleep=60")
    with training.cli.start("train-and-register", *arguments) as process:

        def cancel():
            os.kill(process.pid, signal.SIGTERM)
            time.sleep(1)

        proxy.when("POST", "runs/create").first(cancel)
        assert process.wait(timeout=60) == 143
    time.sleep(1.5)  # the server may still be at it when the command is gone
    assert [run.info.status for run in training.runs()] in ([], ["KILLED"])


def test_cancelled_while_the_run_is_being_ended(training, proxy):
    training.cli = training.cli.at(proxy.uri)
    with training.cli.start("train-and-register", *training.options(), "--", "python", str(TRAINER), *GOOD) as process:
        # The first attempt to end the run meets a busy server, and the signal comes before the next.
        proxy.when("POST", "runs/update", times=1).answer(503)
        while not proxy.seen("POST", "runs/update"):
            assert process.poll() is None, process.communicate()[1]
            time.sleep(0.01)
        time.sleep(0.1)
        os.kill(process.pid, signal.SIGTERM)
        assert process.wait(timeout=60) in (0, 143)
    assert training.run().info.status in ("FINISHED", "KILLED", "FAILED")


def alive(pids: Path) -> list[str]:
    """The processes named in a file that still run."""
    found = subprocess.run(
        ["ps", "-o", "pid=,stat=", "-p", ",".join(pids.read_text().split())],
        capture_output=True,
        text=True,
        check=False,
    )
    return [line for line in found.stdout.splitlines() if line.strip() and "Z" not in line]


# -- explained


def test_script_that_sets_another_experiment_is_explained(training, tmp_path, world):
    script = tmp_path / "train.py"
    other = f"/search/{world.name}/elsewhere"
    script.write_text(f"import mlflow\nmlflow.set_experiment('{other}')\nwith mlflow.start_run():\n    pass\n")
    done = training(argv=("python", str(script)))
    assert done.exit_code == 5, done.text
    assert "set_experiment" in done.flat()
    assert "another experiment" in done.flat()
    ended(training, "FAILED")


@pytest.mark.parametrize(
    ("name", "offending", "proposal"),
    [
        ("search/ranking/training", "/", "/search/ranking/training"),
        ("/search/ranking", "2 parts", "/search/ranking/training"),
        ("/Search Team/ranking/training", "Search Team", "/search-team/ranking/training"),
        ("/search/ranking/training/v2", "4 parts", "/search/ranking/training"),
        ("/search//training", "''", "/search/"),
        ("ranking", "/", "/ranking/"),
    ],
)
def test_experiment_name_against_the_rule(training, mlflow_client, name, offending, proposal):
    done = training(*GOOD, experiment_name=name)
    assert done.exit_code == 2, done.text
    assert "/{team}/{project}/{type}" in done.stdout + done.stderr
    for shown in ("experiment-name", offending, proposal):
        assert shown in done.stdout + done.stderr
    assert mlflow_client.get_experiment_by_name(name) is None
    assert training.registered() == []


@pytest.mark.parametrize(
    ("pattern", "offending", "proposal"),
    [
        ("{}-v2", "v2", "{}"),
        ("{}-2026", "2026", "{}"),
        ("xgboost-{}", "xgboost", "{}"),
        ("{}_Ranker", "_", "{}-ranker"),
        ("Search {}", " ", "search-{}"),
    ],
)
def test_model_name_against_the_conventions(training, pattern, offending, proposal):
    word = letters()
    done = training(*GOOD, model_name=pattern.format(word))
    assert done.exit_code == 2, done.text
    for shown in ("model-name", "lower case, hyphens", offending, f"'{proposal.format(word)}'"):
        assert shown in done.stdout + done.stderr
    assert training.runs() == [], "before the training, not after it"


def test_existing_model_of_an_odd_name_is_a_warning(training, mlflow_client):
    name = f"{letters()}_V2"
    mlflow_client.create_registered_model(name)
    done = training(*GOOD, model_name=name)
    assert done.exit_code == 0, done.text
    assert done.annotations("warning")
    assert done.outputs["version"] == "1"


def test_three_level_names_are_accepted(training):
    name = f"main.search.{letters()}"
    assert training(*GOOD, model_name=name).exit_code == 0


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"experiment_name": None}, "experiment-name"),
        ({"experiment_name": ""}, "experiment-name"),
        ({"model_name": None}, "model-name"),
        ({"data_version": None}, "data-version"),
        ({"data_version": "  "}, "data-version"),
        ({"alias": "champion"}, "alias"),
        ({"alias": "latest"}, "alias"),
        ({"timeout": "soon"}, "timeout"),
        ({"timeout": "-1"}, "timeout"),
        ({"tag": "no-equals"}, "tag"),
        ({"tag": "team=ads"}, "tag"),
        ({"tag": "gate.state=done"}, "tag"),
        ({"working_directory": "/nowhere/at/all"}, "working-directory"),
        ({"team": "Search Team"}, "team"),
        ({"register_model": "another-name"}, "register-model"),
        ({"command": "true"}, "command"),
    ],
)
def test_wrong_input_is_named_before_anything_is_done(training, given, named):
    done = training(*GOOD, **given)
    assert done.exit_code == 2, done.text
    assert named in done.stdout + done.stderr
    assert training.runs() == []
    assert training.registered() == []


def test_no_command_and_no_such_program(training):
    for argv in ((), ("no-such-program-anywhere",)):
        done = training(argv=argv)
        assert done.exit_code == 2, done.text
        assert "command" in done.text
    assert training.runs() == []


def test_register_model_is_the_same_as_model_name(training, world):
    done = training(*GOOD, model_name=None, register_model=world.name)
    assert done.exit_code == 0, done.text
    assert done.outputs["model-uri"] == f"models:/{world.name}/1"


def test_inputs_come_from_the_environment_as_an_action_maps_them(training, world):
    line = f"python {TRAINER} {' '.join(GOOD)}"
    env = {
        "CHAMPION_GATE_EXPERIMENT_NAME": training.experiment,
        "CHAMPION_GATE_REGISTER_MODEL": world.name,
        "CHAMPION_GATE_DATA_VERSION": "2026-11-01",
        "CHAMPION_GATE_COMMAND": line,
        "CHAMPION_GATE_TAG": "ticket=SEARCH-12\nspaces in=a b  c\n\n",
        "CHAMPION_GATE_RUN_NAME": "",
        "CHAMPION_GATE_TIMEOUT": "",
        "CHAMPION_GATE_ALIAS": "",
    }
    done = training.cli("train-and-register", **env)
    assert done.exit_code == 0, done.text
    tags = training.run().data.tags
    assert (tags["ticket"], tags["spaces in"]) == ("SEARCH-12", "a b  c")
    assert world.aliases == {"challenger": "1"}, "an empty input is not given"


# -- hostile texts

HOSTILE = [
    "two\nlines\r\nand three",
    "quotes ' \" ` and $(touch pwned) ${HOME} `touch pwned`",
    "::set-output name=version::99\n::error::hello\n##[error]hello",
    "x\nversion<<EOF\n99\nEOF\nverdict=passed\n",
    "100%25 %0Aversion=99 %0D",
    "\x1b[2J\x07\x08 bell \u202e rtl \u200b",
    "<script>alert(1)</script> [link](javascript:x) @acme/all | table |",
    "x" * 10_000,
]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_text_is_recorded_as_text(training, world, tmp_path, text):
    done = training(
        *GOOD,
        run_name=text,
        owner=text,
        data_version=text,
        evaluation_data_version=text,
        environment=text,
        purpose=text,
        training_data=text,
        description=text,
        options=("--tag", f"note={text}"),
        env={"GITHUB_ACTOR": text, "GITHUB_REF_NAME": text},
    )
    assert done.exit_code == 0, done.text[:3000]
    assert set(done.outputs) == {"run-id", "version", "model-uri"}
    assert done.outputs["version"] == "1"
    tags = training.run().data.tags
    for key in ("owner", "data.version", "evaluation.data.version", "environment", "purpose", "note"):
        recorded = tags[key]
        assert recorded == text or (len(text) > 5000 and recorded.startswith("x" * 4900)), key
    assert_no_harm(done, tmp_path)


def assert_no_harm(done, tmp_path):
    assert not list(tmp_path.rglob("pwned"))
    for line in (done.stdout + "\n" + done.stderr).splitlines():
        assert not line.startswith("::") or line.startswith(("::warning title=", "::error title=", "::notice title="))
        assert "##[" not in line
    for character in "\x1b\x07\x08\u202e\u200b":
        assert character not in done.text
    assert "<script" not in done.summary
    assert "javascript:x)" not in done.summary.replace("\\)", "")


@pytest.mark.parametrize("text", HOSTILE[::2], ids=range(0, len(HOSTILE), 2))
def test_hostile_text_where_a_name_is_wanted_is_refused_as_text(cli, world, tmp_path, text):
    number = world.version(0.8)
    for command, arguments in (
        ("validate-model", ("--model-name", text)),
        ("validate-model", ("--model-name", world.name, "--alias", text)),
        ("validate-model", ("--model-name", world.name, "--version", number, "--champion-alias", text)),
        ("validate-model", ("--model-name", world.name, "--threshold", text)),
        ("promote-alias", ("--model-name", world.name, "--version", text)),
        (
            "train-and-register",
            ("--experiment-name", text, "--model-name", world.name, "--data-version", "1", "--", "true"),
        ),
    ):
        done = cli(command, *arguments)
        assert done.exit_code == 2, (command, arguments, done.text[:2000])
        assert set(done.outputs.values()) <= {"", "false"}, done.outputs
        assert len(done.stderr) < 6000
        assert_no_harm(done, tmp_path)


# -- creates that are answered unclearly


@pytest.mark.parametrize("fault", ["gateway", "lost"])
def test_run_and_version_are_made_once_though_the_answers_were_lost(training, proxy, fault):
    for path in ("runs/create", "model-versions/create"):
        rule = proxy.when("POST", path, times=1)
        rule.answer_after_forwarding(504) if fault == "gateway" else rule.lose_answer()
    training.cli = training.cli.at(proxy.uri)
    done = training(*GOOD)
    assert done.exit_code == 0, done.text
    assert len(proxy.seen("POST", "model-versions/create")) == 1
    assert len(proxy.seen("POST", "mlflow/runs/create")) == 1
    assert len(training.runs()) == 1
    assert training.registered() == ["1"]


def test_run_ends_though_the_server_stumbles_at_the_end(training, proxy):
    proxy.when("POST", "runs/update", times=2).answer(503)
    training.cli = training.cli.at(proxy.uri)
    assert training(*GOOD).exit_code == 0
    assert training.run().info.status == "FINISHED"


def test_registry_that_fails_before_training_means_no_training(training, proxy, tmp_path):
    proxy.when().answer(503)
    training.cli = training.cli.at(proxy.uri)
    done = training(argv=("touch", "trained"), options=("--registry-timeout", "2"))
    assert done.exit_code == 3, done.text
    assert not (tmp_path / "trained").exists()
    assert proxy.writes == []
