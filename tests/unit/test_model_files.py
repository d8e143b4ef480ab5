"""What a model's folder says, and what it may try to say."""

from __future__ import annotations

import json
import os

import pytest

from champion_gate.model_files import ModelFailed, read_model

LABEL = "champion version 6"
FLAVOR = "flavors:\n  python_function:\n    loader_module: x\n    python_version: 3.9.1\n"


def model(folder, mlmodel=FLAVOR, **files):
    (folder / "MLmodel").write_text(mlmodel, encoding="utf-8")
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_text(content, encoding="utf-8")
    return read_model(folder, LABEL)


def signature(inputs):
    return f"{FLAVOR}signature:\n  inputs: {json.dumps(json.dumps(inputs))}\n"


def test_a_model_of_2_9_is_read(tmp_path):
    inputs = """'[{"type": "double", "name": "a"}, {"type": "long", "name":\n    "b"}]'"""
    more = "  params: null\nutc_time_created: '2024-01-10 10:00:00.000000'\n"
    read = model(
        tmp_path,
        f"{FLAVOR}mlflow_version: 2.9.2\nsignature:\n  inputs: {inputs}\n{more}",
        requirements__txt="mlflow==2.9.2\nnumpy==1.24.4",
        python_env__yaml="python: 3.8.18\nbuild_dependencies:\n- pip\n- setuptools\n- wheel==0.43.0\n",
    )
    assert read.columns == ("a", "b")
    assert (read.mlflow_version, read.python) == ("2.9.2", "3.8")
    assert read.requirements == "mlflow==2.9.2\nnumpy==1.24.4"
    assert read.build_requirements == ("pip", "setuptools", "wheel==0.43.0")
    assert read.name == "Champion version 6"


@pytest.mark.parametrize(
    ("inputs", "columns"),
    [
        ([{"type": "double", "name": "a", "required": True}], ("a",)),
        ([{"type": "double"}, {"type": "double"}], None),
        ([{"type": "double", "name": "a"}, {"type": "double"}], None),
        ([{"type": "tensor", "tensor-spec": {"dtype": "float64", "shape": [-1, 3]}}], None),
        ([], None),
        ({}, None),
        ([["a"]], None),
        ([{"name": {"a": 1}}], None),
    ],
)
def test_columns_are_the_names_of_all_inputs_or_none(tmp_path, inputs, columns):
    assert model(tmp_path, signature(inputs)).columns == columns


def test_what_says_the_python_comes_in_an_order(tmp_path):
    conda = "dependencies:\n- python=3.7.4\n- pip<=23\n- pip:\n  - mlflow==2.9.2\n  - scikit-learn\nname: mlflow-env\n"
    assert model(tmp_path).python == "3.9"
    read = model(tmp_path, conda__yaml=conda)
    assert (read.python, read.requirements) == ("3.7", "mlflow==2.9.2\nscikit-learn")
    read = model(tmp_path, conda__yaml=conda, python_env__yaml="python: 3.11.2\n", requirements__txt="")
    assert (read.python, read.requirements) == ("3.11", "")
    silent = "flavors:\n  python_function: {env: x}\n"
    assert model(tmp_path, silent, conda__yaml="a: b", python_env__yaml="a: b").python == ""


BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join(['*' + before] * 10)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
MERGES = "a: &a {k: v}\n" + "".join(
    f"{name}: &{name}\n  <<: [{', '.join(['*' + before] * 9)}]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("mlmodel", "said"),
    [
        ("", "it holds no mapping"),
        ("- a\n", "it holds no mapping"),
        ("a: [", "it is not YAML"),
        ("\x00", "it is not YAML"),
        ("[" * 5000, "it is not YAML"),
        ("a: 1\n", "it has no flavor 'python_function'"),
        ("flavors: {sklearn: {}}\n", "it has no flavor 'python_function'"),
        ("flavors:\n- python_function\n", "it has no flavor 'python_function'"),
        (BOMB, "it has no flavor 'python_function'"),
        (MERGES, "it has no flavor 'python_function'"),
        ("a: !!python/object/apply:os.system [exit 1]\n", "it has no flavor"),
        ("x" * (4 * 1024 * 1024 + 1), "it is larger than 4 MiB"),
        (FLAVOR + "signature:\n  inputs: '[{'\n", "its signature is not JSON"),
        (FLAVOR + "signature:\n  inputs: '" + "[" * 100_000 + "'\n", "its signature is not JSON"),
        (signature([{"name": "a"}, {"name": "a"}]), "its signature names an input twice"),
    ],
    ids=range(15),
)
def test_a_file_that_says_nothing_of_use_is_the_model_s_failure(tmp_path, mlmodel, said):
    with pytest.raises(ModelFailed) as failure:
        model(tmp_path, mlmodel)
    assert failure.value.what == "Champion version 6 cannot be read: something is wrong with its file MLmodel."
    assert said in failure.value.why
    assert len(str(failure.value)) < 1000


def test_numbers_and_dates_stay_text(tmp_path):
    read = model(tmp_path, FLAVOR + f"mlflow_version: 2.10\nwhen: 99999-99-99\nmany: {'9' * 5000}\n")
    assert read.mlflow_version == "2.10"


def test_links_and_pipes_are_not_followed(tmp_path):
    (tmp_path / "secret").write_text("password")
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "requirements.txt").symlink_to(tmp_path / "secret")
    with pytest.raises(ModelFailed, match=r"requirements\.txt\. .*cannot be opened"):
        model(folder)
    (folder / "requirements.txt").unlink()
    os.mkfifo(folder / "requirements.txt")
    with pytest.raises(ModelFailed, match="no regular file"):
        model(folder)
    (folder / "requirements.txt").unlink()
    (folder / "requirements.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(ModelFailed, match="not UTF-8"):
        model(folder)
    (folder / "MLmodel").unlink()
    with pytest.raises(ModelFailed, match="no such file"):
        read_model(folder, LABEL)
    with pytest.raises(ModelFailed, match="no such file"):
        read_model(tmp_path / "nowhere", LABEL)


def test_a_label_cannot_speak_to_the_runner(tmp_path):
    with pytest.raises(ModelFailed) as failure:
        read_model(tmp_path, "version 7\n::set-output name=a::b")
    assert "\n" not in str(failure.value)
