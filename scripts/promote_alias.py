"""promote-alias: make a version champion, if its verdict says so."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from champion_gate import conventions
from champion_gate.cli import Result, command, option, run
from champion_gate.errors import BadInput

if TYPE_CHECKING:
    from champion_gate.move_writes import Moved

OUTPUTS = ("version", "previous-version", "changed", "release-run-id")


@command("promote-alias", OUTPUTS)
@option("--model-name", required=True, help="Registered model.")
@option("--version", help="Number of the version to promote, instead of from-alias.")
@option("--from-alias", default=conventions.CHALLENGER, help="Alias of the version to promote.")
@option("--to-alias", default=conventions.CHAMPION, help="Alias to move: what serving loads.")
@option("--previous-alias", help="Alias for the champion until now. Default: previous-<to-alias>.")
@option("--approved-by", help="Who approved it, for the version's tag. Default: who runs the job.")
@option("--team", help="Team that the release log stands under. Default: the model's tag, or its run's.")
@option("--dry-run", is_flag=True, help="Check everything, say what would be done, and change nothing.")
def main(**given: Any) -> Result:
    """Move an alias to a version whose verdict passed, against the champion of this moment.

    Done twice it changes nothing. Exit codes: 0 promoted or nothing to do, 1 refused, 2 bad input, 3 the
    registry did not answer.
    """
    return result_of(move(given["model_name"], given["version"] or "", given))


def move(model_name: str, number: str, given: dict[str, Any]) -> Moved:
    """Promote with the options of this command."""
    from champion_gate import github, moves
    from champion_gate.registry import Registry

    from_alias, to_alias, previous = three_aliases(given["from_alias"], given["to_alias"], given["previous_alias"])
    return moves.promote(
        Registry.connect(given["registry_timeout"]),
        conventions.readable_model_name(model_name),
        github.context(),
        number=conventions.version_number(number, "version") if number else "",
        from_alias=from_alias,
        to_alias=to_alias,
        previous_alias=previous,
        approved_by=given["approved_by"] or "",
        team=given["team"] or "",
        dry_run=given["dry_run"],
    )


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
