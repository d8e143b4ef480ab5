"""Text from outside, made safe to show: logs, Markdown, registry tags.

Names, reasons and server answers may hold newlines, escape sequences or workflow commands. They are
recorded as they are and shown through these functions only.
"""

from __future__ import annotations

import re

# MLflow's portable limit for a tag value (2.x servers and PostgreSQL); later servers allow more, some cut silently.
TAG_BYTES = 5000
CUT_MARK = " … [cut]"

_MARKDOWN_SPECIAL = re.compile(r"([\\`*_{}\[\]()#+!|~$:])")
# Characters that move the cursor, reorder text or cannot be seen.
_UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")
_ESCAPES = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def one_line(text: str, limit: int = 1000) -> str:
    """`text` on one line with every control character spelled out, at most `limit` characters.

    GitHub's runner takes `##[command]` anywhere in a line for a command, and `::command::` at its start:
    both are broken up, so that no text of others can speak to the runner.
    """
    shown = _UNSEEN.sub(lambda m: _ESCAPES.get(m[0]) or f"\\u{ord(m[0]):04x}", text)
    shown = shown.replace("##[", "# #[")
    if shown.lstrip().startswith("::"):
        shown = shown.replace("::", ": :", 1)
    return shown if len(shown) <= limit else shown[: limit - len(CUT_MARK)] + CUT_MARK


def markdown(text: str, limit: int = 1000) -> str:
    """`text` as literal text inside GitHub's Markdown: no markup, links, mentions, HTML or table cells."""
    escaped = one_line(text, limit).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    # A mention works even after a backslash, but not as an entity.
    return _MARKDOWN_SPECIAL.sub(r"\\\1", escaped).replace("@", "&#64;")


def utf8(text: str) -> str:
    """`text` with undecodable bytes of the command line replaced, so that it can be sent as JSON."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def fit_tag(text: str, limit: int = TAG_BYTES) -> str:
    """`text` cut to `limit` bytes of UTF-8, marked where it was cut: what every MLflow server can keep."""
    raw = text.encode("utf-8")
    if len(raw) <= limit:
        return text
    mark = CUT_MARK.encode("utf-8")
    return raw[: limit - len(mark)].decode("utf-8", "ignore") + CUT_MARK
