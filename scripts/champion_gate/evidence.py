"""Where the figures come from: in this version, the metrics of the two versions' runs."""

from __future__ import annotations

from champion_gate.decision import Basis, Evidence, Side
from champion_gate.registry import Registry, Run, Version

_ENDED_BADLY = ("FAILED", "KILLED")


def from_runs(registry: Registry, challenger: Version, champion: Version | None) -> Evidence:
    """The run metrics of challenger and champion (`champion` is None at a first release).

    A point estimate: one figure a side, which says nothing of its noise.

    Raises:
        OutsideWorldFailed: the registry did not answer.
    """
    return Evidence(
        _side(registry, challenger, "challenger"),
        _side(registry, champion, "champion") if champion is not None else None,
        Basis.POINT_ESTIMATE,
    )


def _side(registry: Registry, version: Version, who: str) -> Side:
    run = registry.find_run(version.run_id) if version.run_id else None
    if run is None:
        missing = f"run {version.run_id} of {who} version {version.number} is not there any more"
        none = f"{who} version {version.number} was registered without a run"
        return Side(version.number, problem=f"There are no metrics: {missing if version.run_id else none}.")
    return Side(
        version.number,
        dict(run.metrics),
        run.tags.get("data.version") or None,
        run.tags.get("evaluation.data.version") or None,
        _problem(version, run, who),
    )


def _problem(version: Version, run: Run, who: str) -> str | None:
    if who == "challenger" and run.status in _ENDED_BADLY:
        return f"The run of {who} version {version.number} ended {run.status}: it may be half trained."
    if who == "challenger" and run.deleted:
        return f"The run of {who} version {version.number} was deleted: its model goes with it at the next clean-up."
    if who == "challenger" and version.status == "FAILED_REGISTRATION":
        return f"Version {version.number} failed to register."
    return None
