"""Models that mean no harm: loaded and asked in processes of their own, and what is said when they cannot be."""

from __future__ import annotations

import io
import os
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pytest

from champion_gate import isolation, model_environment
from champion_gate.errors import BadInput, OutsideWorldFailed
from champion_gate.scoring import ModelFailed, Options, open_scorer, read_model
from tests.support.models import (
    PYTHON,
    isolations,
    python_on_path,
    quick_interpreter,
    quick_packages,
    working,
    write_model,
)

LABEL = "challenger version 7 of search-ranker"
CURRENT = Options(environment="current")


@pytest.fixture(scope="module", autouse=True)
def environment() -> Iterator[None]:
    with python_on_path():
        yield


@pytest.fixture(scope="module")
def interpreter(tmp_path_factory):
    return quick_interpreter(quick_packages(tmp_path_factory.mktemp("packages")))


@pytest.fixture
def quick(monkeypatch, interpreter):
    """Models are loaded without MLflow, and in a mere process: for what depends on neither."""
    monkeypatch.setattr(model_environment, "interpreter_for", lambda *_, **__: interpreter)
    return Options(isolation="process")


def score(model: Path, columns, options=CURRENT):
    rows = len(next(iter(columns.values())))
    with open_scorer(read_model(model, LABEL), options) as scorer:
        return scorer.score(columns, rows)


@pytest.mark.parametrize("name", isolations())
def test_a_model_is_asked_in_batches(tmp_path, monkeypatch, name):
    how = working(name)
    monkeypatch.setattr(isolation, "find", lambda _: how)
    source = """
        import os

        def predict(data):
            print("scoring", data.dtypes.to_dict())
            assert (data["word"].isna() == (data["a"] == 1)).all()
            return data["a"] * 2 + data["b"] + data["word"].str.len().fillna(100) + data["flag"]
        """
    types = {"a": "double", "b": "long", "word": "string", "flag": "boolean"}
    model = write_model(tmp_path / "a model, with spaces", source, inputs=types)
    columns = {
        "a": np.array([0.0, 1.0, 2.0]),
        "b": np.array([0, 10, 20], dtype=np.int8),
        "word": ["", None, "snow ☃"],
        "flag": np.array([True, False, True]),
        "unknown to the model": np.zeros(3),
    }
    with open_scorer(read_model(model, LABEL), CURRENT) as scorer:
        assert scorer.isolation == name
        first = scorer.score(columns, 3)
        assert first.dtype == np.float64
        assert first.tolist() == [1.0, 112.0, 31.0]
        assert scorer.score({name: values[:0] for name, values in columns.items()}, 0).shape == (0,)
        a = np.random.default_rng(0).random(300_000) + 2
        many = {"a": a, "b": np.arange(len(a)), "word": ["ab"] * len(a), "flag": np.zeros(len(a), bool)}
        np.testing.assert_array_equal(scorer.score(many, len(a)), a * 2 + np.arange(len(a)) + 2)


def test_a_model_that_this_mlflow_saved_is_asked(tmp_path):
    import pandas as pd
    from mlflow import sklearn as flavor
    from mlflow.models import infer_signature
    from sklearn.linear_model import LinearRegression

    features = pd.DataFrame({"a": [0.0, 1.0, 2.0, 3.0], "b": [1.0, 0.0, 1.0, 5.0]})
    fitted = LinearRegression().fit(features, [1.0, 2.0, 4.0, 9.0])
    signature = infer_signature(features, fitted.predict(features))
    flavor.save_model(
        fitted, tmp_path / "model", signature=signature, pip_requirements=["mlflow"], serialization_format="cloudpickle"
    )
    model = read_model(tmp_path / "model", LABEL)
    assert (model.columns, model.python) == (("a", "b"), PYTHON)
    got = score(tmp_path / "model", {"b": features["b"].to_numpy(), "a": features["a"].to_numpy()})
    np.testing.assert_allclose(got, fitted.predict(features))


def test_what_a_model_says_of_its_inputs(tmp_path):
    named = write_model(tmp_path / "named", "", inputs={"a": "double", "b": "long"}, requirements="x\n", python="3.8")
    found = read_model(named, LABEL)
    assert found.columns == ("a", "b")
    assert (found.python, found.mlflow_version, found.requirements) == ("3.8", "2.9.2", "x\n")
    tensor = [{"type": "tensor", "tensor-spec": {"dtype": "float64", "shape": [-1, 3]}}]
    assert read_model(write_model(tmp_path / "tensor", "", inputs=tensor), LABEL).columns is None
    assert read_model(write_model(tmp_path / "none", ""), LABEL).columns is None


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("return None", "it returned a NoneType, and not one number a row"),
        ("return [0.0] * 2", "it returned a list of shape (2,) for 3 rows"),
        ("import numpy; return numpy.zeros((3, 2))", "it returned a ndarray of shape (3, 2) for 3 rows"),
        ("return data[['a', 'a']]", "it returned a DataFrame of shape (3, 2)"),
        ("return ['high', 'low', 'low']", "it returned str where a number was asked for"),
        ("return [0.0, None, 1.0]", "it returned NoneType where a number was asked for"),
        ("import numpy; return numpy.array(['1', '2', '3'])", "it returned values of type <U1"),
        ("return [0.0, float('nan'), float('inf')]", "scores that are no numbers: 2 of 3, the first is nan for row 2"),
        ("raise ValueError('no such feature')", "ValueError: no such feature"),
        ("raise SystemExit(0)", "SystemExit: 0"),
        ("import os; os._exit(0)", "it ended by itself, with exit code 0"),
        ("import os; os.abort()", "it died of signal 6"),
        ("import os; os.close(1); os.closerange(3, 50)", "it ended by itself, with exit code 0"),
        ("return bytes(10**9 * 20)", "MemoryError"),
    ],
)
def test_a_model_that_gives_no_scores_is_named_with_its_reason(tmp_path, quick, body, said):
    model = write_model(tmp_path / "model", f"import sys\n\n\ndef predict(data):\n    {body}\n")
    with pytest.raises(ModelFailed) as failure:
        score(model, {"a": np.zeros(3)}, quick)
    assert str(failure.value).startswith("Challenger version 7 of search-ranker ")
    assert said in str(failure.value)


@pytest.mark.parametrize(
    "answer",
    [
        "b'VALS' + struct.pack('<Q', 24) + bytes(24) + b'and more'",
        "b'VALS' + struct.pack('<Q', 2**40) + bytes(1000)",
        "b'VALS' + struct.pack('<Q', 8) + bytes(8)",
        "b'FAIL' + struct.pack('<Q', 2**63) + bytes(1000)",
        "b'REDY' + struct.pack('<Q', 0)",
        "pickle.dumps({'scores': [1, 2, 3]})",
        "b'GET / HTTP/1.1'",
        "b''",
    ],
)
def test_an_answer_that_is_not_what_was_asked_for_is_not_believed(tmp_path, quick, answer):
    source = f"""
        import os, pickle, stat, struct

        def predict(data):
            for number in range(3, 30):
                try:
                    if stat.S_ISFIFO(os.fstat(number).st_mode):
                        os.write(number, {answer})
                except OSError:
                    pass
            os._exit(0)
        """
    model = read_model(write_model(tmp_path / "model", source), LABEL)
    unbelieved = pytest.raises(ModelFailed, match=r"not what was asked for|nobody asked for|ended by itself")
    with unbelieved, open_scorer(model, quick) as scorer:
        scorer.score({"a": np.zeros(3)}, 3)
        scorer.score({"a": np.zeros(3)}, 3)


def test_a_model_that_cannot_be_imported_shows_its_last_lines(tmp_path, quick):
    model = write_model(tmp_path / "model", "print('::set-output name=a::b')\nimport a_package_that_is_not_there\n")
    with pytest.raises(ModelFailed, match="cannot be loaded: ModuleNotFoundError: No module named 'a_pack") as failure:
        score(model, {"a": np.zeros(3)}, quick)
    assert ": :set-output name=a::b | Traceback" in str(failure.value)
    assert "printed" not in str(failure.value)


def test_what_the_signature_asks_for_must_be_there(tmp_path):
    model = write_model(
        tmp_path / "model", "def predict(data):\n    return data['a']\n", inputs={"a": "long", "c": "long"}
    )
    with pytest.raises(ModelFailed, match="asks for 1 columns that the data does not have: 'c'"):
        score(model, {"a": np.zeros(3)})


def test_a_model_gets_an_empty_home_and_nothing_of_the_environment(tmp_path, quick, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://secret.test")
    monkeypatch.setenv("LD_PRELOAD", "")
    source = """
        import os

        def predict(data):
            print(sorted(os.environ))
            print(os.environ["HOME"], os.listdir(os.environ["HOME"]), os.listdir(os.environ["TMPDIR"]), os.getcwd())
            raise RuntimeError(os.environ["HOME"])
        """
    with pytest.raises(ModelFailed) as failure:
        score(write_model(tmp_path / "model", source), {"a": np.zeros(1)}, quick)
    message = str(failure.value)
    home = message.split("RuntimeError: ")[1].split(". Its last", maxsplit=1)[0]
    assert f"{home} [] [] {home}" in message
    assert not Path(home).exists()
    for name in ("MLFLOW_TRACKING_URI", "LD_PRELOAD", "PYTEST_CURRENT_TEST"):
        assert name not in message


def test_what_a_model_leaves_in_its_folders_is_gone(tmp_path, quick):
    source = """
        import os

        def predict(data):
            outside = os.path.join(os.environ["TMPDIR"], "outside")
            os.symlink(os.path.dirname(os.path.dirname(__file__)), outside)
            os.makedirs(os.path.join(os.environ["HOME"], "a", "b"))
            open(os.path.join(os.environ["HOME"], "a", "file"), "w").close()
            os.chmod(os.path.join(os.environ["HOME"], "a"), 0)
            raise RuntimeError(os.environ["HOME"])
        """
    model = write_model(tmp_path / "model", source)
    mode = model.stat().st_mode
    with pytest.raises(ModelFailed) as failure:
        score(model, {"a": np.zeros(1)}, quick)
    assert not Path(str(failure.value).split("RuntimeError: ")[1].split(". Its last")[0]).parent.exists()
    assert (model / "MLmodel").is_file()
    assert model.stat().st_mode == mode


def test_a_process_that_does_not_start_is_not_the_model_s_fault(tmp_path, monkeypatch, quick):
    class Broken(isolation.Process):
        def command(self, program):
            return ["bash", "-c", "echo no space left on device >&2; exit 125"]

    monkeypatch.setattr(isolation, "find", lambda _: Broken())
    model = write_model(tmp_path / "model", "def predict(data):\n    return data['a']\n")
    with pytest.raises(OutsideWorldFailed, match=r"could not be given a process: .* exit code 125.*no space left"):
        score(model, {"a": np.zeros(1)}, quick)


def test_columns_of_another_length_are_a_mistake_of_ours(tmp_path, quick):
    model = write_model(tmp_path / "model", "def predict(data):\n    return data['a']\n")
    mistake = pytest.raises(ValueError, match="column 'a' has 2 values")
    with mistake, open_scorer(read_model(model, LABEL), quick) as scorer:
        scorer.score({"a": np.zeros(2)}, 3)


def test_integers_that_no_signature_can_name_are_refused(tmp_path, quick):
    model = write_model(tmp_path / "model", "def predict(data):\n    return data['a']\n")
    with pytest.raises(BadInput, match="integers above"):
        score(model, {"a": np.array([2**64 - 1], dtype=np.uint64)}, quick)


def test_a_demanded_sandbox_that_is_not_to_be_had_is_bad_input(monkeypatch):
    class Broken(isolation.Bubblewrap):
        problem = "bwrap is not installed"

    monkeypatch.setattr(isolation, "sandboxes", lambda: (Broken(),))
    isolation.find.cache_clear()
    try:
        with pytest.raises(BadInput, match=r"\(bubblewrap\): bwrap is not installed.*apt-get install bubblewrap"):
            isolation.find("sandbox")
        assert isolation.find("auto").name == "process"
    finally:
        isolation.find.cache_clear()


def test_current_is_the_first_python_on_path_and_must_have_mlflow(tmp_path, monkeypatch):
    bare = tmp_path / "bin"
    bare.mkdir()
    (bare / "python3").symlink_to(Path(sys.executable).resolve())
    monkeypatch.setenv("PATH", str(bare))
    model = write_model(tmp_path / "model", "def predict(data):\n    return data['a']\n")
    with pytest.raises(BadInput, match="has no mlflow, numpy, pandas"):
        score(model, {"a": np.zeros(1)})
    (bare / "python3").unlink()
    with pytest.raises(BadInput, match="neither python3 nor python"):
        score(model, {"a": np.zeros(1)})


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A place for environments that is this test's own; uv's cache stays what it is."""
    monkeypatch.setenv("RUNNER_TEMP", str(tmp_path / "temp"))
    return tmp_path / "temp" / "champion-gate"


@pytest.mark.slow
def test_a_model_is_asked_in_an_environment_of_its_own_that_is_made_once(tmp_path, cache, capsys):
    import pandas as pd
    from mlflow.version import VERSION

    requirements = f"mlflow-skinny=={VERSION}\nnumpy=={np.__version__}\npandas=={pd.__version__}  # a comment\n"
    source = """
        import os, sys

        def predict(data):
            print(sorted(os.listdir(os.path.dirname(os.path.dirname(os.__file__)))))
            return [float("sklearn" in os.listdir(path)) for path in sys.path if path.endswith("site-packages")]
        """
    model = write_model(tmp_path / "model", source, inputs={"a": "double"}, requirements=requirements, mlflow=VERSION)
    for _ in range(2):
        assert score(model, {"a": np.zeros(1)}, Options()).tolist() == [0.0]
    [made] = cache.glob("model-*")
    assert list(made.glob("lib/python*/site-packages/numpy/__pycache__/*.pyc"))
    said = capsys.readouterr().err
    assert said.count(f"installing the environment of {LABEL} (Python {PYTHON}, ") == 1


@pytest.mark.parametrize(
    "line",
    [
        "--index-url https://index.test/simple",
        "-r other.txt",
        "-e .",
        "git+https://git.test/x.git",
        "numpy @ https://files.test/numpy.whl",
        "./wheels/own.whl",
        "numpy==1 --hash=sha256:00",
        "numpy; --index-url=https://index.test",
    ],
)
def test_requirements_that_say_where_from_are_refused(tmp_path, cache, line):
    model = write_model(tmp_path / "model", "", requirements=f"pandas\n{line}\n")
    with pytest.raises(BadInput, match="has a requirement that is refused") as refusal:
        score(model, {"a": np.zeros(1)}, Options())
    assert line in str(refusal.value)
    assert "allow-source-builds" in str(refusal.value)
    assert not cache.exists()


def test_a_python_that_is_not_to_be_had_is_bad_input(tmp_path, cache, monkeypatch):
    monkeypatch.setenv("UV_PYTHON_DOWNLOADS", "never")
    model = write_model(tmp_path / "model", "", python="3.2")
    with pytest.raises(BadInput, match=r"Python 3\.2, which challenger.*python-version: '3\.2'.*environment: current"):
        score(model, {"a": np.zeros(1)}, Options())
    assert list(cache.glob("*model*")) == []


class Closed(BaseHTTPRequestHandler):
    """An index that knows nobody."""

    def do_GET(self):
        self.send_error(403)

    def log_message(self, *_):
        pass


def test_an_index_that_does_not_answer_is_the_outside_world(tmp_path, cache, monkeypatch):
    for name in [name for name in os.environ if name.startswith(("PIP_", "UV_"))]:
        monkeypatch.delenv(name)
    model = write_model(tmp_path / "model", "", requirements="mlflow==3.17.2\n")
    with HTTPServer(("127.0.0.1", 0), Closed) as index:
        threading.Thread(target=index.serve_forever, args=(0.02,), daemon=True).start()
        monkeypatch.setenv("UV_DEFAULT_INDEX", f"http://reader:s3cret@127.0.0.1:{index.server_port}/simple")
        failed = pytest.raises(OutsideWorldFailed, match=r"environment of challenger .* could not be installed")
        with failed as failure:
            score(model, {"a": np.zeros(1)}, Options())
        index.shutdown()
    assert "s3cret" not in str(failure.value)
    assert list(cache.glob("*model*")) == []


def test_versions_that_do_not_go_together_are_the_model_s_failure(tmp_path, cache, monkeypatch):
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    monkeypatch.setenv("UV_NO_INDEX", "1")
    monkeypatch.setenv("UV_FIND_LINKS", str(wheels))
    for version in ("1.0", "2.0"):
        (wheels / f"tinyone-{version}-py3-none-any.whl").write_bytes(wheel("tinyone", version))
    (wheels / "mlflow-2.9.2-py3-none-any.whl").write_bytes(wheel("mlflow", "2.9.2", requires="tinyone>=2"))
    model = write_model(tmp_path / "model", "", requirements="tinyone==1.0\n")
    with pytest.raises(ModelFailed, match=r"has requirements that no set of packages meets.*mlflow==2\.9\.2"):
        score(model, {"a": np.zeros(1)}, Options())


def wheel(name: str, version: str, requires: str = "") -> bytes:
    import zipfile

    content = io.BytesIO()
    info = f"{name}-{version}.dist-info"
    more = f"Requires-Dist: {requires}\n" if requires else ""
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{more}")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return content.getvalue()
