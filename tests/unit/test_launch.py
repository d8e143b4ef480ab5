"""The pure parts of the launcher: which environment a command gets, and which settings of the caller count."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

import launch
from launcher.environments import OLDEST_UV
from launcher.package_sources import PackageSources

ROOT = Path(__file__).parents[2]


@pytest.fixture
def home(tmp_path):
    """A home folder without any settings, on a machine without any: files of the real one are not looked at."""
    return {"HOME": str(tmp_path), "PIP_CONFIG_FILE": os.devnull, "UV_NO_CONFIG": "1"}


def test_every_command_has_a_lock():
    locks = {lock for said, _ in launch.COMMANDS.values() for lock in said.split(" or ")}
    assert locks <= {path.stem for path in ROOT.glob("requirements/*.txt")}


@pytest.mark.parametrize(
    ("arguments", "environ", "lock"),
    [
        ([], {}, "registry"),
        (["--evaluation-data-version", "queries-1"], {}, "registry"),
        (["--evaluation-data", "queries.parquet"], {}, "scoring"),
        (["--scores=scores.csv"], {}, "scoring"),
        ([], {"CHAMPION_GATE_QRELS": "qrels.txt"}, "scoring"),
        ([], {"CHAMPION_GATE_QRELS": " "}, "registry"),
    ],
)
def test_a_gate_gets_what_reads_judged_queries_only_where_there_are_some(monkeypatch, arguments, environ, lock):
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert launch.lock_of("validate-model", arguments) == lock
    assert launch.lock_of("promote-alias", arguments) == "registry"


def test_help_has_one_line_for_every_command():
    lines = launch.usage().splitlines()
    for command, (_, summary) in launch.COMMANDS.items():
        assert sum(command in line and summary in line for line in lines) == 1


@pytest.mark.parametrize(
    ("environ", "root"),
    [
        ({"HOME": "/h"}, "/h/.cache/champion-gate"),
        ({"HOME": "/h", "XDG_CACHE_HOME": "/c"}, "/c/champion-gate"),
        ({"HOME": "/h", "XDG_CACHE_HOME": "relative"}, "/h/.cache/champion-gate"),
        ({"HOME": "/h", "XDG_CACHE_HOME": "", "RUNNER_TEMP": ""}, "/h/.cache/champion-gate"),
        ({"HOME": "/h", "XDG_CACHE_HOME": "/c", "RUNNER_TEMP": "/t"}, "/t/champion-gate"),
    ],
)
def test_environments_are_kept_for_the_job_or_for_the_user(monkeypatch, environ, root):
    for name in ("HOME", "XDG_CACHE_HOME", "RUNNER_TEMP"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert launch.cache_root() == root


def test_an_environment_is_named_after_its_lock_interpreter_and_platform(monkeypatch):
    def name():
        return launch.environment_name("registry", b"one==1")

    names = [name(), launch.environment_name("registry", b"one==2")]
    for place, attribute, value in [
        (sys, "version", "3.99.0 (other)"),
        (sys, "executable", "/usr/bin/other-python"),
        (os, "uname", lambda: os.uname_result(("Other", "host", "1", "1", "risc"))),
    ]:
        with monkeypatch.context() as patch:
            patch.setattr(place, attribute, value)
            names.append(name())
    assert len(set(names)) == len(names)
    assert name() == names[0]
    assert all(each.startswith("registry-") for each in names)


def test_the_pinned_uv_is_one_that_the_launcher_would_accept_on_path():
    version = (ROOT / "requirements" / "uv.txt").read_text(encoding="utf-8").split()[0].removeprefix("uv==")
    assert tuple(map(int, version.split("."))) >= OLDEST_UV


def test_nothing_of_the_caller_leaks_into_the_installers(home):
    hostile = {
        "PYTHONPATH": "/x",
        "PYTHONHOME": "/x",
        "VIRTUAL_ENV": "/x",
        "UV_TARGET": "/x",
        "UV_PYTHON": "2.7",
        "UV_EXCLUDE_NEWER": "2001-01-01",
        "UV_NO_VERIFY_HASHES": "1",
        "UV_CONSTRAINT": "/x",
        "PIP_TARGET": "/x",
        "PIP_REQUIRE_VIRTUALENV": "1",
        "PIP_CONSTRAINT": "/x",
        "CHAMPION_GATE_MODEL_NAME": "x",
        "MLFLOW_TRACKING_PASSWORD": "x",
        "AWS_SECRET_ACCESS_KEY": "x",
        "GITHUB_TOKEN": "x",
    }
    sources = PackageSources.of(home | hostile)
    assert set(hostile).isdisjoint(sources.for_uv(home | hostile))
    assert set(hostile).isdisjoint(sources.for_pip(home | hostile))


def test_the_caller_s_way_to_the_network_is_kept(home):
    kept = home | {
        "PATH": "/bin",
        "https_proxy": "http://proxy:3128",
        "NO_PROXY": "internal",
        "SSL_CERT_DIR": "/certs",
        "LANG": "C.UTF-8",
        "LD_LIBRARY_PATH": "/python/lib",
    }
    wanted = {name: value for name, value in kept.items() if not name.startswith(("PIP_", "UV_"))}
    sources = PackageSources.of(kept)
    assert wanted.items() <= sources.for_uv(kept).items()
    assert wanted.items() <= sources.for_pip(kept).items()


def test_pip_s_variables_become_uv_s(home, tmp_path):
    wheels, spare = tmp_path / "wheels", tmp_path / "spare, too"
    wheels.mkdir()
    spare.mkdir()
    environ = home | {
        "PIP_INDEX_URL": "https://one.test/simple",
        "PIP_EXTRA_INDEX_URL": "https://two.test/simple\nhttps://three.test/simple",
        "PIP_FIND_LINKS": f"{wheels} https://four.test/links {tmp_path}/missing",
        "PIP_NO_INDEX": "true",
        "PIP_TRUSTED_HOST": "one.test two.test",
        "PIP_CERT": "/certs/own.pem",
        "PIP_CLIENT_CERT": "/certs/client.pem",
        "PIP_PROXY": "http://proxy:3128",
        "PIP_DEFAULT_TIMEOUT": "180",
    }
    sources = PackageSources.of(environ)
    assert sources.no_index
    assert {
        "UV_DEFAULT_INDEX": "https://one.test/simple",
        "UV_INDEX": "https://two.test/simple https://three.test/simple",
        # A folder that is not there is skipped, as pip does; uv would refuse to run.
        "UV_FIND_LINKS": f"{wheels},https://four.test/links",
        "UV_INSECURE_HOST": "one.test two.test",
        "SSL_CERT_FILE": "/certs/own.pem",
        "SSL_CLIENT_CERT": "/certs/client.pem",
        "HTTPS_PROXY": "http://proxy:3128",
        "UV_HTTP_TIMEOUT": "180",
    }.items() <= sources.for_uv(environ).items()


def test_uv_s_own_variables_win(home):
    environ = home | {
        "PIP_INDEX_URL": "https://pip.test/simple",
        "PIP_CERT": "/certs/pip.pem",
        "UV_INDEX_URL": "https://old.test/simple",
        "UV_DEFAULT_INDEX": "https://uv.test/simple",
        "UV_EXTRA_INDEX_URL": "https://extra.test/simple",
        "UV_INDEX": "team=https://team.test/simple",
        "UV_INDEX_TEAM_USERNAME": "us",
        "UV_INDEX_TEAM_PASSWORD": "p/w",
        "UV_INDEX_STRATEGY": "first-index",
        "UV_CACHE_DIR": "/cache/uv",
        "SSL_CERT_FILE": "/certs/all.pem",
    }
    sources = PackageSources.of(environ)
    assert {
        "UV_DEFAULT_INDEX": "https://uv.test/simple",
        "UV_INDEX": "team=https://team.test/simple https://extra.test/simple",
        "UV_INDEX_TEAM_USERNAME": "us",
        "UV_INDEX_TEAM_PASSWORD": "p/w",
        "UV_INDEX_STRATEGY": "first-index",
        "UV_CACHE_DIR": "/cache/uv",
        "SSL_CERT_FILE": "/certs/all.pem",
    }.items() <= sources.for_uv(environ).items()
    # pip, when it has to fetch uv, goes to the same places.
    assert {
        "PIP_INDEX_URL": "https://uv.test/simple",
        "PIP_EXTRA_INDEX_URL": "https://us:p%2Fw@team.test/simple https://extra.test/simple",
        "PIP_CERT": "/certs/all.pem",
    }.items() <= sources.for_pip(environ).items()


def test_pip_conf_counts_with_the_user_s_own_above_the_section_for_all(home, tmp_path):
    conf = tmp_path / "pip.conf"
    conf.write_text(
        "[global]\nindex-url = https://global.test/100%/simple\ntarget = /x\n"
        "extra_index_url =\n  https://a.test/simple\n  https://b.test/simple\n"
        "[install]\nindex-url = https://install.test/simple\n[wheel]\nindex-url = https://wheel.test/simple\n",
        encoding="utf-8",
    )
    environ = home | {"PIP_CONFIG_FILE": str(conf)}
    sources = PackageSources.of(environ)
    assert sources.index == "https://install.test/simple"
    assert sources.extra_indexes == ("https://a.test/simple", "https://b.test/simple")
    assert "/x" not in sources.for_uv(environ).values()


def test_the_user_s_pip_conf_is_found_in_the_home_folder(home, tmp_path):
    conf = tmp_path / ".pip" / "pip.conf"
    conf.parent.mkdir()
    conf.write_text("[global]\nindex-url = https://home.test/simple\n", encoding="utf-8")
    del home["PIP_CONFIG_FILE"]
    assert PackageSources.of(home).index == "https://home.test/simple"


def test_an_unreadable_pip_conf_is_named_and_left_out(home, tmp_path, capsys):
    conf = tmp_path / "pip.conf"
    conf.write_text("index-url = no section\n", encoding="utf-8")
    assert PackageSources.of(home | {"PIP_CONFIG_FILE": str(conf)}).index == ""
    assert str(conf) in capsys.readouterr().err


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python reads TOML since 3.11")
def test_uv_toml_counts_for_sources_only(home, tmp_path):
    toml = tmp_path / "uv.toml"
    toml.write_text(
        'exclude-newer = "2001-01-01"\nfind-links = []\nallow-insecure-host = ["one.test"]\n'
        '[[index]]\nurl = "https://one.test/simple"\ndefault = true\n'
        '[[index]]\nname = "team"\nurl = "https://team.test/simple"\n'
        '[[index]]\nname = "torch"\nurl = "https://torch.test/simple"\nexplicit = true\n'
        '[pip]\nextra-index-url = ["https://extra.test/simple"]\n',
        encoding="utf-8",
    )
    del home["UV_NO_CONFIG"]
    sources = PackageSources.of(home | {"UV_CONFIG_FILE": str(toml)})
    assert sources.index == "https://one.test/simple"
    assert sources.extra_indexes == ("team=https://team.test/simple", "https://extra.test/simple")
    assert sources.trusted_hosts == ("one.test",)


def test_credentials_do_not_reach_an_error_message(home):
    sources = PackageSources.of(home | {"UV_INDEX_TEAM_PASSWORD": "hunter2"})
    said = "could not fetch https://user:s3cret@one.test/simple/a/ nor https://t0ken@two.test/simple/ with hunter2"
    assert (
        sources.redact(said)
        == "could not fetch https://***@one.test/simple/a/ nor https://***@two.test/simple/ with ***"
    )
