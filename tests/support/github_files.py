"""Reads what GitHub reads of this repository beside the actions, and says what is wrong there. Pure, but for reading.

Issue forms are held against https://docs.github.com/communities/using-templates-to-encourage-useful-issues-and-pull-requests
(syntax-for-githubs-form-schema, common-validation-errors-when-creating-issue-forms); dependabot.yml against what
Dependabot looks at: in `/` the root action and .github/workflows, in any other folder its own YAML files.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import yaml

from tests.actions.runner import document

ROOT = Path(__file__).resolve().parents[2]
_SELF = re.compile(r"\$/([\w./-]*)")
_FORM_KEYS = {"name", "description", "title", "labels", "assignees", "projects", "type", "body"}
# By type: what its attributes may be, and which of them must be.
_ELEMENTS: dict[str, tuple[set[str], set[str]]] = {
    "markdown": ({"value"}, {"value"}),
    "input": ({"label", "description", "placeholder", "value"}, {"label"}),
    "textarea": ({"label", "description", "placeholder", "value", "render"}, {"label"}),
    "dropdown": ({"label", "description", "multiple", "options", "default"}, {"label", "options"}),
    "checkboxes": ({"label", "description", "options"}, {"label", "options"}),
}


def problems_of_form(text: str) -> list[str]:
    """What GitHub would say of an issue form."""
    try:
        form = yaml.safe_load(text)
    except yaml.YAMLError as error:
        return [f"is no YAML: {error}"]
    if not isinstance(form, dict):
        return ["is no mapping"]
    found = [f"has the key {key}, which GitHub does not know" for key in sorted(set(form) - _FORM_KEYS, key=str)]
    found += [f"{key} is no text" for key in ("name", "description") if not _is_text(form.get(key))]
    body = form.get("body")
    if not isinstance(body, list) or not body or not all(isinstance(element, dict) for element in body):
        return [*found, "has no body"]
    if all(element.get("type") == "markdown" for element in body):
        found.append("asks nothing")
    for key, values in (
        ("id", [element["id"] for element in body if "id" in element]),
        ("label", [_mapping(element, "attributes").get("label") for element in body if element["type"] != "markdown"]),
    ):
        found += [f"the {key} {value} is there twice" for value in sorted(_twice(values), key=str)]
    for number, element in enumerate(body):
        found += [f"body[{number}] {problem}" for problem in _problems_of_element(element)]
    return found


def _problems_of_element(element: dict[str, Any]) -> Iterator[str]:
    kind = element.get("type")
    if kind not in _ELEMENTS:
        yield f"has the type {kind}, which GitHub does not know"
        return
    allowed = {"type", "attributes"} if kind == "markdown" else {"type", "id", "attributes", "validations"}
    yield from (f"has the key {key}, which GitHub does not know" for key in sorted(set(element) - allowed))
    if "id" in element and not re.fullmatch(r"[A-Za-z0-9_-]+", str(element["id"])):
        yield f"has the id {element['id']!r}"
    attributes = _mapping(element, "attributes")
    known, needed = _ELEMENTS[kind]
    yield from (f"has the attribute {key}, which GitHub does not know" for key in sorted(set(attributes) - known))
    for key in sorted(needed - {"options"}):
        if not _is_text(attributes.get(key)):
            yield f"has no {key}"
    if "options" in needed:
        yield from _problems_of_options(attributes.get("options"), labelled=kind == "checkboxes")
    validations = _mapping(element, "validations")
    if set(validations) - {"required"} or not all(isinstance(value, bool) for value in validations.values()):
        yield "has other validations than `required: true` or false"


def _problems_of_options(options: Any, *, labelled: bool) -> Iterator[str]:
    if not isinstance(options, list) or not options:
        yield "has no options"
        return
    texts = [_mapping({"option": option}, "option").get("label") if labelled else option for option in options]
    if not all(_is_text(text) for text in texts):
        yield "has an option that is no text"
    yield from (f"has the option {text} twice" for text in sorted(_twice(texts), key=str))
    if not labelled and any(str(text).lower() == "none" for text in texts):
        yield "has the option None, which GitHub adds itself"


def problems_of_dependabot(text: str, used: set[str]) -> list[str]:
    """What is wrong with dependabot.yml, if the files of the folders `used` say `uses:` of somebody else's action."""
    config = yaml.safe_load(text)
    found = [] if config.get("version") == 2 else ["is not version 2"]
    covered: list[str] = []
    for update in config["updates"]:
        name, folders = update["package-ecosystem"], update.get("directories") or [update["directory"]]
        if update.get("schedule", {}).get("interval") not in {"daily", "weekly", "monthly"}:
            found.append(f"{name} has no schedule")
        if (
            not isinstance(update.get("cooldown", {}).get("default-days"), int)
            or update["cooldown"]["default-days"] < 7
        ):
            found.append(f"{name} takes what is younger than a week")
        for folder in folders:
            if not folder.startswith("/"):
                found.append(f"{name}: {folder} does not begin at the root")
            elif not _is_folder(folder):
                found.append(f"{name}: there is no {folder}")
        if name == "github-actions":
            covered += folders
    if "/" in covered:
        covered.append("/.github/workflows")
    missed = sorted(used - _within(covered, used))
    found += [f"github-actions: {folder} says `uses:` and is not looked at" for folder in missed]
    return found


def _within(patterns: list[str], folders: set[str]) -> set[str]:
    # Dependabot's * does not cross a slash.
    return {
        folder
        for folder in folders
        for pattern in patterns
        if fnmatchcase(folder, pattern) and folder.count("/") == pattern.count("/")
    }


def folders_that_use(paths: list[Path]) -> set[str]:
    """The folders, as dependabot.yml names them, of the YAML files that use somebody else's action."""
    found = set()
    for path in paths:
        uses = re.findall(r"^\s*(?:- )?uses:\s*([\w-]+/[\w./-]+@)", path.read_text(encoding="utf-8"), re.MULTILINE)
        if uses:
            folder = path.parent.relative_to(ROOT).as_posix()
            found.add("/" if folder == "." else f"/{folder}")
    return found


def problems_of_self_references(text: str) -> list[str]:
    """What is wrong with the `uses: $/...` of a workflow: this repository, at the commit that runs."""
    found = []
    for name, job in document(text)["jobs"].items():
        found += [f"{name}: {problem}" for problem in _problems_of_call(job)] if "uses" in job else []
        for step in job.get("steps", []):
            found += [f"{name}: {problem}" for problem in _problems_of_step(step)] if "uses" in step else []
    return found


def _problems_of_call(job: dict[str, Any]) -> Iterator[str]:
    match = _SELF.fullmatch(job["uses"])
    if match is None:
        return
    path = ROOT / match[1]
    if not re.fullmatch(r"\.github/workflows/[\w-]+\.yml", match[1]) or not path.is_file():
        yield f"there is no workflow {match[1]}"
        return
    called = document(path.read_text(encoding="utf-8"))
    if "workflow_call" not in called["on"]:
        yield f"{match[1]} cannot be called"
    # GitHub starts nothing at all where a called workflow wants more than its caller gives.
    for wanted in called["jobs"].values():
        for scope, right in wanted.get("permissions", {}).items():
            if job.get("permissions", {}).get(scope) not in {right, "write"}:
                yield f"{match[1]} needs {scope}: {right}"


def _problems_of_step(step: dict[str, Any]) -> Iterator[str]:
    match = _SELF.fullmatch(step["uses"])
    if match is None:
        return
    path = ROOT / match[1] / "action.yml"
    if match[1].endswith("/") or not path.is_file():
        yield f"there is no action {step['uses']}"
        return
    inputs = yaml.safe_load(path.read_text(encoding="utf-8"))["inputs"]
    given = step.get("with", {})
    yield from (f"{step['uses']} has no input {key}" for key in sorted(set(given) - set(inputs)))
    for key, about in inputs.items():
        if about.get("required") and key not in given:
            yield f"{step['uses']} needs {key}"


def _is_folder(pattern: str) -> bool:
    return pattern == "/" or any(path.is_dir() for path in ROOT.glob(pattern.removeprefix("/")))


def _mapping(parent: dict[str, Any], key: str) -> dict[str, Any]:
    value = parent.get(key, {})
    return value if isinstance(value, dict) else {}


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _twice(values: list[Any]) -> set[Any]:
    return {value for value in values if values.count(value) > 1}
