"""Steps that many tests begin with, done by the commands themselves."""

from __future__ import annotations

from tests.support.cli import ROOT, Cli, Result
from tests.support.registry_world import World

TRAINER = ROOT / "tests" / "support" / "trainer.py"


def train(cli: Cli, experiment: str, model: str, ndcg: float, *options: object, more: str = "") -> Result:
    """A version of `model` whose run has this NDCG; `more` is a further step of trainer.py."""
    about = ("--experiment-name", experiment, "--model-name", model, "--data-version", "2026-11-01", *options)
    steps = [f"metric=val_ndcg_at_10:{ndcg}", "model=model", *([more] if more else [])]
    return cli("train-and-register", *about, "--", "python", TRAINER, *steps)


def validated(cli: Cli, world: World, ndcg: float, *arguments: object) -> str:
    """A new challenger with a passed verdict; its number."""
    number = world.version(ndcg)
    # The threshold decides a first release, and is below every figure of the tests.
    done = cli("validate-model", "--model-name", world.name, "--threshold", "0.1", *arguments)
    assert done.exit_code == 0, done.text
    return number


def released(cli: Cli, world: World, ndcg: float) -> str:
    """A new champion, validated and promoted (in one process, which is faster); its number."""
    number = world.version(ndcg)
    done = cli("release", "--model-name", world.name, "--threshold", "0.1")
    assert (done.exit_code, done.outputs["changed"]) == (0, "true"), done.text
    assert world.champion == number
    return number


def promote(cli: Cli, world: World, *arguments: object, **env: str | None) -> Result:
    return cli("promote-alias", "--model-name", world.name, *arguments, **env)


def rollback(cli: Cli, world: World, *arguments: object, reason: str = "clicks fell", **env: str | None) -> Result:
    return cli("rollback", "--model-name", world.name, "--reason", reason, *arguments, **env)


def history(cli: Cli, world: World, *arguments: object, **env: str | None) -> Result:
    return cli("history", "--model-name", world.name, "--json", *arguments, **env)
