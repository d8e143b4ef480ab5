"""A digest of a model's files: what was judged, so that a promotion can see whether it is still what is there."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path


def of_folder(folder: Path) -> str:
    """SHA-256 of all files below a folder: of their relative paths, sorted, and of the bytes of each.

    Links are followed no further than their text: what they point to is another file's business.
    """
    lines = []
    for path, folders, names in os.walk(folder):
        links = [name for name in folders if Path(path, name).is_symlink()]
        for name in (*names, *links):
            file = Path(path, name)
            content = f"link {file.readlink()}" if file.is_symlink() else _of_file(file)
            lines.append(f"{content} {file.relative_to(folder).as_posix()}\n".encode("utf-8", "surrogateescape"))
    return "sha256:" + hashlib.sha256(b"".join(sorted(lines))).hexdigest()


def _of_file(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as opened:
        while piece := opened.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()
