"""Reads the workflow templates, and says what is wrong with them. Pure, but for reading files.

`problems_as_shown` holds the files of a folder against what GitHub documents of an organisation's templates
(https://docs.github.com/actions/how-tos/reuse-automations/create-workflow-templates, and the readme of
actions/starter-workflows for the categories); `problems_as_run` holds one workflow against the rules of this project.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from tests.actions import action_files
from tests.actions.action_files import ROOT, ActionFile
from tests.actions.runner import document

FOLDER = ROOT / "workflow-templates"
OURS = "champion-gate/champion-gate"
# GitHub lists templates by these; languages and tech stacks may follow.
GENERAL = {
    *("continuous integration", "deployment", "testing", "code quality", "code review", "dependency management"),
    *("monitoring", "automation", "utilities", "pages", "hugo"),
}
_KEYS = {"name", "description", "iconName", "categories", "filePatterns", "creator"}
_SVG = "{http://www.w3.org/2000/svg}"
# What GitHub puts a value in place of.
_PLACEHOLDERS = {"$default-branch", "$protected-branches", "$cron-daily"}
LINES, COLUMNS = 160, 120
_MOVES = ("actions/promote-alias", "actions/rollback")
_TRAINS = ("actions/train-and-register", ".")


@dataclass(frozen=True)
class Template:
    """A workflow as it is shipped, and as GitHub hands it to a repository whose default branch is `main`."""

    name: str
    text: str

    @property
    def workflow(self) -> str:
        """The text with GitHub's placeholders filled in."""
        return self.text.replace("$default-branch", "main")

    @cached_property
    def document(self) -> dict[str, Any]:
        """The workflow as data."""
        return document(self.workflow)

    @property
    def jobs(self) -> dict[str, dict[str, Any]]:
        """Its jobs by id."""
        return dict(self.document["jobs"])


def names(folder: Path = FOLDER) -> list[str]:
    """The templates in a folder."""
    return sorted(path.stem for path in folder.glob("*.yml"))


def read(name: str, folder: Path = FOLDER) -> Template:
    """A template by its name."""
    return Template(name, (folder / f"{name}.yml").read_text(encoding="utf-8"))


def problems_as_shown(folder: Path = FOLDER) -> list[str]:
    """What GitHub could not show, or would show wrongly."""
    found: list[str] = []
    templates = set(names(folder))
    metadata = {path.name.removesuffix(".properties.json"): path for path in folder.glob("*.properties.json")}
    found += [f"{name}.yml has no properties" for name in sorted(templates - set(metadata))]
    found += [f"{name}.properties.json has no workflow" for name in sorted(set(metadata) - templates)]
    shown: dict[str, str] = {}
    icons: set[str] = set()
    for name, path in sorted(metadata.items()):
        try:
            properties = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            found.append(f"{name}: no JSON: {error}")
            continue
        if not isinstance(properties, dict):
            found.append(f"{name}: no JSON object")
            continue
        found += [f"{name}: {problem}" for problem in _properties(properties, folder)]
        title = str(properties.get("name"))
        if title in shown:
            found.append(f"{name}: has the name of {shown[title]}")
        shown[title] = name
        icons.add(str(properties.get("iconName")))
    found += [f"{path.name} is no template's icon" for path in folder.glob("*.svg") if path.stem not in icons]
    return found


def _properties(properties: Mapping[str, Any], folder: Path) -> Iterator[str]:
    for key in ("name", "description"):
        if not isinstance(properties.get(key), str) or not properties[key].strip():
            yield f"{key} is required"
    for key in sorted(set(properties) - _KEYS):
        yield f"GitHub knows no {key}"
    icon = properties.get("iconName")
    if icon is not None and not re.fullmatch(r"octicon [a-z0-9-]+", str(icon)):
        yield from _icon(folder / f"{icon}.svg")
    categories = properties.get("categories")
    if not isinstance(categories, list) or not all(isinstance(each, str) and each for each in categories):
        yield "categories is no list of names"
    elif not categories or categories[0].lower().replace("-", " ") not in GENERAL:
        yield "the first of the categories is none of GitHub's"
    patterns = properties.get("filePatterns", [])
    for pattern in patterns if isinstance(patterns, list) else [patterns]:
        try:
            re.compile(pattern)
        except (re.error, TypeError):
            yield f"the file pattern {pattern!r} is no regular expression"


def _icon(path: Path) -> Iterator[str]:
    try:
        drawn = ET.fromstring(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        yield f"there is no icon {path.name}"
        return
    except ET.ParseError as error:
        yield f"{path.name} is no SVG: {error}"
        return
    if drawn.tag != f"{_SVG}svg" or "viewBox" not in drawn.attrib:
        yield f"{path.name} is no SVG with a viewBox"
    # It is shown to others: it draws, and neither runs nor fetches anything.
    drawing = {f"{_SVG}{tag}" for tag in ("svg", "g", "path", "circle", "rect", "line", "polyline", "polygon")}
    for element in drawn.iter():
        loud = [key for key in element.attrib if key.startswith("on") or key.endswith("href")]
        if element.tag not in drawing or loud:
            yield f"{path.name} does more than draw: {element.tag} {loud}"


def problems_as_run(template: Template) -> list[str]:
    """Where a workflow does not keep the rules of this project."""
    found: list[str] = []
    for rule in _RULES:
        found += [f"{template.name}: {problem}" for problem in rule(template)]
    return found


def actions(job: Mapping[str, Any]) -> list[tuple[dict[str, Any], ActionFile]]:
    """A job's steps that use an action of ours, each with that action."""
    found = []
    for step in job["steps"]:
        uses, _, _ = step.get("uses", "").partition("@")
        if uses.startswith(OURS):
            found.append((step, action_files.read(uses.removeprefix(OURS).strip("/") or ".")))
    return found


def _folders(job: Mapping[str, Any]) -> set[str]:
    return {action.folder for _, action in actions(job)}


def _size(template: Template) -> Iterator[str]:
    lines = template.text.splitlines()
    if len(lines) > LINES:
        yield f"{len(lines)} lines are more than {LINES}"
    yield from (f"line {number} is wide" for number, line in enumerate(lines, 1) if len(line) > COLUMNS)
    if not lines[0].startswith("# "):
        yield "it does not begin with what it is for"
    # In what is no expression and no variable of a shell.
    for placeholder in re.findall(r"(?<![\w{\"'])\$[a-z][a-z-]+", template.text):
        if placeholder not in _PLACEHOLDERS:
            yield f"GitHub knows no {placeholder}"


def _permissions(template: Template) -> Iterator[str]:
    if template.document.get("permissions") != {}:
        yield "the workflow has permissions of its own"
    for name, job in template.jobs.items():
        if "permissions" not in job:
            yield f"{name} does not say its permissions"
    inside = ""
    for line in template.text.splitlines():
        indent = line[: len(line) - len(line.lstrip())]
        if re.match(r" *permissions:", line):
            inside = indent + "  "
            if line.rstrip().endswith("{}"):
                yield "a job without permissions does not say why it needs none"
        elif inside and line.startswith(inside):
            if not re.search(r": (read|write) # \w+ \w+", line):
                yield f"no reason for: {line.strip()}"
        else:
            inside = ""


def _concurrency(template: Template) -> Iterator[str]:
    whole = template.document.get("concurrency")
    for name, job in template.jobs.items():
        groups = [group for group in (whole, job.get("concurrency")) if group]
        if not groups:
            yield f"{name} may run any number of times at once"
        if _folders(job) & {*_MOVES, "."}:
            if any(group.get("cancel-in-progress") is not False for group in groups):
                yield f"{name} may be cancelled while it moves an alias"
            if not any(re.search(r"search-ranker|inputs\.model", group["group"]) for group in groups):
                yield f"{name} has no group of its model"


def _uses(template: Template) -> Iterator[str]:
    for line in re.findall(r"uses: (.*)", template.text):
        if line.startswith(OURS):
            if not re.fullmatch(rf"{OURS}(/actions/[a-z-]+)?@v1", line):
                yield f"not by its major version: {line}"
        elif not re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line):
            yield f"not pinned by a commit with its version beside it: {line}"


def _inputs(template: Template) -> Iterator[str]:
    for job in template.jobs.values():
        for step, action in actions(job):
            given = set(step.get("with", {}))
            for unknown in sorted(given - set(action.inputs)):
                yield f"{action.folder} has no input {unknown}"
            for name, spec in action.inputs.items():
                if spec.get("required") and name not in given:
                    yield f"{action.folder} needs {name}"


def _outputs(template: Template) -> Iterator[str]:
    """What steps and jobs take from each other is there, and is there before."""
    for name, job in template.jobs.items():
        known: dict[str, set[str]] = {}
        own = {step.get("id"): set(action.outputs) for step, action in actions(job)}
        for step in [*job["steps"], {"outputs": job.get("outputs")}]:
            for taken, output in re.findall(r"steps\.([\w-]+)\.outputs\.([\w-]+)", json.dumps(step)):
                if output not in known.get(taken, ()):
                    yield f"{name} takes the output {output} of {taken}, which there is not"
            known[step.get("id", "")] = own.get(step.get("id")) or set(re.findall(r"(\w+)=", step.get("run", "")))
        needs = job.get("needs", [])
        needed = {needs} if isinstance(needs, str) else set(needs)
        for other, what in re.findall(r"needs\.([\w-]+)\.(outputs\.[\w-]+|result)", json.dumps(job)):
            outputs = template.jobs.get(other, {}).get("outputs", {})
            if other not in needed or (what != "result" and what.removeprefix("outputs.") not in outputs):
                yield f"{name} takes {what} of {other}, which there is not"


def _commands(template: Template) -> Iterator[str]:
    for name, job in template.jobs.items():
        for step in job["steps"]:
            if "${{" in step.get("run", "") + str(step.get("with", {}).get("command", "")):
                yield f"{name} pastes an expression into a command"


def _numbers(template: Template) -> Iterator[str]:
    """A number goes from step to step and from job to job; an alias may name another version by then."""
    number = re.compile(r"\$\{\{ (inputs\.version|(steps|needs)\.[\w-]+\.outputs\.version|\s|\|\|)+ \}\}")
    for name, job in template.jobs.items():
        for step, action in actions(job):
            given = step.get("with", {})
            if action.folder in ("actions/validate-model", "actions/promote-alias"):
                if not number.fullmatch(str(given.get("version"))):
                    yield f"{name} gives {action.folder} no number"
                for other in {"alias", "from-alias", "model-uri"} & set(given):
                    yield f"{name} gives {action.folder} {other}"
        for output, value in job.get("outputs", {}).items():
            if output != "version" or not number.fullmatch(value):
                yield f"{name} hands on {output}, which is no number"


def _keys(template: Template) -> Iterator[str]:
    """Who signs verdicts runs no training code, and what a stranger runs sees no secret."""
    for name, job in template.jobs.items():
        text = json.dumps(job)
        trains, asked = bool(_folders(job) & set(_TRAINS)), _folders(job)
        if trains and "signing-key" in text.lower().replace("_", "-"):
            yield f"{name} trains, and has the signing key"
        for step, action in actions(job):
            signs = action.folder in ("actions/validate-model", "actions/promote-alias") and not trains
            if signs and step["with"].get("signing-key") != "${{ secrets.CHAMPION_GATE_SIGNING_KEY }}":
                yield f"{name} does not sign, or does not look at signatures"
            moves = action.folder in (*_MOVES, ".")
            if moves and step["with"].get("redis-url") != "${{ secrets.CHAMPION_GATE_REDIS_URL }}":
                yield f"{name} moves an alias without a lock"
            shut_in = job.get("environment") == "gate" and step["with"].get("isolation") == "sandbox"
            if signs and action.folder == "actions/validate-model" and not shut_in:
                yield f"{name} holds the key where models or other branches may reach it"
        if "head.repo.full_name != github.repository" in str(job.get("if")):
            if re.search(r"secrets\.|github\.token|vars\.", text):
                yield f"{name} shows strangers a secret, or counts on a variable, which they do not have"
            if job["runs-on"] != "ubuntu-latest":
                yield f"{name} runs strangers' code on a machine of one's own"
        if asked and "secrets." not in text and "127.0.0.1" not in text:
            yield f"{name} cannot log in"


def _moves(template: Template) -> Iterator[str]:
    for name, job in template.jobs.items():
        folders = _folders(job)
        if "actions/promote-alias" in folders and job.get("environment") != "production":
            yield f"{name} promotes, and asks no reviewer"
        for step, action in actions(job):
            told = [
                each for each in job["steps"] if each.get("if") == f"steps.{step.get('id')}.outputs.changed == 'true'"
            ]
            if action.folder in _MOVES and [each["name"] for each in told] != ["Tell serving"]:
                yield f"{name} moves an alias, and does not tell serving"


def _pull_requests(template: Template) -> Iterator[str]:
    if "pull_request_target" in template.text:
        yield "what strangers write runs with the rights of the repository"
    if "pull_request" not in template.document["on"]:
        return
    for name, job in template.jobs.items():
        if _folders(job) & {*_MOVES, "."}:
            yield f"{name} promotes what nobody has merged"
        aliases = [str(step["with"].get("alias")) for step, action in actions(job) if action.folder in _TRAINS]
        if aliases and aliases[-1] != "none":
            yield f"{name} makes what nobody has merged a challenger"


def _aws(template: Template) -> Iterator[str]:
    for name, job in template.jobs.items():
        logins = [
            each for each in job["steps"] if each.get("uses", "").startswith("aws-actions/configure-aws-credentials")
        ]
        for login in logins:
            if set(login["with"]) != {"role-to-assume", "aws-region"}:
                yield f"{name} logs in to AWS by something else than a role"
            role = "AWS_CHECK_ROLE_ARN" if "pull_request" in template.document["on"] else "AWS_ROLE_ARN"
            if login["with"].get("role-to-assume") != f"${{{{ vars.{role} }}}}":
                yield f"{name} has a role that is not for it"
            if login["if"] != f"${{{{ vars.{role} != '' && !env.ACT }}}}":
                yield f"{name} logs in to AWS where it cannot"
        if bool(logins) != (job.get("permissions", {}).get("id-token") == "write"):
            yield f"{name} may ask for a token that it has no use for, or may not ask for the one that it needs"
    if re.search(r"AWS_(ACCESS|SECRET)", template.text):
        yield "it has long-lived keys of AWS"


_RULES: tuple[Callable[[Template], Iterator[str]], ...] = (
    *(_size, _permissions, _concurrency, _uses, _inputs, _outputs, _commands, _numbers, _keys, _moves),
    *(_pull_requests, _aws),
)
