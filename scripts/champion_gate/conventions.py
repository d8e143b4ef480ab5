"""Names and tags: what is well formed, and what to write instead.

The rules are MLflow's own limits (https://mlflow.org/docs/latest/ml/model-registry) plus the house's
conventions: experiments are `/{team}/{project}/{type}`, model names are products.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from champion_gate.errors import BadInput
from champion_gate.text import one_line

CHAMPION = "champion"
CHALLENGER = "challenger"
NO_ALIAS = "none"
"""What the input `alias` says to set none."""
DEFAULT_METRIC = "val_ndcg_at_10"
DEFAULT_MAX_REGRESSION = 0.02
DEFAULT_CONFIDENCE = 0.95

REQUIRED_RUN_TAGS = ("team", "owner", "git.commit", "data.version", "environment", "purpose")
VERSION_TAGS = (
    "training_data",
    "training_commit",
    "validation_ndcg",
    "approved_by",
    "approval_date",
    "promoted_at",
    "rollback_reason",
    "rolled_back_at",
)
_RESERVED_TAG_PREFIXES = ("gate.", "mlflow.")

_EXPERIMENT_PART = re.compile(r"[a-z0-9][a-z0-9._-]*")
_MODEL_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_UNITY_CATALOG_NAME = re.compile(r"[^\s./:]+(\.[^\s./:]+){2}")
# `ranker-v2`, `ranker-2`, `ranker2`; but not the 10 of `top-10-ranker`, nor `bm25`.
_VERSION_WORD = re.compile(r"[a-z]*v\d+|version\d*")
_VERSION_AT_END = re.compile(r"\d+|[a-z]{4,}\d")
# fmt: off
_ALGORITHMS = frozenset(
    {"bert", "catboost", "cnn", "dnn", "gbdt", "gbm", "gbt", "gru", "lambdamart", "lambdarank", "lgbm", "lightgbm",
     "listnet", "logreg", "lstm", "mlp", "pytorch", "ranknet", "resnet", "rnn", "sklearn", "svm", "tensorflow",
     "torch", "transformer", "xgb", "xgboost"}
)
# fmt: on
_ALIAS = re.compile(r"[A-Za-z0-9_-]{1,200}")
_RESERVED_ALIAS = re.compile(r"(?i:latest)|v\d+")
_TAG_KEY = re.compile(r"[A-Za-z0-9_./ :-]{1,250}")
_METRIC = re.compile(r"[A-Za-z0-9_./ :-]{1,230}")  # MLflow's 250, less what the gate's run puts before it
_CONTROL = re.compile("[\x00-\x1f\x7f]")


@dataclass(frozen=True)
class ExperimentName:
    """The parts of `/{team}/{project}/{type}`."""

    team: str
    project: str
    type: str


def experiment_name(name: str) -> ExperimentName:
    """The parts of an experiment's name.

    Raises:
        BadInput: the name is not `/{team}/{project}/{type}`; says which part, and proposes a name.
    """
    rule = "The rule is /{team}/{project}/{type}: three parts in lower case letters, digits, '.', '_' and '-'."
    parts = name.split("/")[1:] if name.startswith("/") else name.split("/")
    bad = [part for part in parts if not _EXPERIMENT_PART.fullmatch(part)]
    if name.startswith("/") and len(parts) == 3 and not bad and len(name) <= 250:
        return ExperimentName(*parts)
    if len(name) > 250:
        problem = f"it has {len(name)} characters, and 250 is the limit."
    elif bad:
        problem = "the part " + ", ".join(f"'{one_line(part, 60)}'" for part in bad[:3]) + " does not fit."
    elif not name.startswith("/"):
        problem = "it does not start with '/'."
    else:
        problem = f"it has {len(parts)} part{'s' if len(parts) != 1 else ''}, and 3 are needed."
    proposed = [_slug(part) for part in parts if _slug(part)]
    if proposed:
        proposed = [*proposed, *["project", "training"][len(proposed) - 1 :]][:3]
    do = f"Did you mean '/{'/'.join(proposed)}'?" if len(proposed) == 3 else "For example '/search/ranking/training'."
    raise BadInput(f"experiment-name '{one_line(name, 120)}' is not well formed: {problem}", rule, do)


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", text).lower()).strip("-")[:60]


def model_name_problem(name: str) -> str | None:
    """Why a model's name breaks the conventions; None if it does not.

    Model names are products: lower case, hyphens, no version numbers, no algorithm names. Unity Catalog's
    `catalog.schema.model` is accepted as it is.
    """
    if _UNITY_CATALOG_NAME.fullmatch(name):
        return None
    words = _words(name)
    for word in words:
        if word in _versions(words):
            return f"'{one_line(word, 60)}' is a version, and MLflow numbers versions itself."
        if word.lower() in _ALGORITHMS:
            return f"'{word}' is an algorithm, and the next version may use another."
    if len(name) > 100:
        return f"it has {len(name)} characters, and 100 is the limit."
    if not _MODEL_NAME.fullmatch(name):
        odd = sorted({one_line(char) for char in name if not re.match(r"[a-z0-9-]", char)})
        if odd:
            return "it holds " + " ".join(f"'{char}'" for char in odd[:5]) + "."
        return "it must start with a letter, with single hyphens between its words."
    return None


def proposed_model_name(name: str) -> str:
    """A name like `name` that keeps the conventions."""
    words = _words(name)
    bad = {*_versions(words), *(word for word in words if word.lower() in _ALGORITHMS)}
    kept = "-".join(word.lower() for word in words if word not in bad)
    proposal = re.sub(r"^[^a-z]+", "", kept)[:100].strip("-")
    return "search-ranker" if not proposal or model_name_problem(proposal) else proposal


def _words(name: str) -> list[str]:
    return [word for word in re.split(r"[^A-Za-z0-9]+", re.sub(r"(?<=[a-z])(?=[A-Z])", "-", name)) if word]


def _versions(words: list[str]) -> list[str]:
    return [word for word in words if _VERSION_WORD.fullmatch(word.lower())] + [
        word for word in words[-1:] if _VERSION_AT_END.fullmatch(word.lower())
    ]


MODEL_NAME_RULE = "Model names are products: lower case, hyphens, no version numbers, no algorithm names."


def new_model_name(name: str) -> None:
    """Refuse to create a model whose name breaks the conventions.

    Raises:
        BadInput: with the rule, the offending part, and a corrected proposal.
    """
    if why := model_name_problem(name):
        raise BadInput(
            f"model-name '{one_line(name, 120)}' is not well formed: {why}",
            MODEL_NAME_RULE,
            f"Did you mean '{proposed_model_name(name)}'?",
        )


def readable_model_name(name: str) -> str:
    """`name`, if a registered model can have it at all (MLflow refuses '/' and ':' and empty names).

    Raises:
        BadInput: it cannot.
    """
    unsearchable = "'" in name and '"' in name  # a search condition can quote one of them, not both
    if not name.strip() or _CONTROL.search(name) or re.search(r"[/:]", name) or len(name) > 255 or unsearchable:
        raise BadInput(
            f"model-name '{one_line(name, 120)}' cannot be the name of a registered model.",
            "Names have 1 to 255 characters and hold no '/', ':', control character, or both kinds of quotes.",
            "Give the name as the Models page of MLflow shows it.",
        )
    return name


def alias_name(alias: str, option: str) -> str:
    """`alias`, if MLflow takes it as one.

    Raises:
        BadInput: it does not; `option` names the input.
    """
    if not _ALIAS.fullmatch(alias) or _RESERVED_ALIAS.fullmatch(alias):
        raise BadInput(
            f"{option} '{one_line(alias, 120)}' cannot be an alias.",
            "Aliases are letters, digits, '_' and '-', at most 200; MLflow reserves 'latest' and 'v<number>'.",
            "Use for example 'champion' or 'champion-eu'.",
        )
    return alias


def previous_alias(champion_alias: str) -> str:
    """The alias that names the champion before this one: `previous-champion`, `previous-X`."""
    return f"previous-{champion_alias}"


def rolled_back_alias(champion_alias: str) -> str:
    """The alias that names what was taken back: `rolled-back`, and `rolled-back-X` for another champion alias."""
    return "rolled-back" if champion_alias == CHAMPION else f"rolled-back-{champion_alias}"


def training_alias(alias: str) -> str:
    """`alias`, if training may move it: the aliases of releases move by promotion and rollback only.

    Raises:
        BadInput: it is no alias, or one of a release.
    """
    alias_name(alias, "alias")
    if alias == CHAMPION or alias.startswith(("previous-", "rolled-back")):
        raise BadInput(
            f"alias '{alias}' is not moved by training.",
            "It names a released version, and only promote-alias and rollback move it.",
            "Use 'challenger' (the default), another name, or 'none'.",
        )
    return alias


def metric_name(name: str) -> str:
    """MLflow's spelling of a metric: `val_ndcg@10` is logged as `val_ndcg_at_10`, since MLflow refuses '@'.

    Raises:
        BadInput: MLflow cannot have a metric of this name.
    """
    spelled = name.strip().replace("@", "_at_")
    if not _METRIC.fullmatch(spelled):
        raise BadInput(
            f"metric '{one_line(name, 120)}' cannot be the name of an MLflow metric.",
            "Names hold letters, digits, '_', '-', '.', '/', ':' and spaces.",
            "Use the name that the run shows, for example 'val_ndcg_at_10'.",
        )
    return spelled


def is_ndcg(metric: str) -> bool:
    """Whether a metric's name says that it is an NDCG, which lies in [0, 1]."""
    return "ndcg" in metric.lower()


def version_number(text: str, option: str) -> str:
    """A model version's number, in MLflow's spelling (a string of digits).

    Raises:
        BadInput: it is not a number from 1 on; `option` names the input.
    """
    if not re.fullmatch(r"[1-9][0-9]{0,8}", text):
        raise BadInput(
            f"{option} '{one_line(text, 60)}' is not a version number.",
            "MLflow numbers versions 1, 2, 3 and so on.",
            "For an alias use the input for aliases instead.",
        )
    return text


def model_uri(uri: str) -> tuple[str, str | None, str | None]:
    """The model's name, alias and version of `models:/name@alias` or `models:/name/7`; one of the two is None.

    Raises:
        BadInput: it is neither.
    """
    match = re.fullmatch(r"models:/+([^/@]+)(?:@([^/@]+)|/([^/@]+))", uri)
    if not match:
        raise BadInput(
            f"model-uri '{one_line(uri, 120)}' does not name a registered version.",
            "It has the form models:/<name>@<alias> or models:/<name>/<version>.",
            "For example models:/search-ranker@challenger.",
        )
    name, alias, version = match.groups()
    return (
        readable_model_name(name),
        alias_name(alias, "model-uri") if alias else None,
        version_number(version, "model-uri") if version else None,
    )


def user_tag(pair: str) -> tuple[str, str]:
    """The key and value of `KEY=VALUE`, as a tag that is the user's to set.

    Raises:
        BadInput: no '=', a key that MLflow refuses, or one that an input of its own or we set.
    """
    key, equals, value = pair.partition("=")
    key = key.strip()
    if not equals or not _TAG_KEY.fullmatch(key):
        raise BadInput(
            f"tag '{one_line(pair, 120)}' is not KEY=VALUE.",
            "Keys hold letters, digits, '_', '-', '.', '/', ':' and spaces, at most 250.",
            "Write for example 'ticket=SEARCH-12', one per line.",
        )
    if key in REQUIRED_RUN_TAGS or key in VERSION_TAGS or key.startswith(_RESERVED_TAG_PREFIXES):
        raise BadInput(
            f"tag '{one_line(key, 120)}' is not yours to set.",
            "Required tags have inputs of their own, and 'gate.' and 'mlflow.' are reserved.",
            "Use the input of that name, or another key.",
        )
    return key, value


def team_name(team: str) -> str:
    """`team`, if it can be the first part of an experiment's name.

    Raises:
        BadInput: it cannot; proposes a spelling.
    """
    if not _EXPERIMENT_PART.fullmatch(team) or len(team) > 100:
        slug = _slug(team)
        raise BadInput(
            f"team '{one_line(team, 120)}' is not well formed.",
            "A team is the first part of an experiment's name: lower case letters, digits, '.', '_' and '-'.",
            f"Did you mean '{slug}'?" if slug else "For example 'search'.",
        )
    return team
