"""Steps that many tests begin with, done by the commands themselves."""

from __future__ import annotations

from tests.support.cli import Cli, Result
from tests.support.registry_world import World


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
