"""promote-alias: make a version champion, if its verdict says so."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from champion_gate import conventions
from champion_gate.cli import Result, command, option, options, run
from champion_gate.errors import BadInput
from champion_gate.move_options import (
    DURATION,
    approval_options,
    approved_of,
    expect_option,
    keys_of,
    lock_options,
    rules_of,
    signing_option,
)

if TYPE_CHECKING:
    from champion_gate.move_writes import Moved

OUTPUTS = ("version", "previous-version", "changed", "release-run-id")


verdict_options = options(
    option("--max-verdict-age", type=DURATION, default="7d", help="How old a verdict may be: 7d, 12h, 30m."),
    option("--dataset-digest", help="Refuse a verdict that was reached on other judged queries."),
    option("--commit", help="Refuse a verdict that was reached for another commit."),
    option("--verify-artifacts", is_flag=True, help="Hash the model's files again, and compare with what was judged."),
)
"""What is asked of a verdict beside what the registry says."""


@command("promote-alias", OUTPUTS)
@option("--model-name", required=True, help="Registered model.")
@option("--version", help="Number of the version to promote, instead of from-alias.")
@option("--from-alias", default=conventions.CHALLENGER, help="Alias of the version to promote.")
@option("--to-alias", default=conventions.CHAMPION, help="Alias to move: what serving loads.")
@option("--previous-alias", help="Alias for the champion until now. Default: previous-<to-alias>.")
@option("--approved-by", help="Who approved it, where no reviewer of the run is found. Default: who runs it.")
@option("--policy", help="Refuse a verdict that was reached by another policy than this file.")
@verdict_options
@signing_option
@approval_options
@option("--reinstate", help="Why a version that was rolled back may be promoted again.")
@expect_option
@lock_options
@option("--team", help="Team that the release log stands under. Default: the model's tag, or its run's.")
@option("--dry-run", is_flag=True, help="Check everything, say what would be done, and change nothing.")
def main(**given: Any) -> Result:
    """Move an alias to a version whose verdict passed, against the champion of this moment.

    Done twice it changes nothing. Exit codes: 0 promoted or nothing to do, 1 refused, 2 bad input, 3 the
    registry or Redis failed, or somebody else is at work.
    """
    policy = policy_digest(given["policy"]) if given["policy"] else None
    return result_of(move(given["model_name"], given["version"] or "", given, policy))


def policy_digest(file: str) -> str:
    """The digest of a policy file, as this job's checkout has it.

    Raises:
        BadInput: it cannot be read, or is no policy.
    """
    from champion_gate import policy, policy_file

    return policy.from_yaml(policy_file.text(Path(file)), file).digest()


def move(model_name: str, number: str, given: dict[str, Any], policy: str | None) -> Moved:
    """Promote with the options of this command; `policy` is the digest that the verdict must have, if any."""
    from champion_gate import github, moves, verdict
    from champion_gate.registry import Registry

    from_alias, to_alias, previous = three_aliases(given["from_alias"], given["to_alias"], given["previous_alias"])
    job = github.context()
    keys, rules = keys_of(given), rules_of(given)
    registry = Registry.connect(given["registry_timeout"])
    asked = moves.Promotion(
        approved_of(given, job),
        number=conventions.version_number(number, "version") if number else "",
        from_alias=from_alias,
        to_alias=to_alias,
        previous_alias=previous,
        expected=verdict.Expected(policy, given["dataset_digest"], given["commit"]),
        max_age=given["max_verdict_age"],
        keys=keys,
        verify_artifacts=given["verify_artifacts"],
        override_reason=given["override_reason"] or "",
        reinstate=given["reinstate"] or "",
        team=given["team"] or "",
        dry_run=given["dry_run"],
    )
    return moves.promote(registry, conventions.readable_model_name(model_name), job, asked, rules)


def three_aliases(
    from_alias: str, to_alias: str, previous_alias: str | None, inputs: tuple[str, str] = ("from-alias", "to-alias")
) -> tuple[str, str, str]:
    """The aliases of a promotion, each another: from, to, and the one for the champion until now.

    `inputs` are the names of the first two as the workflow spells them.

    Raises:
        BadInput: one is no alias, or two are the same.
    """
    aliases = (
        conventions.alias_name(from_alias, inputs[0]),
        conventions.alias_name(to_alias, inputs[1]),
        conventions.alias_name(previous_alias or conventions.previous_alias(to_alias), "previous-alias"),
    )
    if len(set(aliases)) < 3:
        raise BadInput(
            f"{inputs[0]} '{aliases[0]}', {inputs[1]} '{aliases[1]}' and previous-alias '{aliases[2]}' are not three "
            "aliases.",
            "Each names another version: training must not move what serving loads.",
            "Give each its own name.",
        )
    return aliases


def outputs_of(moved: Moved) -> dict[str, str]:
    """The outputs of a promotion."""
    return {
        "version": moved.to_version,
        "previous-version": moved.from_version or "",
        "changed": str(moved.changed).lower(),
        "release-run-id": moved.run_id,
    }


def result_of(moved: Moved) -> Result:
    """A promotion's outputs and report."""
    from champion_gate import report

    markdown, text = report.move(moved)
    return Result(outputs_of(moved), markdown, text)


if __name__ == "__main__":
    run(main)
