"""The child that loads one model and scores rows with it. It runs in the model's own Python (3.8 or later).

Started by child_process.py as `python -I -S scorer.py SETTINGS`, where SETTINGS is JSON. It imports nothing of this
project: only the standard library, and of the model's environment numpy, pandas and mlflow.

On stdin come requests, on what was stdout go answers; both are frames: 4 bytes of a tag, 8 bytes of a length (little
endian), and that many bytes.

    request   SCOR   JSON {"rows": n, "columns": [{"name", "kind"}]} after its own length in 4 bytes; then the columns:
                     `kind` float64, float32, int64, int32 or bool: n values, little endian;
                     `kind` text: n + 1 offsets (int64), n flags (1: none is there), and the UTF-8 of all
    answer    HERE   nothing: this process is shut in, and nothing of the model was touched yet
              REDY   nothing: the model is loaded
              VALS   n float64, little endian
              FAIL   UTF-8: what went wrong, in one sentence

Whatever the model prints goes to stderr. Numbers are all that this process is believed, and it is not believed to keep
to this page: the parent checks every byte.
"""

from __future__ import annotations

import json
import os
import struct
import sys
import traceback
from typing import Any

# What cannot be an answer of a working model.
_LONGEST_SENTENCE = 2000
_NUMBERS = ("float64", "float32", "int64", "int32", "bool")


class Unusable(Exception):
    """The model does not do what was asked of it; says in one sentence why."""


def main() -> None:
    """Shut this process in, load the model, and answer until there are no more requests."""
    settings = json.loads(sys.argv[1])
    requests, answers = _take_the_pipes()
    try:
        _shut_in(settings)
        _send(answers, b"HERE", b"")
        _see_packages(settings)
        model = _load(settings["model"])
    except BaseException as error:  # noqa: BLE001  (SystemExit, too: a model may raise anything)
        _fail(answers, error)
        return
    _send(answers, b"REDY", b"")
    while True:
        header = requests.read(12)
        if len(header) < 12:  # the parent has no more to ask
            return
        try:
            scores = _score(model, requests)
        except BaseException as error:  # noqa: BLE001
            _fail(answers, error)
            return
        _send(answers, b"VALS", scores)


def _take_the_pipes() -> tuple[Any, int]:
    """stdin and stdout for this file only: what the model prints or reads must not get between the frames."""
    requests, answers = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # what is printed keeps its order
    return open(requests, "rb", buffering=1024 * 1024), answers  # noqa: PTH123  (a descriptor, kept to the end)


def _shut_in(settings: dict[str, Any]) -> None:
    """No new privileges, no capabilities, and limits, before any code of the model runs."""
    import resource

    for name, limit in settings["limits"].items():
        which = getattr(resource, name, None)
        if which is not None:  # macOS has fewer
            hard = resource.getrlimit(which)[1]
            value = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
            resource.setrlimit(which, (value, value))
    if not sys.platform.startswith("linux"):
        return
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl.argtypes = [ctypes.c_int, *(4 * [ctypes.c_ulong])]
    if settings["parent"]:
        libc.prctl(1, 9, 0, 0, 0)  # PR_SET_PDEATHSIG: with the parent, this ends
        if os.getppid() != settings["parent"]:
            os._exit(1)
    if libc.prctl(38, 1, 0, 0, 0) != 0:  # PR_SET_NO_NEW_PRIVS
        raise OSError(ctypes.get_errno(), "new privileges cannot be given up")
    capability = 0
    while libc.prctl(23, capability, 0, 0, 0) >= 0:  # PR_CAPBSET_READ: fails behind the last one
        libc.prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP: only who may have it must drop it
        capability += 1
    libc.prctl(47, 4, 0, 0, 0)  # PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL
    header, none = struct.pack("<Ii", 0x20080522, 0), bytes(24)  # _LINUX_CAPABILITY_VERSION_3, this process
    if libc.capset(header, none) != 0:
        raise OSError(ctypes.get_errno(), "capabilities cannot be given up")


def _see_packages(settings: dict[str, Any]) -> None:
    """Makes the model's packages importable, as `site` would; their start-up code runs now and not before."""
    import site

    sys.prefix = sys.exec_prefix = settings["prefix"]
    for folder in settings["sites"]:
        site.addsitedir(folder)
    site.setquit()
    site.sethelper()
    sys.path[:] = [entry for entry in sys.path if entry]
    for variable in ("HOME", "TMPDIR"):
        os.makedirs(os.environ[variable], exist_ok=True)  # noqa: PTH103
    os.chdir(os.environ["HOME"])


def _load(folder: str) -> Any:
    try:
        import mlflow.pyfunc
    except ImportError as error:
        raise Unusable(f"its environment has no MLflow that works ({_said(error)})") from error
    return mlflow.pyfunc.load_model(folder)


def _score(model: Any, requests: Any) -> bytes:
    """The scores of one request as bytes."""
    (length,) = struct.unpack("<I", requests.read(4))
    header = json.loads(requests.read(length))
    rows = header["rows"]
    columns = {column["name"]: _column(column["kind"], rows, requests) for column in header["columns"]}
    given = _as_asked(_inputs(model), columns, rows)
    return _numbers(model.predict(given), rows)


def _column(kind: str, rows: int, requests: Any) -> Any:
    import numpy as np

    def read(count: int, dtype: str) -> Any:
        values = np.empty(count, np.dtype(dtype).newbyteorder("<"))
        into = values.data.cast("B") if count else bytearray()
        if requests.readinto(into) != len(into):
            raise EOFError("the request was cut short")
        return values.astype(dtype, copy=False)

    if kind in _NUMBERS:
        return read(rows, kind)
    offsets, missing = read(rows + 1, "int64").tolist(), read(rows, "bool").tolist()
    text = requests.read(offsets[-1])
    values = np.empty(rows, object)
    for row in range(rows):
        values[row] = None if missing[row] else text[offsets[row] : offsets[row + 1]].decode("utf-8")
    return values


def _inputs(model: Any) -> Any:
    """The signature's inputs, None if there is no signature."""
    metadata = getattr(model, "metadata", None)
    return metadata.get_input_schema() if metadata is not None else None


def _as_asked(schema: Any, columns: dict[str, Any], rows: int) -> Any:
    """The columns as the signature wants them. MLflow itself refuses a double where a float is asked for."""
    import numpy as np
    import pandas as pd

    if schema is None or not len(schema.inputs):
        return pd.DataFrame(columns, copy=False)
    if schema.is_tensor_spec():
        if not schema.has_input_names():
            spec = schema.inputs[0]
            matrix = np.column_stack([_typed(name, values, spec.type) for name, values in columns.items()])
            if len(spec.shape) != 2 or spec.shape[1] not in (-1, matrix.shape[1]):
                shape = tuple(spec.shape)
                raise Unusable(f"its signature asks for shape {shape}, and the data has {matrix.shape[1]} features")
            return matrix
        return {
            spec.name: _typed(spec.name, _present(columns, spec.name), spec.type).reshape(rows, *spec.shape[1:])
            for spec in schema.inputs
        }
    if not schema.has_input_names():
        types = [getattr(spec.type, "name", "") for spec in schema.inputs]
        if len(types) != len(columns):
            raise Unusable(f"its signature asks for {len(types)} columns, and the data has {len(columns)}")
        cast = {name: _cast(name, columns[name], kind) for name, kind in zip(columns, types)}  # noqa: B905  (3.8)
        return pd.DataFrame(cast, copy=False)
    wanted = {}
    missing = []
    for spec in schema.inputs:
        if spec.name in columns:
            wanted[spec.name] = _cast(spec.name, columns[spec.name], getattr(spec.type, "name", ""))
        elif getattr(spec, "required", True):
            missing.append(spec.name)
    if missing:
        names = ", ".join(map(repr, missing[:10]))
        raise Unusable(f"its signature asks for {len(missing)} columns that the data does not have: {names}")
    return pd.DataFrame(wanted, copy=False)


def _present(columns: dict[str, Any], name: str) -> Any:
    if name not in columns:
        raise Unusable(f"its signature asks for {name!r}, which the data does not have")
    return columns[name]


_WIDTHS = {"integer": "int32", "long": "int64", "float": "float32", "double": "float64", "boolean": "bool"}


def _cast(name: str, values: Any, kind: str) -> Any:
    """A column as the type that the signature names; only where nothing is lost that it speaks of."""
    if kind in _WIDTHS:
        return _typed(name, values, _WIDTHS[kind])
    if kind == "string" and values.dtype != object:
        raise Unusable(f"its signature asks for text in {name!r}, and the data has {values.dtype}")
    if kind == "datetime":
        import pandas as pd

        return pd.to_datetime(values) if values.dtype == object else values
    return values


def _typed(name: str, values: Any, asked: Any) -> Any:
    """A column of numbers as another type of numbers, if every value is one of those."""
    import numpy as np

    dtype = np.dtype(asked)
    if values.dtype == dtype:
        return values
    if values.dtype == object:
        if dtype.kind in "OUS":
            return values
        raise Unusable(f"its signature asks for {dtype} in {name!r}, and the data has text")
    with np.errstate(all="ignore"):
        cast = values.astype(dtype)
    wrong = cast.astype(values.dtype) != values if dtype.kind in "iub" else np.isinf(cast) & ~np.isinf(values)
    if wrong.any():
        value = values[wrong.argmax()]
        raise Unusable(f"its signature asks for {dtype} in {name!r}, and the data has {value} there")
    return cast


def _numbers(result: Any, rows: int) -> bytes:
    """What a model returned as the bytes of `rows` numbers."""
    import numbers

    import numpy as np
    import pandas as pd

    came = type(result).__name__
    if isinstance(result, (pd.DataFrame, pd.Series)):
        frame = result.to_frame() if isinstance(result, pd.Series) else result
        if frame.shape[1] == 1 and all(pd.api.types.is_numeric_dtype(kind) for kind in frame.dtypes):
            result = frame.to_numpy(dtype="float64", na_value=np.nan)
        else:
            result = frame.to_numpy()
    elif isinstance(result, (list, tuple)):
        listed, result = result, np.empty(len(result), object)
        for row, each in enumerate(listed):  # one by one: NumPy would take the lists in a list for an axis
            result[row] = each[0] if isinstance(each, (list, tuple)) and len(each) == 1 else each
    elif not isinstance(result, np.ndarray):
        raise Unusable(f"it returned a {came}, and not one number a row")
    if result.shape not in ((rows,), (rows, 1)):
        raise Unusable(f"it returned a {came} of shape {result.shape} for {rows} rows, and not one number a row")
    result = result.reshape(rows)
    if result.dtype.kind == "O":
        result = [each.item() if getattr(each, "size", 0) == 1 and hasattr(each, "item") else each for each in result]
        strange = [each for each in result if not isinstance(each, numbers.Real)]
        if strange:
            raise Unusable(f"it returned {type(strange[0]).__name__} where a number was asked for")
    elif result.dtype.kind not in "iufb":
        raise Unusable(f"it returned values of type {result.dtype} where numbers were asked for")
    return np.ascontiguousarray(result, np.dtype("<f8")).tobytes()


def _fail(answers: int, error: BaseException) -> None:
    """Tells the parent in one sentence; the whole story goes to stderr."""
    story = error.__traceback__
    while story is not None and story.tb_next is not None and story.tb_frame.f_code.co_filename == __file__:
        story = story.tb_next  # this file's part in it helps nobody
    traceback.print_exception(type(error), error, story)
    sentence = str(error) if isinstance(error, Unusable) else _said(error)
    sys.stderr.flush()
    _send(answers, b"FAIL", sentence[:_LONGEST_SENTENCE].encode("utf-8", "replace"))


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def _send(answers: int, tag: bytes, body: bytes) -> None:
    rest = memoryview(tag + struct.pack("<Q", len(body)) + body)
    while rest:
        rest = rest[os.write(answers, rest) :]


if __name__ == "__main__":
    try:
        main()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(0)  # threads of the model, and its `atexit`, have no say in when this ends
