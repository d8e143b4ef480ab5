"""Writes what the documentation says of inputs, outputs and the policy, from the action.yml files and the code.

`scripts/run --python dev -m tests.actions.readme_tables` rewrites what stands between the markers, and the schemas;
with `--check` it only says whether all is current (exit 1 if not). A table begins after `<!-- table: FOLDER inputs -->`
(or `outputs`; names that follow choose rows) in README.md and docs/reference.md, after `<!-- fields: CLASS -->` in
docs/policy.md, and ends before `<!-- end -->`.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.actions import action_files

sys.path.insert(0, str(action_files.ROOT / "scripts"))

from champion_gate import policy, verdict

COMMAND = "scripts/run --python dev -m tests.actions.readme_tables"
README = action_files.ROOT / "README.md"
DOCS = action_files.ROOT / "docs"
REFERENCE = DOCS / "reference.md"
_TABLE = re.compile(r"(<!-- table: (\S+) (inputs|outputs)((?: [\w-]+)*) -->\n).*?(<!-- end -->)", re.DOTALL)
_FIELDS = re.compile(r"(<!-- fields: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def table(folder: str, kind: str, names: Sequence[str] = ()) -> str:
    """The Markdown table of one action's inputs or outputs: those of these names, or all."""
    rows = getattr(action_files.read(folder), kind)
    rows = {name: rows[name] for name in names or rows}
    lines = [f"| {kind[:-1]} | what it is |", "|---|---|"]
    # A bar would end the cell, also inside code.
    lines += [f"| `{name}` | {row['description'].replace('|', chr(92) + '|')} |" for name, row in rows.items()]
    return "\n".join(lines) + "\n"


def current(text: str) -> str:
    """`text` with every marked table made anew."""
    return _TABLE.sub(lambda match: f"{match[1]}\n{table(match[2], match[3], match[4].split())}\n{match[5]}", text)


def marked(text: str) -> set[tuple[str, str]]:
    """The whole tables that `text` has a place for."""
    return {(match[2], match[3]) for match in _TABLE.finditer(text) if not match[4]}


def fields(name: str) -> str:
    """The Markdown table of one part of a policy."""
    lines = ["| field | default | what it is |", "|---|---|---|"]
    for field in getattr(policy, name).model_fields.values():
        default = "required" if field.is_required() else _default(field.get_default())
        description = str(field.description).replace("|", chr(92) + "|")
        lines.append(f"| `{field.alias}` | {default} | {description} |")
    return "\n".join(lines) + "\n"


def _default(value: Any) -> str:
    if value is None or value == ():
        return "-"
    return f"`{json.dumps(value)}`" if isinstance(value, bool | int | float) else f"`{value}`"


def schema(model: Any) -> str:
    """The JSON Schema of a document, for editors and validators."""
    found = {"$schema": "https://json-schema.org/draft/2020-12/schema", **model.model_json_schema(by_alias=True)}
    return json.dumps(found, indent=2) + "\n"


def generated() -> dict[Path, str]:
    """Every file that holds something generated, as it should be."""
    page = DOCS / "policy.md"
    text = _FIELDS.sub(lambda match: f"{match[1]}\n{fields(match[2])}\n{match[3]}", page.read_text(encoding="utf-8"))
    return {
        README: current(README.read_text(encoding="utf-8")),
        REFERENCE: current(REFERENCE.read_text(encoding="utf-8")),
        page: text,
        DOCS / "policy.schema.json": schema(policy.Policy),
        DOCS / "verdict.schema.json": schema(verdict.Verdict),
    }


def main(arguments: list[str]) -> int:
    """Write what is not current, or with --check say so."""
    stale = [
        path for path, text in generated().items() if not path.exists() or path.read_text(encoding="utf-8") != text
    ]
    if arguments == ["--check"]:
        for path in stale:
            print(f"{path.relative_to(action_files.ROOT)} is not current. Run: {COMMAND}", file=sys.stderr)
        return int(bool(stale))
    for path, text in generated().items():
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
