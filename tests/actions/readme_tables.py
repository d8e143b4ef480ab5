"""Writes the tables of inputs and outputs into README.md, from the action.yml files.

`scripts/run --python dev -m tests.actions.readme_tables` rewrites what stands between the markers; with `--check` it
only says whether the tables are current (exit 1 if not). A table begins after `<!-- table: FOLDER inputs -->` (or
`outputs`) and ends before `<!-- end -->`.
"""

from __future__ import annotations

import re
import sys

from tests.actions import action_files

COMMAND = "scripts/run --python dev -m tests.actions.readme_tables"
README = action_files.ROOT / "README.md"
_TABLE = re.compile(r"(<!-- table: (\S+) (inputs|outputs) -->\n).*?(<!-- end -->)", re.DOTALL)


def table(folder: str, kind: str) -> str:
    """The Markdown table of one action's inputs or outputs."""
    rows = getattr(action_files.read(folder), kind)
    lines = [f"| {kind[:-1]} | what it is |", "|---|---|"]
    # A bar would end the cell, also inside code.
    lines += [f"| `{name}` | {row['description'].replace('|', chr(92) + '|')} |" for name, row in rows.items()]
    return "\n".join(lines) + "\n"


def current(text: str) -> str:
    """`text` with every marked table made anew."""
    return _TABLE.sub(lambda match: f"{match[1]}\n{table(match[2], match[3])}\n{match[4]}", text)


def marked(text: str) -> set[tuple[str, str]]:
    """The tables that `text` has a place for."""
    return {(match[2], match[3]) for match in _TABLE.finditer(text)}


def main(arguments: list[str]) -> int:
    before = README.read_text(encoding="utf-8")
    after = current(before)
    if arguments == ["--check"]:
        if before != after:
            print(f"README.md: its tables are not current. Run: {COMMAND}", file=sys.stderr)
        return int(before != after)
    README.write_text(after, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
