"""train-and-register: run a training command in an MLflow run, and register the model that it logged."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from champion_gate import conventions
from champion_gate.cli import SECONDS, Result, command, option, prints_json, run
from champion_gate.move_options import lock_options, rules_of

if TYPE_CHECKING:
    from champion_gate.training import Trained

OUTPUTS = ("run-id", "version", "model-uri")


def training_options(function: Callable[..., Result]) -> Callable[..., Result]:
    """The options of a training, which the whole release has too."""
    for add in reversed(
        (
            option("--experiment-name", help="Experiment, as /{team}/{project}/{type}. Required to train."),
            option("--run-name", help="Name of the run. Default: MLflow makes one up."),
            option("--model-name", "--register-model", required=True, help="Registered model."),
            option("--team", help="Team that owns the model. Default: the first part of experiment-name."),
            option("--owner", help="Who answers for the run. Default: who runs the job."),
            option("--data-version", help="Version of the training data. Required to train."),
            option("--evaluation-data-version", help="Version of the data that the metrics were measured on."),
            option("--environment", default="ci", help="Tag of the run: where it was made."),
            option("--purpose", default="training", help="Tag of the run: what it is for."),
            option("--training-data", help="What it was trained on, for the version's tag. Default: data-version."),
            option("--tag", multiple=True, help="KEY=VALUE for the run and the version. One per line, or repeated."),
            option("--description", help="Description of the version and the run."),
            option(
                "--metric", default=conventions.DEFAULT_METRIC, help="Run metric; val_ndcg@10 means val_ndcg_at_10."
            ),
            option("--logged-model", help="Name of the logged model to register, when there are several."),
            option("--alias", default=conventions.CHALLENGER, help="Alias for the new version; 'none' sets none."),
            option("--timeout", type=SECONDS, help="Seconds that the training command may take. Default: no limit."),
            option("--command", help="Training command, run by bash as GitHub runs a step."),
            option("--working-directory", default=".", help="Folder that the training command is started in."),
            click.argument("argv", nargs=-1, type=click.UNPROCESSED, metavar="[-- COMMAND ARGS...]"),
        )
    ):
        function = add(function)
    return function


@command("train-and-register", OUTPUTS)
@training_options
@lock_options
def main(**given: Any) -> Result:
    """Train in a run with all required tags, register what was logged, and make it the challenger.

    The training command comes after `--`, or as --command. It finds MLFLOW_RUN_ID, MLFLOW_EXPERIMENT_NAME and the
    tracking URI in its environment. Exit codes: 0 registered, 2 bad input or no model logged, 3 the registry did
    not answer, 5 the training command failed, 130/143 cancelled.
    """
    return result_of(train(given["argv"], given, dict(os.environ)))


def train(argv: Sequence[str], given: dict[str, Any], caller: dict[str, str]) -> Trained:
    """Train with the options of this command.

    `caller` is the environment from before `Registry.connect`, which adds settings that are for this process only.
    """
    from champion_gate import github, training, training_command
    from champion_gate.errors import BadInput
    from champion_gate.registry import Registry

    for name in ("experiment_name", "data_version"):
        if not given[name]:
            spelled = name.replace("_", "-")
            raise BadInput(
                f"The input '{spelled}' is required, and it is empty or not given.",
                "",
                f"Set '{spelled}' under `with:` in the workflow, or --{spelled} on the command line.",
            )
    directory = Path(given["working_directory"])
    words = training_command.argv_of(given["command"] or "", argv, directory)
    job = github.context()
    text = {key: given[key] or "" for key in ("team", "run_name", "evaluation_data_version", "training_data")}
    request = training.Request(
        experiment_name=given["experiment_name"],
        model_name=given["model_name"],
        data_version=given["data_version"],
        owner=given["owner"] or job.actor,
        environment=given["environment"],
        purpose=given["purpose"],
        tags=dict(conventions.user_tag(pair) for pair in given["tag"]),
        description=given["description"] or "",
        metric=given["metric"],
        logged_model=given["logged_model"] or "",
        alias=given["alias"],
        timeout=given["timeout"],
        **text,
    )
    # Under --json, stdout is not the training command's.
    output = sys.stderr.fileno() if prints_json() else None
    rules = rules_of(given)
    registry = Registry.connect(given["registry_timeout"])
    return training.train(registry, request, job, training_command.Command(words, directory, caller, output), rules)


def outputs_of(trained: Trained) -> dict[str, str]:
    """The outputs of a training."""
    return {"run-id": trained.run_id, "version": trained.version, "model-uri": trained.model_uri}


def result_of(trained: Trained) -> Result:
    """A training's outputs and report."""
    from champion_gate import report

    markdown, text = report.training(trained)
    return Result(outputs_of(trained), markdown, text)


if __name__ == "__main__":
    run(main)
