"""Entries of a release log, built as the commands would write them."""

from __future__ import annotations

from typing import Any

from champion_gate.lineage import Entry


class Log:
    """A log that grows by one entry at a time, each with the next fence, a thousandth of a second later."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []

    def add(
        self,
        kind: str,
        from_version: str | None,
        to_version: str | None,
        state: str = "done",
        alias: str = "champion",
        **fields: Any,
    ) -> Log:
        number = len(self.entries) + 1
        values: dict[str, Any] = {
            "run_id": f"r{number}",
            "kind": kind,
            "state": state,
            "alias": alias,
            "from_version": from_version,
            "to_version": to_version,
            "previous": None,
            "operation_id": f"o{number}",
            "fence": number,
            "actor": "ann",
            "commit": "c",
            "reason": "",
            "verdict": "",
            "time": 1000 + number,
            "model_created": 1,
            **fields,
        }
        self.entries.append(Entry(**values))
        return self

    def promote(self, from_version: str | None, to_version: str | None, **fields: Any) -> Log:
        return self.add("promotion", from_version, to_version, **fields)

    def roll_back(self, from_version: str | None, to_version: str | None, **fields: Any) -> Log:
        return self.add("rollback", from_version, to_version, **fields)
