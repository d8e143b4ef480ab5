"""What a challenger must show: thresholds, margins, slices. Pure: YAML text in, unknown fields refused."""

from __future__ import annotations

import difflib
import hashlib
import json
import math
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from champion_gate import conventions
from champion_gate.conventions import DEFAULT_CONFIDENCE, DEFAULT_MAX_REGRESSION
from champion_gate.errors import BadInput
from champion_gate.rank_metric import RankMetric, parse_name
from champion_gate.text import one_line

DEFAULT_SLICE_REGRESSION = 0.05
MIN_QUERIES = 200
"""Fewer queries leave a comparison open, unless the policy says another number."""
_MAX_BYTES = 1_000_000
# What pydantic says in the words of programmers.
_PLAIN = {
    "tuple_type": "a list is asked for, such as `- name: ndcg@10`",
    "model_type": "a mapping is asked for, such as `name: ndcg@10`",
    "model_attributes_type": "a mapping is asked for, such as `name: ndcg@10`",
    "float_parsing": "this is not a number",
    "float_type": "a number is asked for",
    "int_parsing": "this is not a whole number",
    "int_type": "a whole number is asked for",
    "int_from_float": "a whole number is asked for",
    "string_type": "text is asked for",
    "bool_parsing": "true or false is asked for",
    "bool_type": "true or false is asked for",
    "missing": "this field is required",
    "too_short": "at least one is needed",
}
_MOST_QUERIES = 10**18
"""More than anybody has; where even a float ends, a margin asks for no more."""


def _kebab(name: str) -> str:
    return name.replace("_", "-")


class _Part(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, alias_generator=_kebab, populate_by_name=True
    )


def _number(value: Any) -> Any:
    """YAML's `yes` is no number, though Python would take it for one."""
    if isinstance(value, bool):
        raise ValueError("a number is asked for")  # noqa: TRY004  (pydantic reports ValueErrors only)
    return value


def _zero(value: Any) -> Any:
    return 0 if value == "0" else value


def _text(value: Any) -> Any:
    """Numbers that YAML read where text is meant: version 3, the slice value 2026."""
    if isinstance(value, str) and any("\ud800" <= character <= "\udfff" for character in value):
        raise ValueError("half a character is no text")  # which no tag, log or file could hold
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


Share = Annotated[float, BeforeValidator(_number), Field(ge=0, lt=1)]
Number = Annotated[float, BeforeValidator(_number)]
Confidence = Annotated[float, BeforeValidator(_number), Field(ge=0.5, lt=1)]
Count = Annotated[int, BeforeValidator(_number), Field(ge=2, le=1_000_000_000)]
Text = Annotated[str, BeforeValidator(_text, json_schema_input_type=str | int), Field(min_length=1, max_length=250)]


class MetricPolicy(_Part):
    """What one metric must show.

    `ndcg@k`, `mrr@k`, `map@k` and `recall@k` are computed from judged queries where there are some; any other name
    is a metric of the training runs.
    """

    name: Text = Field(description="`ndcg@10`, `mrr@10`, `map@100`, `recall@50`, or the name of a run metric.")
    run_metric: Text | None = Field(
        default=None,
        description="Name of a ranking metric in the runs, read where no judged queries are given. "
        "Default: `val_ndcg_at_10` for `ndcg@10`.",
    )
    direction: Literal["higher", "lower"] = Field(
        default="higher", description="Which values of a run metric are better."
    )
    gain: Literal["exp", "linear"] | dict[Number, Number] = Field(
        default="exp",
        description="NDCG: `exp` is 2^label - 1, `linear` the label itself, or a map of label to gain.",
    )
    ties: Literal["average", "pessimistic"] = Field(
        default="average",
        description="Documents with one score: `average` over their orders, or `pessimistic`, the worst of them.",
    )
    empty_queries: Annotated[Literal["skip", 0], BeforeValidator(_zero)] = Field(
        default="skip", description="Queries without a relevant document: `skip`, or count them as `0`."
    )
    relevant_from: Number = Field(default=1.0, gt=0, description="MRR, MAP, recall: labels from here on are relevant.")
    threshold: Number | None = Field(default=None, description="Value to reach, whatever the champion has.")
    max_regression: Share = Field(
        default=DEFAULT_MAX_REGRESSION,
        description="Share of the champion's value that may be lost: 0.02 passes from 98 % of it on.",
    )
    max_loss: Number | None = Field(
        default=None, ge=0, description="What may be lost in the metric's own unit, instead of `max-regression`."
    )
    confidence: Confidence | None = Field(
        default=None, description="One-sided confidence of the bounds. Default: the policy's."
    )
    min_queries: Count | None = Field(
        default=None, description="Fewer queries leave the comparison open. Default: the policy's."
    )
    allow_different_data: bool = Field(
        default=False, description="Compare run metrics that were measured on other data, such as a model's size."
    )
    report_only: bool = Field(default=False, description="Show the metric, and let it decide nothing.")

    @property
    def rank_metric(self) -> RankMetric | None:
        """The ranking metric of this name; None if it is a metric of the runs only."""
        parsed = parse_name(self.name)
        if parsed is None:
            return None
        kind, k = parsed
        gain = self.gain if isinstance(self.gain, str) else tuple(sorted(self.gain.items()))
        empty: Literal["skip", "zero"] = "skip" if self.empty_queries == "skip" else "zero"
        return RankMetric(kind, k, gain, self.ties, self.relevant_from, empty)

    @property
    def in_runs(self) -> str:
        """The metric's name in the training runs."""
        if self.run_metric:
            return conventions.metric_name(self.run_metric)
        name = conventions.metric_name(self.name)
        return f"val_{name}" if "@" in self.name and self.name == self.key else name

    @property
    def key(self) -> str:
        """What a report calls it: `ndcg@10`, however it was spelled; or the run metric."""
        metric = self.rank_metric
        return metric.name if metric else conventions.metric_name(self.name)

    @model_validator(mode="after")
    def _can_pass(self) -> MetricPolicy:
        ranking = self.rank_metric
        if (ranking or conventions.is_ndcg(self.name)) and self.threshold is not None and not 0 <= self.threshold <= 1:
            kind = ranking.kind.upper() if ranking else "NDCG"
            article = "an" if kind[0] in "NM" else "a"
            raise ValueError(f"threshold {self.threshold:g} is out of reach: {article} {kind} lies between 0 and 1")
        if ranking is None and "@" in self.name:
            known = ["ndcg", "mrr", "map", "recall"]
            near = difflib.get_close_matches(self.name.partition("@")[0], known, 1)
            example = f"{near[0]}@{self.name.partition('@')[2]}" if near else "ndcg@10"
            raise ValueError(f"there is no ranking metric '{self.name}'; did you mean {example}?")
        if ranking is None:
            odd = self.model_fields_set & {"gain", "ties", "empty_queries", "relevant_from", "run_metric"}
            if odd:
                raise ValueError(f"{_kebab(min(odd))} belongs to ranking metrics such as ndcg@10, not to '{self.name}'")
        elif self.direction == "lower":
            raise ValueError(f"direction: higher is better for {ranking.name}")
        elif ranking.kind != "ndcg" and "gain" in self.model_fields_set:
            raise ValueError(f"gain belongs to ndcg, not to {ranking.kind}")
        if isinstance(self.gain, dict):
            if any(label < 0 or value < 0 for label, value in self.gain.items()):
                raise ValueError("gain: labels and gains are not negative")
            if not any(self.gain.values()):
                raise ValueError("gain: no label gains anything, so no ranking could be told from another")
        if self.max_loss is not None and "max_regression" in self.model_fields_set:
            raise ValueError("max-loss and max-regression are both given, and one margin counts")
        return self


class BaselinePolicy(_Part):
    """A pinned version to compare with as well: many small losses must not add up."""

    version: Text = Field(description="Number of the version.", pattern=r"^[1-9][0-9]{0,8}$")
    max_regression: Share | None = Field(
        default=None, description="Share of the baseline's value that may be lost. Default: each metric's own."
    )


class SlicePolicy(_Part):
    """One column of the judged queries that splits them into slices."""

    column: Text = Field(description="Name of the column; its value is the same for all rows of a query.")
    required: tuple[Text, ...] = Field(
        default=(), max_length=100, description="Values whose slices must each show that they lose no more."
    )
    max_regression: Share = Field(
        default=DEFAULT_SLICE_REGRESSION, description="Share that a slice may lose; wider than for all queries."
    )
    min_queries: Count | None = Field(
        default=None, description="Fewer queries leave a required slice open. Default: the metric's."
    )


class Policy(_Part):
    """What a challenger must show to become champion. An empty policy is an error, never a pass."""

    metrics: tuple[MetricPolicy, ...] = Field(min_length=1, max_length=50, description="What is judged.")
    confidence: Confidence = Field(
        default=DEFAULT_CONFIDENCE, description="One-sided confidence of every bound, and of all slices together."
    )
    min_queries: Count | None = Field(
        default=None, description="Fewer queries leave a comparison open. Default: 200, and more for narrow margins."
    )
    baseline: BaselinePolicy | None = Field(default=None, description="A pinned version to compare with as well.")
    slices: tuple[SlicePolicy, ...] = Field(default=(), max_length=20, description="Columns that are looked into.")
    isolation: Literal["any", "sandbox"] = Field(
        default="any", description="`sandbox`: a model may only be scored where it is shut in."
    )
    allow_different_data: bool = Field(
        default=False, description="Compare run metrics though the runs do not name the same evaluation data."
    )
    promote_inconclusive: bool = Field(
        default=False, description="Let an inconclusive verdict be promoted, with on-inconclusive: pass-with-warning."
    )

    @model_validator(mode="after")
    def _can_pass(self) -> Policy:
        names = [metric.key for metric in self.metrics]
        columns = [column.column for column in self.slices]
        for what, given in (("metric", names), ("slice column", columns)):
            if twice := next((name for name in given if given.count(name) > 1), None):
                raise ValueError(f"the {what} '{twice}' is there twice")
        if all(metric.report_only for metric in self.metrics):
            raise ValueError("every metric is report-only, so nothing would decide")
        if self.slices and not any(m.rank_metric and not m.report_only for m in self.metrics):
            raise ValueError("slices need a ranking metric that decides, such as ndcg@10")
        for metric in self.metrics:
            self._reachable(self.confidence_of(metric), metric.min_queries or self.min_queries, metric.name)
        for column in self.slices:
            # A required slice is judged with the confidence of each metric.
            deciding = [metric for metric in self.metrics if metric.rank_metric and not metric.report_only]
            asked = [self.confidence, *(self.confidence_of(m) for m in deciding if column.required)]
            self._reachable(max(asked), column.min_queries, f"slice {column.column}")
        return self

    @staticmethod
    def _reachable(confidence: float, given: int | None, where: str) -> None:
        # With n pairs no sign or permutation test gets below 2^-n, whatever the figures are.
        least = math.ceil(math.log2(1 / (1 - confidence)) - 1e-9)
        if given is not None and given < least:
            raise ValueError(
                f"{where}: a confidence of {confidence:g} cannot be reached with min-queries {given}; "
                f"{least} is the least"
            )

    def confidence_of(self, metric: MetricPolicy) -> float:
        """The one-sided confidence of a metric's bounds."""
        return self.confidence if metric.confidence is None else metric.confidence

    def least_queries(self, metric: MetricPolicy, margin: float, column: SlicePolicy | None = None) -> int:
        """How many queries a comparison at `margin` needs at least.

        Unless a number is given: 200, and so many that a loss of everything on a share `margin` of the queries would
        show at least once with the confidence asked for, ln(alpha) / ln(1 - margin).
        """
        given = (column.min_queries if column else None) or metric.min_queries or self.min_queries
        if given is not None:
            return given
        alpha = 1 - self.confidence_of(metric)
        # A confidence such as 0.95 leaves 0.05000000000000004; a query more for that would be pedantry.
        rare = math.log(alpha) / math.log1p(-margin) - 1e-9 if margin > 0 else 0.0
        return max(MIN_QUERIES, math.ceil(min(rare, _MOST_QUERIES)))

    def rank_metrics(self) -> list[tuple[MetricPolicy, RankMetric]]:
        """The metrics that judged queries are measured by."""
        return [(metric, ranking) for metric in self.metrics if (ranking := metric.rank_metric)]

    def digest(self) -> str:
        """SHA-256 of the policy's canonical JSON: equal for equal demands."""
        # By the canonical names, so that two spellings of one metric are one demand.
        document = self.model_dump(mode="json")
        for metric, dumped in zip(self.metrics, document["metrics"], strict=True):
            dumped |= {"name": metric.key, "run_metric": metric.in_runs}
        canonical = json.dumps(document, sort_keys=True, separators=(",", ":"))
        return "sha256:" + hashlib.sha256(canonical.encode()).hexdigest()


class _Loader(yaml.SafeLoader):
    """Plain YAML: no aliases, whose nesting can blow up, and no key twice, of which the last would count silently."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            event: Any = self.peek_event()  # type: ignore[no-untyped-call]
            raise yaml.YAMLError(f"aliases (*{event.anchor}) are not read, line {event.start_mark.line + 1}")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.YAMLError(
                    f"the key '{one_line(str(key.value), 60)}' is there twice, line {key.start_mark.line + 1}"
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


def from_yaml(text: str, name: str) -> Policy:
    """The policy that a file holds; `name` is the file's, for messages.

    Raises:
        BadInput: it is no YAML, or asks for what cannot be; says where, and what is accepted.
    """
    if len(text) > _MAX_BYTES:
        raise BadInput(f"The policy {name} is too long: {len(text)} characters.", "", "A policy has a few dozen lines.")
    try:
        asked = yaml.load(text, _Loader)  # noqa: S506  (a SafeLoader)
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:  # a list as a key is a TypeError
        raise BadInput(
            f"The policy {name} is no YAML that can be read: {_yaml_problem(error)}.",
            "",
            "docs/policy.md shows what a policy looks like.",
        ) from error
    if asked is None:
        raise BadInput(
            f"The policy {name} is empty.",
            "A policy that asks for nothing would pass everything.",
            "Name at least one metric under `metrics:`, for example `- name: ndcg@10`.",
        )
    try:
        return Policy.model_validate(asked, by_alias=True, by_name=False)
    except ValidationError as error:
        # That a list is too short is said, too, where its only entry is wrong.
        found = [each for each in error.errors() if each["type"] != "too_short"] or error.errors()
        said = "; ".join(_finding(each) for each in found[:5])
        raise BadInput(
            f"The policy {name} cannot be used: {said}.", "", "docs/policy.md lists what a policy can say."
        ) from error


def _finding(found: Any) -> str:
    where = ".".join(str(part + 1) if isinstance(part, int) else str(part) for part in found["loc"])
    message = _PLAIN.get(found["type"], found["msg"].removeprefix("Value error, "))
    if found["type"] == "extra_forbidden":
        near = difflib.get_close_matches(_kebab(str(found["loc"][-1])), _fields(), 1)
        message = "there is no such field" + (f"; did you mean {near[0]}?" if near else "")
    given = found.get("input")
    # Python refuses to write out an integer of thousands of digits.
    short = isinstance(given, (str, float)) or (isinstance(given, int) and given.bit_length() < 200)
    shown = f" (it is {one_line(repr(given), 60)})" if short and where else ""
    return one_line(f"{where}: {message}{shown}" if where else message, 300)


def _fields() -> list[str]:
    parts = (MetricPolicy, BaselinePolicy, SlicePolicy, Policy)
    return sorted({field.alias or "" for part in parts for field in part.model_fields.values()})


def _yaml_problem(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return one_line(str(error), 400)
    problem = str(getattr(error, "problem", "") or getattr(error, "context", ""))
    if "'\\t'" in problem:
        problem = "a tab, and YAML indents with spaces"
    return one_line(f"line {mark.line + 1}: {problem}", 300)


def from_inputs(
    metric: str,
    threshold: float | None,
    max_regression: float,
    *,
    allow_different_data: bool = False,
    confidence: float | None = None,
    min_queries: int | None = None,
    baseline: str = "",
    slice_columns: Sequence[str] = (),
) -> Policy:
    """The policy that the inputs of an action ask for.

    Raises:
        BadInput: a value that cannot be, or that no model could pass; names the input.
    """
    name = conventions.metric_name(metric)
    # A metric that judged queries can be measured by keeps the name that the runs have it under.
    ranking = {"run_metric": name} if parse_name(name) else {}
    asked: dict[str, Any] = {
        "metrics": [{"name": name, **ranking, "threshold": threshold, "max_regression": max_regression}],
        "allow_different_data": allow_different_data,
        "min_queries": min_queries,
        "baseline": {"version": baseline} if baseline else None,
        "slices": [{"column": column} for column in dict.fromkeys(slice_columns)],
    }
    if confidence is not None:
        asked["confidence"] = confidence
    try:
        return Policy.model_validate(asked)
    except ValidationError as error:
        first = error.errors()[0]
        inputs = {"version": "baseline-version", "column": "slice-column", "slices": "slice-column"}
        fields = [str(part).replace("_", "-") for part in first["loc"] if not isinstance(part, int)]
        message = first["msg"].removeprefix("Value error, ")
        spelled = fields[-1] if fields and fields[-1] != "metrics" else _named_in(message)
        field = inputs.get(spelled, spelled)
        given = f" '{one_line(str(first['input']), 60)}'" if isinstance(first["input"], (str, int, float)) else ""
        raise BadInput(
            f"{field}{given} is not possible: {message}.",
            "threshold is a metric's least value, max-regression a share from 0 up to, but not including, 1.",
            f"Correct the input '{field}'.",
        ) from error


def _named_in(message: str) -> str:
    """The input that a message about several fields speaks of."""
    return next((name for name in ("min-queries", "slice-column", "threshold") if name in message), "threshold")
