"""validate-model: does the challenger show what the policy asks, against the champion?"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from champion_gate import conventions
from champion_gate.cli import NUMBER, Annotation, Result, command, option, run
from champion_gate.errors import EXIT_INCONCLUSIVE, EXIT_REFUSED, BadInput
from champion_gate.policy import DEFAULT_MAX_REGRESSION

if TYPE_CHECKING:
    from champion_gate.gate import Judged
    from champion_gate.policy import Policy

OUTPUTS = ("verdict", "version", "champion-version", "metric", "champion-metric", "reason", "gate-run-id")


def policy_options(function: Callable[..., Result]) -> Callable[..., Result]:
    """The options that say what a challenger must show, which the whole release has too."""
    for add in reversed(
        (
            option(
                "--threshold",
                "--threshold-ndcg",
                type=NUMBER,
                help="Least value that passes. A first release needs it.",
            ),
            option(
                "--max-regression",
                type=NUMBER,
                default=DEFAULT_MAX_REGRESSION,
                help="Share of the champion's value that may be lost: 0.02 passes from 98 % of it on.",
            ),
            option(
                "--allow-different-data",
                is_flag=True,
                help="Compare though the runs do not name the same evaluation data.",
            ),
        )
    ):
        function = add(function)
    return function


@command("validate-model", OUTPUTS)
@option("--model-name", help="Registered model. Required, unless model-uri is given.")
@option("--alias", help="Alias of the version to judge.  [default: challenger]", show_default=False)
@option("--version", help="Number of the version to judge, instead of an alias.")
@option("--model-uri", help="The version as models:/<name>@<alias> or models:/<name>/<version>.")
@option("--metric", default=conventions.DEFAULT_METRIC, help="Run metric to judge; val_ndcg@10 means val_ndcg_at_10.")
@policy_options
@option("--champion-alias", default=conventions.CHAMPION, help="Alias of the version to compare with.")
@option("--team", help="Team that the release log stands under. Default: the model's tag, or its run's.")
def main(**given: Any) -> Result:
    """Judge a version against thresholds and the champion, and write the verdict.

    Exit codes: 0 passed, 1 failed, 2 bad input, 3 the registry did not answer, 4 inconclusive.
    """
    model_name, alias, number = _which(given["model_name"], given["alias"], given["version"], given["model_uri"])
    return result_of(judge(model_name, alias, number, given))


def policy_of(given: dict[str, Any]) -> Policy:
    """The policy that the options of this command ask for."""
    from champion_gate import policy

    return policy.from_inputs(
        given["metric"],
        given["threshold"],
        given["max_regression"],
        allow_different_data=given["allow_different_data"],
    )


def judge(model_name: str, alias: str, number: str, given: dict[str, Any]) -> Judged:
    """Run one gate with the options of this command."""
    from champion_gate import gate, github
    from champion_gate.registry import Registry

    return gate.validate(
        Registry.connect(given["registry_timeout"]),
        model_name,
        policy_of(given),
        github.context(),
        champion_alias=conventions.alias_name(given["champion_alias"], "champion-alias"),
        alias=alias,
        number=number,
        team=given["team"] or "",
    )


def outputs_of(judged: Judged) -> dict[str, str]:
    """The outputs of a gate."""
    return {
        "verdict": judged.decision.outcome.value,
        "version": judged.version.number,
        "champion-version": judged.champion.number if judged.champion else "",
        "metric": "" if judged.metric is None else repr(judged.metric),
        "champion-metric": "" if judged.champion_metric is None else repr(judged.champion_metric),
        "reason": judged.decision.reason,
        "gate-run-id": judged.gate_run_id,
    }


def result_of(judged: Judged) -> Result:
    """A gate's outputs, report and exit code."""
    from champion_gate import report

    outcome = judged.decision.outcome.value
    markdown, text = report.verdict(judged)
    title = f"{judged.model.name} version {judged.version.number}: {outcome}"
    annotations = {
        "failed": Annotation("error", title, judged.decision.reason),
        "inconclusive": Annotation("warning", title, judged.decision.reason),
    }
    codes = {"passed": 0, "failed": EXIT_REFUSED, "inconclusive": EXIT_INCONCLUSIVE}
    return Result(outputs_of(judged), markdown, text, codes[outcome], annotations.get(outcome))


def _which(name: str | None, alias: str | None, number: str | None, uri: str | None) -> tuple[str, str, str]:
    """The model's name, and the alias or number of the version to judge."""
    if uri:
        uri_name, uri_alias, uri_number = conventions.model_uri(uri)
        if (name or uri_name, alias or uri_alias, number or uri_number) != (uri_name, uri_alias, uri_number):
            raise BadInput(
                "model-uri and model-name, alias or version name different versions.",
                "One version is judged.",
                "Give model-uri alone, or the others without it.",
            )
        name, alias, number = uri_name, uri_alias, uri_number
    if not name:
        raise BadInput(
            "The input 'model-name' is required, and it is empty or not given.",
            "",
            "Set 'model-name' (or 'model-uri') under `with:` in the workflow, or --model-name on the command line.",
        )
    if alias and number:
        raise BadInput(
            "alias and version are both given.", "Each names the version to judge.", "Leave one of the two out."
        )
    name = conventions.readable_model_name(name)
    if number:
        return name, "", conventions.version_number(number, "version")
    return name, conventions.alias_name(alias or conventions.CHALLENGER, "alias"), ""


if __name__ == "__main__":
    run(main)
