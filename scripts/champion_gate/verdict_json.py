"""`verdict.json`: the whole verdict of one gate, with all figures. docs/verdict.md describes it.

The version's tag holds the verdict in short, and is what a promotion trusts; this document is for people and programs
that want to know more.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from champion_gate.decision import Check
from champion_gate.verdict import Verdict

if TYPE_CHECKING:
    from champion_gate.gate import Judged


def full(document: Verdict, judged: Judged) -> str:
    """The document as indented JSON: the fields of the tag, with every check and its figures, data and policy."""
    found = document.model_dump(mode="json", by_alias=True)
    del found["checks_left_out"]
    found["reason"] = judged.decision.reason
    found["first_release"] = judged.decision.first_release
    found["checks"] = [_check(check) for check in judged.decision.checks]
    found["dataset"] = asdict(judged.dataset) if judged.dataset else None
    found["policy"] = judged.policy.model_dump(mode="json", by_alias=True)
    found["report"] = judged.report
    return json.dumps(found, indent=2, sort_keys=True, allow_nan=False) + "\n"


def _check(check: Check) -> dict[str, Any]:
    estimate = asdict(check.estimate) if check.estimate else None
    if estimate is not None:
        # JSON has no infinity: where there is no bound there is null.
        estimate = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in estimate.items()}
    return {
        "name": check.name,
        "metric": check.metric,
        "outcome": check.outcome.value,
        "reason": check.reason,
        "counts": check.counts,
        "slice": asdict(check.slice) if check.slice else None,
        "required": check.required,
        "value": check.value,
        "reference": check.reference,
        "estimate": estimate,
    }
