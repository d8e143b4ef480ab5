"""Models in the middle of their life, by the dozen: what the commands made once is copied under another name."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.support.cli import Cli
from tests.support.names import unique_model_name
from tests.support.registry_world import World
from tests.support.steps import released, validated

if TYPE_CHECKING:
    from mlflow import MlflowClient


@dataclass(frozen=True)
class Template:
    """A model with `releases` released versions and a challenger that may be promoted, as the commands left it."""

    world: World
    versions: dict[str, tuple[str, str, dict[str, str]]]
    """Number to source, run and tags."""
    aliases: dict[str, str]
    log: list[dict[str, str]]
    """The tags of the log's moves, oldest first."""

    def copy(self) -> World:
        """Another model in the same state, with a log of its own."""
        client = self.world.client
        world = World(client, unique_model_name(), self.world.team)
        store: Any = client._get_registry_client()  # without a look at the model before each write
        created = store.create_registered_model(world.name, {"team": world.team}).creation_timestamp
        for number, (source, run_id, tags) in sorted(self.versions.items(), key=lambda item: int(item[0])):
            made = store.create_model_version(world.name, source, run_id, await_creation_for=0)
            assert str(made.version) == number
            if verdict := tags.get("gate.verdict.champion"):
                if number != max(self.versions, key=int):
                    continue
                document = json.loads(verdict)
                document["model"] = {"name": world.name, "created": created}
                document["version"]["created"] = made.creation_timestamp
                text = json.dumps(document, sort_keys=True, separators=(",", ":"))
                store.set_model_version_tag(world.name, number, "gate.verdict.champion", text)
            world.runs[number] = run_id
        for alias, number in self.aliases.items():
            store.set_registered_model_alias(world.name, alias, number)
        experiment = client.create_experiment(f"/{world.team}/{world.name}/releases")
        store.set_registered_model_tag(world.name, "gate.release_log", experiment)
        for tags in self.log:
            own = {"gate.model": world.name, "gate.model_created": str(created)}
            client.create_run(experiment, tags={**tags, **own})
        return world


def template(client: MlflowClient, cli: Cli, releases: int) -> Template:
    """Made by the commands, once."""
    world = World(client, unique_model_name())
    for i in range(releases):
        released(cli, world, 0.80 + i / 100)
    validated(cli, world, 0.80 + releases / 100)
    found = client.search_model_versions(f"name = '{world.name}'")
    versions = {str(v.version): (v.source, v.run_id, world.version_tags(str(v.version))) for v in found}
    moves = [dict(run.data.tags) for run in world.log() if run.data.tags["gate.kind"] == "promotion"]
    return Template(world, versions, world.aliases, moves)
