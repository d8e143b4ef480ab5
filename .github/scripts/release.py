"""The steps of the release workflow: `release.py STEP VERSION`, with STEP one of check, draft, publish, move-major.

    check        may this commit become this version? Changes nothing.
    draft        writes the release as a draft, with the version's part of CHANGELOG.md as its notes; makes no tag.
    publish      publishes the draft, which makes the tag, and sees that GitHub has locked both.
    move-major   points the tag of the major version, for example v1, at the release.

Each step can be run again after it failed. It needs `gh`, and from the environment GH_TOKEN, GITHUB_REPOSITORY,
GITHUB_REF and GITHUB_SHA. Only the standard library, so that the jobs that may write install nothing.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[2]
BRANCH = "main"
ENVIRONMENT = "release"
# Without leading zeros, and in ASCII: \d takes the digits of every script.
_VERSION = re.compile(r"(0|[1-9][0-9]{0,5})\.(0|[1-9][0-9]{0,5})\.(0|[1-9][0-9]{0,5})")
_HEADING = re.compile(r"^## \[([^\]\n]*)\](.*)$", re.MULTILINE)

Version = tuple[int, int, int]


class Refused(Exception):
    """Why there is no release, and what to do about it."""


def parsed(text: str) -> Version:
    """The three numbers of a version such as 1.2.3."""
    match = _VERSION.fullmatch(text)
    if match is None:
        raise Refused(f"{text[:40]!r} is no version. Give three numbers without a v, as in 1.2.3.")
    major, minor, patch = map(int, match.groups())
    return major, minor, patch


def sections(changelog: str) -> dict[str, tuple[str, str]]:
    """What CHANGELOG.md has under each `## [NAME]`: the rest of that line, and the text below it."""
    headings = list(_HEADING.finditer(changelog))
    found: dict[str, tuple[str, str]] = {}
    ends = [heading.start() for heading in headings[1:]] + [len(changelog)]
    for heading, end in zip(headings, ends, strict=False):
        name = heading[1]
        if name in found:
            raise Refused(f"CHANGELOG.md has [{name}] twice. Make one of the two.")
        found[name] = heading[2].strip(), changelog[heading.end() : end].strip()
    return found


def notes(changelog: str, version: str) -> str:
    """What CHANGELOG.md says of a version, which must be its newest one, dated, with nothing left unreleased."""
    found = sections(changelog)
    if version not in found:
        raise Refused(f"CHANGELOG.md has no [{version}]. Give what is under [Unreleased] that heading, with a date.")
    when, text = found[version]
    if not _is_date(when):
        raise Refused(f"CHANGELOG.md has no date for {version}. Write: ## [{version}] - YYYY-MM-DD")
    if found.pop("Unreleased", ("", ""))[1]:
        raise Refused(f"CHANGELOG.md has text under [Unreleased], which goes out, too. Move it to [{version}].")
    if next(iter(found)) != version:
        raise Refused(f"[{version}] is not the first version in CHANGELOG.md. Put the newest one on top.")
    if not text:
        raise Refused(f"CHANGELOG.md says nothing under [{version}]. Say what changed, and why.")
    return text


def check_files(version: str, root: Path = ROOT) -> str:
    """The notes of the version, if the files of this commit speak of the same version."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    if project != version:
        raise Refused(f"pyproject.toml says version {project}, not {version}. Change it on {BRANCH} first.")
    return notes((root / "CHANGELOG.md").read_text(encoding="utf-8"), version)


def api(path: str, method: str = "GET", **fields: object) -> Any:
    """The answer of GitHub's API below repos/OWNER/NAME; None where there is no such thing (404)."""
    command = ["gh", "api", "--method", method, f"repos/{_setting('GITHUB_REPOSITORY')}/{path}", "--input", "-"]
    if not fields:
        del command[-2:]
    asked = subprocess.run(command, input=json.dumps(fields), capture_output=True, text=True, check=False)
    if asked.returncode:
        if "(HTTP 404)" in asked.stderr:
            return None
        raise Refused(f"GitHub did not do {method} {path}: {asked.stderr.strip()}")
    return json.loads(asked.stdout) if asked.stdout.strip() else None


def released_versions() -> list[Version]:
    """The versions that have a tag."""
    names = [ref["ref"].removeprefix("refs/tags/v") for ref in _listed("git/matching-refs/tags/v")]
    return [parsed(name) for name in names if _VERSION.fullmatch(name)]


def releases(tag: str) -> list[dict[str, Any]]:
    """The releases with this tag, drafts included: at most one is published."""
    found: list[dict[str, Any]] = []
    page = 1
    while listed := _listed(f"releases?per_page=100&page={page}"):
        found += [release for release in listed if release["tag_name"] == tag]
        page += 1
    return found


def commit_of(tag: str) -> str | None:
    """The commit that a tag names; None if there is no such tag."""
    ref = api(f"git/ref/tags/{tag}")
    if ref is None:
        return None
    target = ref["object"]
    while target["type"] == "tag":
        target = api(f"git/tags/{target['sha']}")["object"]
    return str(target["sha"])


def check(version: str) -> None:
    """Refuse a version that this commit must not become."""
    check_files(version)
    if _setting("GITHUB_REF") != f"refs/heads/{BRANCH}":
        raise Refused(f"Releases are made of {BRANCH}. Start the workflow there.")
    if commit_of(f"v{version}") is not None:
        raise Refused(f"There is a tag v{version} already, and it stays what it is. Take the next number.")
    newest = max(released_versions(), default=(-1, -1, -1))
    if parsed(version) <= newest:
        raise Refused(f"{version} is not above {_tag(newest)}, the newest release. Take a higher number.")
    # A job that names an environment without reviewers waits for nobody.
    rules = (api(f"environments/{ENVIRONMENT}") or {}).get("protection_rules", [])
    if not any(rule["type"] == "required_reviewers" for rule in rules):
        raise Refused(
            f"The environment '{ENVIRONMENT}' has no required reviewers, so nobody would be asked."
            f" Add them under Settings > Environments > {ENVIRONMENT}."
        )


def draft(version: str) -> None:
    """Write the draft, in place of any that an earlier try left behind."""
    text = check_files(version)
    tag = f"v{version}"
    for left in releases(tag):
        if not left["draft"]:
            raise Refused(f"{tag} is published already. Take the next number.")
        api(f"releases/{left['id']}", "DELETE")
    commit = _setting("GITHUB_SHA")
    made = api("releases", "POST", tag_name=tag, target_commitish=commit, name=tag, body=text, draft=True)
    if made is None:
        # GitHub also says 404 to a token that lacks the right.
        raise Refused(f"GitHub made no draft of {tag}. Does the job have `contents: write`?")
    print(f"Draft of {tag} at {commit}: {made['html_url']}")


def publish(version: str) -> None:
    """Publish the draft at this commit, and see that release and tag are what was tested, and locked."""
    tag, commit = f"v{version}", _setting("GITHUB_SHA")
    found = releases(tag)
    if len(found) != 1:
        raise Refused(f"There are {len(found)} releases of {tag}, not one. Start the workflow again.")
    (release,) = found
    if release["draft"]:
        if release["target_commitish"] != commit:
            raise Refused(
                f"The draft of {tag} is of {release['target_commitish']}, and {commit} was tested."
                " Start the workflow again."
            )
        check(version)
        _demand_same_workflows(commit)
        if api(f"releases/{release['id']}", "PATCH", draft=False, make_latest="true") is None:
            raise Refused(f"GitHub did not publish {tag}. Start the workflow again.")
    if commit_of(tag) != commit:
        raise Refused(f"The tag {tag} names {commit_of(tag)}, and {commit} was tested. Find out who made it.")
    if not (api(f"releases/{release['id']}") or {}).get("immutable"):
        raise Refused(
            f"{tag} is published, but can be changed, so nothing points at it yet. Enable immutable releases in the"
            f" repository's settings, delete release and tag {tag}, and start the workflow again."
        )
    print(f"Published {tag} at {commit}: {release['html_url']}")


def move_major(version: str) -> None:
    """Point the tag of the major version at this release, unless there is a newer one."""
    tag, commit = f"v{version}", _setting("GITHUB_SHA")
    major = f"v{parsed(version)[0]}"
    if commit_of(tag) != commit:
        raise Refused(f"The tag {tag} does not name {commit}. Publish the release first.")
    newest = max(other for other in released_versions() if other[0] == parsed(version)[0])
    if parsed(version) != newest:
        raise Refused(f"{major} belongs to {_tag(newest)}, which is newer than {tag}. Leave it there.")
    before = commit_of(major)
    if before is None:
        api("git/refs", "POST", ref=f"refs/tags/{major}", sha=commit)
    elif before != commit:
        api(f"git/refs/tags/{major}", "PATCH", sha=commit, force=True)
    if commit_of(major) != commit:
        raise Refused(
            f"The tag {major} was not moved. Move it by hand: git push --force origin {commit}:refs/tags/{major}"
        )
    print(f"{major} names {tag} ({commit}); before, it named {before or 'nothing'}.")


def _demand_same_workflows(commit: str) -> None:
    # GitHub lets no workflow's token tag a commit whose workflows differ from those of the default branch.
    tested, now = (
        {(file["path"], file["sha"]) for file in _listed(f"contents/.github/workflows?ref={ref}")}
        for ref in (commit, BRANCH)
    )
    if tested != now:
        names = ", ".join(sorted({path for path, _ in tested ^ now}))
        raise Refused(
            f"Workflows have changed on {BRANCH} since {commit}: {names}."
            " GitHub does not let this job tag that commit any more. Start the workflow again."
        )


def _is_date(text: str) -> bool:
    if not re.fullmatch(r"- [0-9]{4}-[0-9]{2}-[0-9]{2}", text):
        return False
    try:
        date.fromisoformat(text[2:])
    except ValueError:
        return False
    return True


def _tag(version: Version) -> str:
    return "v" + ".".join(map(str, version))


def _listed(path: str) -> list[dict[str, Any]]:
    # Where there is nothing, GitHub lists nothing. A 404 means that the token may not look.
    found = api(path)
    if found is None:
        raise Refused(f"GitHub does not list {path}. Look at the permissions of this job.")
    return list(found)


def _setting(name: str) -> str:
    value = os.environ.get(name, "")
    if not value:
        raise Refused(f"{name} is not set. The release workflow sets it.")
    return value


STEPS = {"check": check, "draft": draft, "publish": publish, "move-major": move_major}


def main(arguments: list[str]) -> int:
    """Run one step."""
    if len(arguments) != 2 or arguments[0] not in STEPS:
        print(__doc__, file=sys.stderr)
        return 2
    step, version = arguments
    try:
        parsed(version)
        STEPS[step](version)
    except Refused as refusal:
        # What GitHub reads as the end of a command must not stand in it.
        message = str(refusal).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
        print(f"::error::{message}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
