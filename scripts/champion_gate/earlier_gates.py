"""What earlier gates found for a version, so that a champion is not scored again on the same queries.

A gate run says in its tags which data, metrics and versions its per-query table is of, where the models were scored
and for what, and what the file's bytes hash to. Anything that does not fit is left alone, and the model is scored:
so are scores that a job brought along, and for a release what a pull request found, whose code nobody has merged.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from champion_gate import lineage
from champion_gate.errors import OutsideWorldFailed
from champion_gate.github import log
from champion_gate.per_query import FILE, SIDES, read_side
from champion_gate.rank_metric import RankMetric
from champion_gate.registry import Registry, Run, Version
from champion_gate.release_log import ReleaseLog

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

DATASET_TAG = "gate.dataset_digest"
OPTIONS_TAG = "gate.metric_options"
TABLE_TAG = "gate.per_query_digest"
SCORED_TAG = "gate.scored_in"
PURPOSE_TAG = "gate.purpose"
ISOLATION_TAG = "gate.isolation"
_LOOKED_AT = 5


@dataclass(frozen=True)
class Asked:
    """What figures must be of: data, metrics, the environment that models are scored in, and the purpose of the gate.

    `scored_in` is empty where a job brought the scores along.
    """

    digest: str
    metrics: Sequence[RankMetric]
    scored_in: str
    purpose: Literal["release", "check"]
    sandbox: bool = False
    """Whether only figures of models that were shut in count."""


def side_tag(side: str) -> str:
    """The tag of a gate run that says which version it measured as `side`."""
    return f"gate.measured.{side}"


def identity(version: Version) -> str:
    """A version as those tags name it: a number is used again where the last version was deleted."""
    return f"{version.number}@{version.created}"


def tags(of: Asked, measured: Mapping[str, Version], table: Path | None) -> dict[str, str]:
    """What a gate run says of its per-query table."""
    found = {DATASET_TAG: of.digest, OPTIONS_TAG: _options(of.metrics), PURPOSE_TAG: of.purpose}
    found[SCORED_TAG] = of.scored_in or "none"
    found |= {side_tag(side): identity(version) for side, version in measured.items()}
    if table is not None:
        found[TABLE_TAG] = file_digest(table)
    return found


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return "sha256:" + digest.hexdigest()


def figures(
    registry: Registry,
    release_log: ReleaseLog,
    version: Version,
    asked: Asked,
    query_ids: list[str],
    folder: Path,
) -> tuple[Run, dict[str, NDArray[np.float64]]] | None:
    """The newest gate run that measured `version` as `asked`, and the version's figures.

    None if there is none, or its table cannot be read: then the model has to be scored.
    """
    fitting = [(run, _side_of(run, version, asked)) for run in release_log.gates_on(DATASET_TAG, asked.digest)]
    for run, side in [(run, side) for run, side in fitting if side is not None][:_LOOKED_AT]:
        try:
            table = _table(registry, run, folder)
            return run, read_side(table, side, query_ids, [metric.name for metric in asked.metrics])
        except (OutsideWorldFailed, ValueError) as error:
            log(f"The per-query table of gate run {run.id} is not used: {error}")
    return None


def _table(registry: Registry, run: Run, folder: Path) -> Path:
    table = registry.download_artifact(run.id, FILE, folder)
    if file_digest(table) != run.tags.get(TABLE_TAG):
        raise ValueError("it is not the file that the gate wrote")
    return table


def _side_of(run: Run, version: Version, asked: Asked) -> str | None:
    if run.tags.get("gate.state") != lineage.DONE or TABLE_TAG not in run.tags:
        return None
    if run.tags.get(OPTIONS_TAG) != _options(asked.metrics) or run.tags.get(SCORED_TAG) != asked.scored_in:
        return None
    if run.tags.get(PURPOSE_TAG) not in ("release", asked.purpose):
        return None
    if asked.sandbox and not run.tags.get(ISOLATION_TAG, "").startswith("sandbox"):
        return None
    return next((side for side in SIDES if run.tags.get(side_tag(side)) == identity(version)), None)


def _options(metrics: Sequence[RankMetric]) -> str:
    return json.dumps({metric.name: metric.options() for metric in metrics}, sort_keys=True, separators=(",", ":"))
