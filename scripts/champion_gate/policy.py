"""What a challenger must show: thresholds and margins. Pure."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from champion_gate import conventions
from champion_gate.errors import BadInput
from champion_gate.text import one_line

DEFAULT_MAX_REGRESSION = 0.02


class MetricPolicy(BaseModel):
    """What one metric must show. Higher is better."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: str
    threshold: float | None = None
    """The least value that passes, whatever the champion has; None asks for none."""
    max_regression: float = Field(default=DEFAULT_MAX_REGRESSION, ge=0, lt=1)
    """The share of the champion's value that may be lost: 0.02 passes from 98 % of it on."""

    @model_validator(mode="after")
    def _can_pass(self) -> MetricPolicy:
        if conventions.is_ndcg(self.name) and self.threshold is not None and not 0 <= self.threshold <= 1:
            raise ValueError(f"threshold {self.threshold} is out of reach: an NDCG lies between 0 and 1")
        return self


class Policy(BaseModel):
    """What a challenger must show to become champion. An empty policy is an error, never a pass."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    metrics: tuple[MetricPolicy, ...] = Field(min_length=1)
    allow_different_data: bool = False
    """Compare run metrics though the runs do not name the same evaluation data."""

    def digest(self) -> str:
        """SHA-256 of the policy's canonical JSON: equal for equal demands."""
        canonical = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return "sha256:" + hashlib.sha256(canonical.encode()).hexdigest()


def from_inputs(
    metric: str, threshold: float | None, max_regression: float, *, allow_different_data: bool = False
) -> Policy:
    """The policy that the inputs of an action ask for.

    Raises:
        BadInput: a value that cannot be, or that no model could pass; names the input.
    """
    asked: dict[str, Any] = {
        "metrics": [
            {
                "name": conventions.metric_name(metric),
                "threshold": threshold,
                "max_regression": max_regression,
            }
        ],
        "allow_different_data": allow_different_data,
    }
    try:
        return Policy.model_validate(asked)
    except ValidationError as error:
        first = error.errors()[0]
        field = str(first["loc"][-1]).replace("_", "-") if len(first["loc"]) > 2 else "threshold"
        given = "" if isinstance(first["input"], dict) else f" '{one_line(str(first['input']), 60)}'"
        raise BadInput(
            f"{field}{given} is not possible: {first['msg'].removeprefix('Value error, ')}.",
            "threshold is a metric's least value, max-regression a share from 0 up to, but not including, 1.",
            f"Correct the input '{field}'.",
        ) from error
