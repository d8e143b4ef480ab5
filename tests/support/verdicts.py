"""Verdicts as a gate writes them, without a gate: for tests that need many."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow import MlflowClient


def judged(client: MlflowClient, model: str, number: str, alias: str = "champion", **changes: Any) -> None:
    """Put a passed verdict against the champion of this moment on a version; `changes` are other fields of it."""
    from champion_gate.decision import Outcome
    from champion_gate.gate import judged_version
    from champion_gate.registry import Registry
    from champion_gate.verdict import NONE, CheckRecord, JudgedModel, Verdict, tag_name

    registry = Registry(client, "", 30.0)
    now = registry.model(model)
    check = CheckRecord(name="threshold", metric="m", outcome=Outcome.PASSED, reason="It is good enough.")
    fields = {
        "outcome": Outcome.PASSED,
        "basis": "point estimate",
        "purpose": "release",
        "model": JudgedModel(name=now.name, created=now.created),
        "version": judged_version(registry.version(model, number)),
        "alias": alias,
        "champion": now.aliases.get(alias, NONE),
        "policy_digest": "sha256:0",
        "dataset_digest": None,
        "metric_options": {},
        "repository": "acme/search",
        "commit": "abc",
        "time": datetime.now(timezone.utc),
        "gate_run_id": NONE,
        "checks": (check,),
        **changes,
    }
    client.set_model_version_tag(model, number, tag_name(alias), Verdict(**fields).canonical())
