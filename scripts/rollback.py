"""rollback: take the champion back to the last good version."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from champion_gate import conventions
from champion_gate.cli import Annotation, Result, command, option, run
from champion_gate.errors import BadInput
from champion_gate.move_options import approval_options, approved_of, expect_option, lock_options, rules_of

if TYPE_CHECKING:
    from champion_gate.move_writes import Moved

OUTPUTS = ("version", "rolled-back-version", "changed", "release-run-id")


@command("rollback", OUTPUTS)
@option("--model-name", required=True, help="Registered model.")
@option("--to-version", help="Version to go back to. Default: the last good champion that the release log knows.")
@option("--steps", type=click.IntRange(min=1), default=1, help="How many good releases to go back.")
@option("--from-version", help="Refuse if the champion is another version than this.")
@option("--reason", help="Why, for those who read the history. Required.")
@option("--champion-alias", default=conventions.CHAMPION, help="Alias to move: what serving loads.")
@option("--hold", is_flag=True, help="Stop promotions of the model until somebody lifts the hold.")
@option("--release-hold", is_flag=True, help="Lift the hold, and move nothing.")
@approval_options
@expect_option
@lock_options
@option("--team", help="Team that the release log stands under. Default: the model's tag, or its run's.")
@option("--dry-run", is_flag=True, help="Check everything, say what would be done, and change nothing.")
def main(**given: Any) -> Result:
    """Move the champion alias back, and put the version that it named into quarantine.

    A second rollback goes further back; a re-run of the same job changes nothing. Exit codes: 0 done,
    1 refused, 2 bad input or nothing to go back to, 3 the registry or Redis failed, or somebody else is at work.
    """
    from champion_gate import github, moves
    from champion_gate.registry import Registry

    if not given["reason"]:
        raise BadInput(
            "The input 'reason' is required, and it is empty or not given.",
            "",
            "Set 'reason' under `with:` in the workflow, or --reason on the command line.",
        )
    name = conventions.readable_model_name(given["model_name"])
    job, rules = github.context(), rules_of(given)
    registry = Registry.connect(given["registry_timeout"])
    if given["release_hold"]:
        return _hold_released(registry, name, job, rules, given)
    _one_way_back(given)
    asked = moves.Rollback(
        given["reason"],
        approved_of(given, job),
        to_version=conventions.version_number(given["to_version"], "to-version") if given["to_version"] else "",
        from_version=conventions.version_number(given["from_version"], "from-version") if given["from_version"] else "",
        steps=given["steps"],
        champion_alias=conventions.alias_name(given["champion_alias"], "champion-alias"),
        hold=given["hold"],
        override_reason=given["override_reason"] or "",
        team=given["team"] or "",
        dry_run=given["dry_run"],
    )
    return _result(moves.rollback(registry, name, job, asked, rules))


def _one_way_back(given: dict[str, Any]) -> None:
    if given["to_version"] and given["steps"] > 1:
        raise BadInput(
            "to-version and steps are both given.", "Each says how far to go back.", "Leave one of the two out."
        )


def _hold_released(registry: Any, name: str, job: Any, rules: Any, given: dict[str, Any]) -> Result:
    from champion_gate import moves
    from champion_gate.text import markdown

    if given["hold"]:
        raise BadInput("hold and release-hold are both given.", "One undoes the other.", "Leave one of the two out.")
    dry_run = given["dry_run"]
    said = moves.release_hold(registry, name, job, given["reason"], rules, given["team"] or "", dry_run=dry_run)
    done = f"WOULD RELEASE: {name} is on hold." if dry_run else f"RELEASED: promotions of {name} are allowed again."
    text = f"{done} {said}" if said else f"UNCHANGED: {name} was not on hold."
    return Result({"changed": "false"}, f"## {markdown(text, 2000)}", text)


def _result(moved: Moved) -> Result:
    from champion_gate import report

    outputs = {
        "version": moved.to_version,
        "rolled-back-version": moved.from_version or "",
        "changed": str(moved.changed).lower(),
        "release-run-id": moved.run_id,
    }
    markdown, text = report.move(moved)
    done = Annotation(
        "warning", f"{moved.model_name} rolled back", f"Version {moved.from_version} was taken back: {moved.reason}"
    )
    return Result(outputs, markdown, text, annotation=done if moved.changed else None)


if __name__ == "__main__":
    run(main)
