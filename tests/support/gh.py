"""A stand-in for `gh api`: a repository on GitHub, kept in the JSON file that GH_STATE names.

What the release script asks of GitHub, and how GitHub answers it: a draft has no tag, publishing makes one, what is
immutable stays. `make` writes a `gh` to put on PATH.
"""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

WORKFLOWS = [{"path": ".github/workflows/ci.yml", "sha": "1"}]


class HttpError(Exception):
    """An answer that is not a success."""


def make(folder: Path) -> Path:
    """A program `gh` in `folder`."""
    program = folder / "gh"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{Path(__file__).resolve()}" "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    return program


def repository() -> dict[str, Any]:
    """A repository without releases whose environment `release` has a reviewer, and whose releases are immutable."""
    return {
        "asked": [],  # what was asked, in order
        "refused": {},  # method -> what GitHub says to every such request
        "numbers": 0,
        "immutable_releases": True,
        "tags": {},  # name -> commit, or the object that the tag names
        "tag_objects": {},
        "releases": [],
        "environments": {"release": {"protection_rules": [{"type": "required_reviewers"}, {"type": "branch_policy"}]}},
        "workflows": {},  # what is in .github/workflows, by branch or commit; WORKFLOWS where it is not said
    }


def answer(state: dict[str, Any], method: str, path: str, fields: dict[str, Any]) -> Any:
    """What GitHub answers; changes `state` as GitHub changes the repository."""
    if method in state["refused"]:
        raise HttpError(state["refused"][method])
    where = urlsplit(path)
    query = {name: values[0] for name, values in parse_qs(where.query).items()}
    for pattern, function in ROUTES.items():
        wanted, route = pattern.split(" ")
        if method == wanted and (match := re.fullmatch(route, where.path)):
            return function(state, fields, query, *match.groups())
    raise HttpError(f"Not Found (HTTP 404): {method} {path}")


def _found(value: Any) -> Any:
    if value is None:
        raise HttpError("Not Found (HTTP 404)")
    return value


def _reference(state, tag):
    sha = _found(state["tags"].get(tag))
    return {"ref": f"refs/tags/{tag}", "object": sha if isinstance(sha, dict) else {"type": "commit", "sha": sha}}


def _list_references(state, fields, query, prefix):
    return [_reference(state, tag) for tag in sorted(state["tags"]) if tag.startswith(prefix)]


def _list_releases(state, fields, query):
    size, page = int(query["per_page"]), int(query["page"])
    return state["releases"][(page - 1) * size : page * size]


def _release(state, number):
    return _found(next((each for each in state["releases"] if each["id"] == int(number)), None))


def _create_release(state, fields, query):
    state["numbers"] += 1
    url = f"https://github.com/acme/gate/releases/untagged-{state['numbers']}"
    release = {**fields, "id": state["numbers"], "immutable": False, "html_url": url}
    state["releases"].insert(0, release)
    return release


def _change_release(state, fields, query, number):
    release = _release(state, number)
    release.update(fields)
    if not release["draft"]:
        state["tags"].setdefault(release["tag_name"], release["target_commitish"])
        release["immutable"] = state["immutable_releases"]
    return release


def _delete_release(state, fields, query, number):
    state["releases"].remove(_release(state, number))


def _create_reference(state, fields, query):
    tag = fields["ref"].removeprefix("refs/tags/")
    if tag in state["tags"]:
        raise HttpError("Reference already exists (HTTP 422)")
    state["tags"][tag] = fields["sha"]
    return _reference(state, tag)


def _change_reference(state, fields, query, tag):
    if tag not in state["tags"]:
        raise HttpError("Reference does not exist (HTTP 422)")
    if any(release["immutable"] and release["tag_name"] == tag for release in state["releases"]):
        raise HttpError("Cannot update this protected ref (HTTP 422)")
    state["tags"][tag] = fields["sha"]
    return _reference(state, tag)


ROUTES = {
    r"GET environments/(\w+)": lambda state, fields, query, name: _found(state["environments"].get(name)),
    r"GET git/matching-refs/tags/(\w+)": _list_references,
    r"GET git/ref/tags/(\S+)": lambda state, fields, query, tag: _reference(state, tag),
    r"GET git/tags/(\w+)": lambda state, fields, query, sha: _found(state["tag_objects"].get(sha)),
    r"GET releases": _list_releases,
    r"GET releases/(\d+)": lambda state, fields, query, number: _release(state, number),
    r"GET contents/.github/workflows": lambda state, fields, query: state["workflows"].get(query["ref"], WORKFLOWS),
    r"POST releases": _create_release,
    r"PATCH releases/(\d+)": _change_release,
    r"DELETE releases/(\d+)": _delete_release,
    r"POST git/refs": _create_reference,
    r"PATCH git/refs/tags/(\S+)": _change_reference,
}


def main(arguments: list[str]) -> int:
    """`gh api --method METHOD PATH [--input -]`."""
    api, flag, method, path, *rest = arguments
    assert (api, flag) == ("api", "--method")
    assert rest in ([], ["--input", "-"])
    assert os.environ["GH_TOKEN"]
    file = Path(os.environ["GH_STATE"])
    state = json.loads(file.read_text(encoding="utf-8"))
    prefix = f"repos/{os.environ['GITHUB_REPOSITORY']}/"
    assert path.startswith(prefix)
    state["asked"].append(f"{method} {path.removeprefix(prefix)}")
    fields = json.loads(sys.stdin.read()) if rest else {}
    code = 0
    try:
        found = answer(state, method, path.removeprefix(prefix), fields)
        if found is not None:
            print(json.dumps(found))
    except HttpError as error:
        print(f"gh: {error}", file=sys.stderr)
        code = 1
    file.write_text(json.dumps(state), encoding="utf-8")
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
