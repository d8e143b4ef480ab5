"""A table's file: what format it has, its text in blocks of whole lines, and errors that name it."""

from __future__ import annotations

import gzip
import os
import re
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import polars as pl

from champion_gate.errors import BadInput, OutsideWorldFailed
from champion_gate.text import one_line

BLOCK_BYTES = 16 << 20
"""How much text is taken at once: enough for the parser's threads, and little beside the limit on memory."""
LINE_BYTES = 64 << 20
"""A line that is longer than this is no row of a table, but a quotation mark that is never closed."""

PARQUET, CSV, TSV, JSON_LINES, LETOR = "Parquet", "CSV", "TSV", "JSON Lines", "LETOR"
FORMATS = "Parquet (.parquet), CSV (.csv, .tsv), JSON Lines (.jsonl) and LETOR/SVMLight (.txt, .svm)"
_SUFFIXES = {
    ".parquet": PARQUET,
    ".pq": PARQUET,
    ".csv": CSV,
    ".tsv": TSV,
    ".jsonl": JSON_LINES,
    ".ndjson": JSON_LINES,
    ".svm": LETOR,
    ".svmlight": LETOR,
    ".libsvm": LETOR,
    ".letor": LETOR,
}
_PARQUET_MAGIC, _GZIP_MAGIC, _ZSTD_MAGIC = b"PAR1", b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_BOM = b"\xef\xbb\xbf"
_MEND = "Write the file again, and see that it was copied whole."


@dataclass(frozen=True)
class TableFile:
    """A file that is there, its name for messages, its format, and whether its text is compressed by gzip."""

    path: Path
    name: str
    format: str
    gzipped: bool
    stamp: tuple[int, int]
    """Size and time of change when it was opened."""

    def unchanged(self) -> None:
        """See that the file is still the one that was opened.

        Raises:
            OutsideWorldFailed: it is not; what was read from it is of two files.
        """
        with reading(self.name, self.format):
            status = self.path.stat()
        if (status.st_size, status.st_mtime_ns) != self.stamp:
            raise OutsideWorldFailed(
                f"{self.name} was changed while it was read.",
                "What was read belongs to two different tables.",
                "Run this again when nothing writes to the file any more.",
            )


def open_file(path: Path, name: str) -> TableFile:
    """Find out what kind of file this is, by its suffix and its first bytes.

    Raises:
        BadInput: it is not there, not a file, empty, or in no format that there is.
        OutsideWorldFailed: it may not be read.
    """
    status = regular_file(path, name)
    compressed = gzipped(path, name)
    with reading(name, "table"), gzip.open(path) if compressed else path.open("rb") as file:
        head = file.read(4096)
    form = _format(path, name, head, gzipped=compressed)
    return TableFile(path, name, form, compressed, (status.st_size, status.st_mtime_ns))


def gzipped(path: Path, name: str) -> bool:
    """Whether a file is compressed by gzip.

    Raises:
        OutsideWorldFailed: it may not be read.
    """
    with reading(name, "table"), path.open("rb") as file:
        return file.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC


def regular_file(path: Path, name: str) -> os.stat_result:
    """See that `path` is a file with something in it.

    Raises:
        BadInput: it is not there, a folder or a device, or empty.
        OutsideWorldFailed: it may not be looked at.
    """
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:
        where = "" if path.is_absolute() else f" A relative path starts where the step runs: {Path.cwd()}."
        raise BadInput(
            f"{name} is not there.",
            f"There is no file '{one_line(str(path.absolute()), 300)}'.{where}",
            "Check the path, and that an earlier step has made the file.",
        ) from error
    except OSError as error:
        raise _storage(name, error) from error
    if not stat.S_ISREG(status.st_mode):
        kind = "a folder" if stat.S_ISDIR(status.st_mode) else "no regular file"
        raise BadInput(f"{name} is {kind}.", "A table is one file.", "Name the file itself.")
    if status.st_size == 0:
        raise BadInput(f"{name} is empty.", "It has 0 bytes, not even the names of columns.", _MEND)
    return status


def _format(path: Path, name: str, head: bytes, *, gzipped: bool) -> str:
    if head.startswith(_PARQUET_MAGIC) and not gzipped:
        return PARQUET
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] == ".gz":
        suffixes.pop()
    form = _SUFFIXES.get(suffixes[-1] if suffixes else "")
    text = head.removeprefix(_BOM).decode("utf-8", "replace").lstrip()
    first = one_line(text.partition("\n")[0], 60)
    if form == PARQUET or (form is None and b"\0" in head):
        why = f"It starts with '{first}'"
        if text.startswith("version https://git-lfs"):
            why = "It is a pointer of Git LFS: the file itself was not checked out"
        elif head.startswith(_ZSTD_MAGIC):
            why = "It is compressed by zstd"
        elif gzipped:
            why = "It is compressed by gzip, which Parquet does inside the file"
        if form == PARQUET:
            raise BadInput(f"{name} is not a Parquet file.", f"{why}.", _MEND)
        raise _unknown(name, why)
    if form is not None:
        return form
    line = text.partition("\n")[0]
    if line.startswith("{"):
        return JSON_LINES
    if line.startswith("["):
        raise BadInput(f"{name} is one JSON list.", "JSON Lines has an object in each line.", "Write one row per line.")
    if re.match(r"(#|\S+\s+qid:)", line):
        return LETOR
    if "\t" in line or "," in line:
        return TSV if line.count("\t") > line.count(",") else CSV
    raise _unknown(name, f"It starts with '{first}'")


def _unknown(name: str, why: str) -> BadInput:
    return BadInput(f"{name} is in no format that is read.", f"{why}.", f"There are {FORMATS}.")


@contextmanager
def reading(name: str, form: str) -> Iterator[None]:
    """Turn what goes wrong while a file is read into errors that name it."""
    try:
        yield
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        why = f"Its gzip data is cut short or damaged: {one_line(str(error), 200)}."
        raise BadInput(f"{name} cannot be read.", why, _MEND) from error
    except FileNotFoundError as error:
        why = "The file disappeared while it was read."
        raise OutsideWorldFailed(f"{name} is not there any more.", why, "Run this again.") from error
    except OSError as error:
        raise _storage(name, error) from error
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        # The reader's own words come with advice on Python arguments, which nobody here can follow.
        said = one_line(str(error).partition("\n")[0], 300)
        why = f"It is no sound {form} file, or was cut short: {said}."
        raise BadInput(f"{name} cannot be read.", why, _MEND) from error


def _storage(name: str, error: OSError) -> OutsideWorldFailed:
    said = one_line(error.strerror or str(error), 200)
    do = "Check the file's permissions, and the disk that it is on."
    return OutsideWorldFailed(f"{name} cannot be read: {said}.", "Nothing was decided without it.", do)


def blocks(file: TableFile, *, quoted: bool = False) -> Iterator[tuple[int, bytes]]:
    """The text in blocks of whole lines, each with the number of its first line, from 1 on.

    Every line ends in a newline, and a byte order mark is left out. With `quoted`, a newline between quotation marks
    does not end a line, as in CSV.

    Raises:
        BadInput: a line is too long, the text is not UTF-8, or its compression is damaged.
        OutsideWorldFailed: the storage failed.
    """
    line, rest = 1, b""
    with reading(file.name, file.format), _binary(file) as stream:
        first = stream.read(BLOCK_BYTES).removeprefix(_BOM)
        read = first
        while read:
            rest += read
            end = _end_of_lines(rest, quoted=quoted)
            if end:
                yield line, _utf8(file, line, rest[:end])
                line += rest.count(b"\n", 0, end)
                rest = rest[end:]
            elif len(rest) > LINE_BYTES:
                raise _endless(file, line)
            read = stream.read(BLOCK_BYTES)
        if rest.strip():
            if quoted and rest.count(b'"') % 2:
                raise _endless(file, line)
            yield line, _utf8(file, line, rest + b"\n")


@contextmanager
def _binary(file: TableFile) -> Iterator[IO[bytes] | gzip.GzipFile]:
    with gzip.open(file.path) if file.gzipped else file.path.open("rb") as stream:
        yield stream


def _end_of_lines(text: bytes, *, quoted: bool) -> int:
    """Where the last whole line ends; 0 if none does."""
    end = text.rfind(b"\n") + 1
    if not quoted:
        return end
    # A line can end only where the quotation marks before it are even.
    marks = text.count(b'"', 0, end)
    while end and marks % 2:
        before = text.rfind(b"\n", 0, end - 1) + 1
        marks -= text.count(b'"', before, end)
        end = before
    return end


def _utf8(file: TableFile, line: int, text: bytes) -> bytes:
    try:
        text.decode("utf-8")
    except UnicodeDecodeError as error:
        line += text.count(b"\n", 0, error.start)
        raise BadInput(
            f"{file.name} is not UTF-8 text: line {line} has the byte 0x{text[error.start]:02x}.",
            "In another encoding, names and values would be read wrong.",
            "Write the file as UTF-8.",
        ) from error
    return text


def _endless(file: TableFile, line: int) -> BadInput:
    return BadInput(
        f"{file.name} has a line that does not end, from line {line} on.",
        "A quotation mark is opened there and not closed, or it is no text file.",
        'Write a quotation mark inside a field twice (""), and the field between quotation marks.',
    )
