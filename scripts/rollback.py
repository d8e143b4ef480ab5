"""rollback: take the champion back to the last good version."""

from __future__ import annotations

from typing import Any

from champion_gate import conventions
from champion_gate.cli import Annotation, Result, command, option, run

OUTPUTS = ("version", "rolled-back-version", "changed", "release-run-id")


@command("rollback", OUTPUTS)
@option("--model-name", required=True, help="Registered model.")
@option("--to-version", help="Version to go back to. Default: the last good champion that the release log knows.")
@option("--from-version", help="Refuse if the champion is another version than this.")
@option("--reason", required=True, help="Why, for those who read the history.")
@option("--champion-alias", default=conventions.CHAMPION, help="Alias to move: what serving loads.")
@option("--team", help="Team that the release log stands under. Default: the model's tag, or its run's.")
@option("--dry-run", is_flag=True, help="Check everything, say what would be done, and change nothing.")
def main(**given: Any) -> Result:
    """Move the champion alias back, and put the version that it named into quarantine.

    A second rollback goes further back; a re-run of the same job changes nothing. Exit codes: 0 done,
    1 refused, 2 bad input or nothing to go back to, 3 the registry did not answer.
    """
    from champion_gate import github, moves, report
    from champion_gate.registry import Registry

    moved = moves.rollback(
        Registry.connect(given["registry_timeout"]),
        conventions.readable_model_name(given["model_name"]),
        github.context(),
        reason=given["reason"],
        to_version=conventions.version_number(given["to_version"], "to-version") if given["to_version"] else "",
        from_version=conventions.version_number(given["from_version"], "from-version") if given["from_version"] else "",
        champion_alias=conventions.alias_name(given["champion_alias"], "champion-alias"),
        team=given["team"] or "",
        dry_run=given["dry_run"],
    )
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
