"""release: the whole release in one step: train when there is a command, validate, promote."""

from __future__ import annotations

import os
from typing import Any

import promote_alias
import train_and_register
import validate_model
from champion_gate import conventions
from champion_gate.cli import Result, command, option, run
from champion_gate.errors import BadInput
from champion_gate.move_options import expect_option, lock_options, no_key_beside_training, signing_option

OUTPUTS = tuple(dict.fromkeys(train_and_register.OUTPUTS + validate_model.OUTPUTS + promote_alias.OUTPUTS))


@command("release", OUTPUTS)
@train_and_register.training_options
@option("--version", help="Number of the version to release, when nothing is trained. Default: the alias.")
@validate_model.policy_options
@validate_model.evidence_options
@validate_model.environment_option("--scoring-environment")
@validate_model.scoring_options
@option("--champion-alias", default=conventions.CHAMPION, help="Alias to compare with, and to move.")
@option("--previous-alias", help="Alias for the champion until now. Default: previous-<champion-alias>.")
@option("--approved-by", help="Who approved it, where no reviewer of the run is found. Default: who runs it.")
@promote_alias.verdict_options
@signing_option
@option("--override-reason", help="Why to go against the verdict; takes an approval by a named reviewer.")
@option("--reinstate", help="Why a version that was rolled back may be promoted again.")
@expect_option
@lock_options
@option("--promote/--no-promote", default=True, help="Promote when the verdict is a pass.")
def main(**given: Any) -> Result:
    """Train (when a command is given), validate, and promote, in one process.

    The number that was validated is the number that is promoted. Exit codes: 0 done, 1 the verdict is no or the
    promotion was refused, 2 bad input, 3 the registry did not answer, 4 inconclusive, 5 the training command failed.
    """
    from champion_gate import gate, github
    from champion_gate.registry import Registry

    caller = dict(os.environ)
    results: list[Result] = []
    model_name = conventions.readable_model_name(given["model_name"])
    from_alias = conventions.CHALLENGER if given["alias"] == conventions.NO_ALIAS else given["alias"]
    promote_alias.three_aliases(
        from_alias, given["champion_alias"], given["previous_alias"], ("alias", "champion-alias")
    )
    policy = validate_model.policy_of(model_name, given, metric_is_policy=False)
    if given["command"] or given["argv"]:
        no_key_beside_training(given)
        if given["version"]:
            raise BadInput(
                "A training command and version are both given.",
                "What is trained becomes a new version, and that one is released.",
                "Leave one of the two out.",
            )
        validate_model.warn_of_missing_data(given)
        # Before hours of training, not after them.
        gate.decidable(Registry.connect(given["registry_timeout"]), model_name, policy, given["champion_alias"])
        trained = train_and_register.train(given["argv"], given, caller)
        number = trained.version
        results.append(train_and_register.result_of(trained))
        # Known from here on, whatever the gate will say.
        github.write_outputs(results[-1].outputs)
    else:
        number = conventions.version_number(given["version"], "version") if given["version"] else ""
    alias = "" if number else conventions.alias_name(given["alias"], "alias")
    judged = validate_model.judge(model_name, alias, number, policy, given)
    results.append(validate_model.result_of(judged, given))
    passed = judged.decision.outcome.value == "passed" or judged.promotable or bool(given["override_reason"])
    if passed and given["promote"]:
        github.write_outputs(results[-1].outputs)
        moving = {**given, "to_alias": given["champion_alias"], "from_alias": from_alias, "dry_run": False}
        results.append(
            promote_alias.result_of(promote_alias.move(model_name, judged.version.number, moving, policy.digest()))
        )
    return _joined(results)


def _joined(results: list[Result]) -> Result:
    outputs: dict[str, str] = {}
    for result in results:
        outputs.update(result.outputs)
    last = results[-1]
    return Result(
        outputs,
        "\n\n".join(result.markdown for result in results),
        "\n".join(result.text for result in results),
        last.exit_code,
        last.annotation,
    )


if __name__ == "__main__":
    run(main)
