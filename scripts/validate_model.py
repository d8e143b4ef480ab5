"""validate-model: does the challenger show what the policy asks, against the champion?"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from champion_gate import conventions
from champion_gate.cli import NUMBER, SECONDS, Annotation, Result, command, option, options, run
from champion_gate.errors import EXIT_INCONCLUSIVE, EXIT_REFUSED, BadInput
from champion_gate.move_options import keys_of, signing_option

if TYPE_CHECKING:
    from champion_gate.decision import Estimate
    from champion_gate.gate import Judged
    from champion_gate.policy import Policy

OUTPUTS = (
    "verdict",
    "version",
    "champion-version",
    "metric",
    "champion-metric",
    "reason",
    "gate-run-id",
    "basis",
    "dataset-digest",
    "queries",
    "ratio-lower",
    "ratio-upper",
    "queries-needed",
    "report-uri",
)
PASS_WITH_WARNING = "pass-with-warning"  # noqa: S105  (it passes a step)
# The inputs that ask for what a policy file asks for, too.
_POLICY_INPUTS = (
    "metric",
    "threshold",
    "max_regression",
    "confidence",
    "min_queries",
    "baseline_version",
    "slice_column",
    "allow_different_data",
)


policy_options = options(
    option("--policy", help="Policy file (YAML).  [default: .github/champion-gate/<model>.yml, if it is there]"),
    option("--threshold", "--threshold-ndcg", type=NUMBER, help="Least value that passes. A first release needs it."),
    option(
        "--max-regression",
        type=NUMBER,
        default=conventions.DEFAULT_MAX_REGRESSION,
        help="Share of the champion's value that may be lost: 0.02 passes from 98 % of it on.",
    ),
    option(
        "--confidence", type=NUMBER, default=conventions.DEFAULT_CONFIDENCE, help="One-sided confidence of the bounds."
    ),
    option("--min-queries", type=click.IntRange(min=2), help="Fewer queries are inconclusive.  [default: 200 or more]"),
    option("--baseline-version", help="Number of a pinned version that must not be lost against either."),
    option("--slice-column", multiple=True, help="Column whose slices are looked into. One per line, or repeated."),
    option("--allow-different-data", is_flag=True, help="Compare though the runs do not name the same data."),
)
"""The options that say what a challenger must show, which the whole release has too."""

evidence_options = options(
    option(
        "--evaluation-data", help="Judged queries that both models are scored on now: path, s3://, runs:/, datasets:/."
    ),
    option("--scores", help="Judged queries with the scores of both models, from a job of your own."),
    option("--qrels", help="Judgements in TREC format, with a ranking of each side."),
    option("--query-column", default="query_id", help="Column that says which query a row belongs to."),
    option("--label-column", default="label", help="Column with the relevance of the document, 0 or more."),
    option("--document-column", help="Column that names the document; duplicates are errors then."),
    option("--challenger-score-column", default="challenger_score", help="Column of --scores."),
    option("--champion-score-column", default="champion_score", help="Column of --scores."),
    option("--baseline-score-column", default="baseline_score", help="Column of --scores."),
    option("--challenger-ranking", help="The challenger's ranking in TREC format, for --qrels."),
    option("--champion-ranking", help="The champion's ranking in TREC format, for --qrels."),
    option("--baseline-ranking", help="The baseline's ranking in TREC format, for --qrels."),
    option("--champion-version", help="Number of the champion whose scores are given; any other is refused."),
)
"""The options that say where judged queries are."""


def environment_option(*names: str) -> Callable[[Any], Any]:
    """The option that says which Python runs the models; `--environment` means something else in the whole release."""
    return option(
        *names,
        "scoring_environment",
        type=click.Choice(["model", "current"]),
        default="model",
        help="Python that runs the models: made from each model's requirements, or the one on PATH.",
    )


scoring_options = options(
    option(
        "--isolation",
        type=click.Choice(["auto", "sandbox", "process"]),
        default="auto",
        help="How a model is shut in while it is scored; auto: as strongly as this machine can.",
    ),
    option(
        "--allow-source-builds", is_flag=True, help="Let a model's requirements be built, and name URLs and options."
    ),
    option("--scoring-timeout", type=SECONDS, default=600.0, help="Seconds that one model may take to score all."),
    option(
        "--scoring-memory", type=click.IntRange(min=64), default=4096, help="Memory of one model's process, in MiB."
    ),
    option(
        "--on-inconclusive",
        type=click.Choice(["fail", PASS_WITH_WARNING]),
        default="fail",
        help="Whether an inconclusive verdict fails the step; it is promoted only if the policy says so.",
    ),
    option("--comment", is_flag=True, help="Comment on the pull request, or update the comment there is."),
    option("--github-token", help="Token for the comment.  [default: the job's, in a workflow]"),
    option("--report-file", help="Write the HTML report to this file, too."),
)
"""The options that say how models are run and how the verdict is shown."""


@command("validate-model", OUTPUTS)
@option("--model-name", help="Registered model. Required, unless model-uri is given.")
@option("--alias", help="Alias of the version to judge.  [default: challenger]", show_default=False)
@option("--version", help="Number of the version to judge, instead of an alias.")
@option("--model-uri", help="The version as models:/<name>@<alias> or models:/<name>/<version>.")
@option("--metric", default=conventions.DEFAULT_METRIC, help="Metric to judge; val_ndcg@10 means val_ndcg_at_10.")
@policy_options
@evidence_options
@environment_option("--environment", "--scoring-environment")
@scoring_options
@signing_option
@option("--verify-artifacts", is_flag=True, help="Hash the model's files, so that a promotion can verify them.")
@option("--champion-alias", default=conventions.CHAMPION, help="Alias of the version to compare with.")
@option("--team", help="Team that the release log stands under. Default: the model's tag, or its run's.")
def main(**given: Any) -> Result:
    """Judge a version against thresholds and the champion, and write the verdict.

    The evidence is the first that is given of --evaluation-data, --scores and --qrels, else the metrics of the two
    training runs. Exit codes: 0 passed, 1 failed, 2 bad input, 3 the registry or a storage failed, 4 inconclusive.
    """
    model_name, alias, number = _which(given["model_name"], given["alias"], given["version"], given["model_uri"])
    policy = policy_of(model_name, given)
    return result_of(judge(model_name, alias, number, policy, given), given)


def policy_of(model_name: str, given: dict[str, Any], *, metric_is_policy: bool = True) -> Policy:
    """The policy that a file or the options of this command ask for.

    `metric_is_policy` is False where the option `metric` says something else beside.

    Raises:
        BadInput: it cannot be read, asks for what cannot be, or file and options are both given.
    """
    from champion_gate import policy, policy_file

    by_convention = Path(".github", "champion-gate", f"{model_name}.yml")
    file = Path(given["policy"]) if given["policy"] else by_convention
    if not given["policy"] and os.path.lexists(by_convention.with_suffix(".yaml")):
        raise BadInput(
            f"{by_convention.with_suffix('.yaml')} is not read: the policy of '{model_name}' is a .yml file.",
            "It would silently not count.",
            f"Rename it to {by_convention.name}, or name it in the input 'policy'.",
        )
    # Also where it cannot be read: a policy that is there and does not count would let too much pass.
    if given["policy"] or os.path.lexists(by_convention):
        source = click.get_current_context().get_parameter_source
        unset = (click.core.ParameterSource.DEFAULT, click.core.ParameterSource.DEFAULT_MAP, None)
        names = [name for name in _POLICY_INPUTS if metric_is_policy or name != "metric"]
        # A flag that is off and a list without entries ask for nothing; a number asks, 0 too.
        given_too = [
            name for name in names if source(name) not in unset and given[name] is not False and given[name] != ()
        ]
        both = [name.replace("_", "-") for name in given_too]
        if both:
            raise BadInput(
                f"The policy {file} and the input '{both[0]}' are both given.",
                "Each says what a challenger must show, and one of them would silently not count.",
                f"Write it into the policy, and leave out {', '.join(both)}.",
            )
        return policy.from_yaml(policy_file.text(file), str(file))
    return policy.from_inputs(
        given["metric"],
        given["threshold"],
        given["max_regression"],
        allow_different_data=given["allow_different_data"],
        confidence=given["confidence"],
        min_queries=given["min_queries"],
        baseline=given["baseline_version"] or "",
        slice_columns=given["slice_column"],
    )


def judge(model_name: str, alias: str, number: str, policy: Policy, given: dict[str, Any]) -> Judged:
    """Run one gate with the options of this command."""
    from champion_gate import gate, github
    from champion_gate.registry import Registry

    champion_number = given["champion_version"] or ""
    question = gate.Question(
        champion_alias=conventions.alias_name(given["champion_alias"], "champion-alias"),
        alias=alias,
        number=number,
        team=given["team"] or "",
        champion_number=conventions.version_number(champion_number, "champion-version") if champion_number else "",
        pass_inconclusive=given["on_inconclusive"] == PASS_WITH_WARNING,
        keys=keys_of(given),
        hash_files=given["verify_artifacts"],
    )
    github.hide([given["github_token"] or ""])
    registry = Registry.connect(given["registry_timeout"])
    judged = gate.validate(
        registry, model_name, policy, github.context(), question, _sources(given), _scoring(policy, given)
    )
    _write_report(judged, given["report_file"])
    if given["comment"]:
        _comment(judged, given["github_token"] or "")
    return judged


def warn_of_missing_data(given: dict[str, Any]) -> None:
    """Say before a training that the judged queries are not there yet; the training may be what writes them."""
    from champion_gate.github import annotate

    location = (given["evaluation_data"] or given["scores"] or given["qrels"] or "").strip()
    if location and ":/" not in location and not Path(location).exists():
        said = f"{location} is not there. Unless the training writes it, the gate will fail after the training."
        annotate("warning", "No judged queries yet", said)


def _sources(given: dict[str, Any]) -> Any:
    from champion_gate.evidence import Sources

    sides = ("challenger", "champion", "baseline")
    rankings = {side: given[f"{side}_ranking"] or "" for side in sides}
    if any(rankings.values()) and not any(
        (given[name] or "").strip() for name in ("evaluation_data", "scores", "qrels")
    ):
        raise BadInput(
            "A ranking is given, and no qrels that say which documents are relevant.",
            "The gate would compare the metrics of the training runs instead.",
            "Set the input 'qrels', or leave the rankings out.",
        )
    names = ("evaluation_data", "scores", "qrels", "query_column", "label_column", "document_column")
    return Sources(
        **{name: (given[name] or "").strip() for name in names},
        score_columns={side: given[f"{side}_score_column"] for side in sides},
        rankings=rankings,
    )


def _scoring(policy: Policy, given: dict[str, Any]) -> Any:
    """How models are run; None where none is, whose environment lacks what that takes."""
    if not (given["evaluation_data"] or "").strip():
        return None
    from champion_gate.scoring import Options

    isolation = given["isolation"]
    if policy.isolation == "sandbox":
        if isolation == "process":
            raise BadInput(
                "isolation 'process' is weaker than the policy allows.",
                "The policy says `isolation: sandbox`.",
                "Leave the input 'isolation' out.",
            )
        isolation = "sandbox"
    return Options(
        isolation=isolation,
        environment=given["scoring_environment"],
        timeout=given["scoring_timeout"],
        memory_mb=given["scoring_memory"],
        allow_source_builds=given["allow_source_builds"],
    )


def _write_report(judged: Judged, file: str | None) -> None:
    if not file:
        return
    from champion_gate.github import annotate

    try:
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        Path(file).write_text(judged.html, encoding="utf-8")
    except OSError as error:
        annotate("warning", "Report not written", f"The verdict stands, but {file} could not be written: {error}")


def _comment(judged: Judged, token: str) -> None:
    """Comment on the pull request. GitHub's refusal is told, and changes nothing of the verdict."""
    from champion_gate import pull_request, report
    from champion_gate.github import annotate, log

    marker = pull_request.marker_for(judged.model.name, judged.champion_alias)
    posted = pull_request.comment(judged.job, token, marker, report.comment(judged))
    if posted.reason:
        annotate(posted.level, "No comment", posted.reason)
    else:
        log(f"The comment on the pull request: {posted.state}. {posted.url}")


def outputs_of(judged: Judged) -> dict[str, str]:
    """The outputs of a gate; the bounds are those of the first metric against the champion."""
    estimate = _estimate(judged)

    def text(value: float | None) -> str:
        return "" if value is None else repr(value)

    return {
        "verdict": judged.decision.outcome.value,
        "version": judged.version.number,
        "champion-version": judged.champion.number if judged.champion else "",
        "metric": text(judged.metric),
        "champion-metric": text(judged.champion_metric),
        "reason": judged.decision.reason,
        "gate-run-id": judged.gate_run_id,
        "basis": judged.decision.basis.value,
        "dataset-digest": judged.dataset.digest if judged.dataset else "",
        "queries": str(judged.dataset.queries) if judged.dataset else "",
        "ratio-lower": text(estimate.ratio_lower if estimate else None),
        "ratio-upper": text(estimate.ratio_upper if estimate else None),
        "queries-needed": text(estimate.needed if estimate else None),
        "report-uri": judged.report,
    }


def _estimate(judged: Judged) -> Estimate | None:
    checks = (check for check in judged.decision.checks if check.name == "champion" and check.estimate)
    return next((check.estimate for check in checks), None)


def result_of(judged: Judged, given: dict[str, Any]) -> Result:
    """A gate's outputs, report and exit code."""
    from champion_gate import report

    outcome = judged.decision.outcome.value
    markdown, text = report.verdict(judged)
    title = f"{judged.model.name} version {judged.version.number}: {outcome}"
    annotations = {
        "failed": Annotation("error", title, judged.decision.reason),
        "inconclusive": Annotation("warning", title, judged.decision.reason),
    }
    passes = given["on_inconclusive"] == PASS_WITH_WARNING
    codes = {"passed": 0, "failed": EXIT_REFUSED, "inconclusive": 0 if passes else EXIT_INCONCLUSIVE}
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
