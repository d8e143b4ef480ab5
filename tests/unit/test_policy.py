"""A policy file: what it can say, what is refused, and its schema for editors."""

import json
import re
from pathlib import Path

import jsonschema
import pytest
import yaml

from champion_gate import policy
from champion_gate.errors import BadInput

SCHEMA = Path(__file__).parents[2] / "docs" / "policy.schema.json"
DOCUMENT = SCHEMA.with_name("policy.md")
FULL = """
metrics:
  - name: ndcg@10
    gain: exp
    ties: average
    empty-queries: skip
    threshold: 0.6
    max-regression: 0.02
    confidence: 0.95
    min-queries: 300
  - name: ndcg@5
    gain: linear
    report-only: true
  - name: ndcg@3
    gain: {0: 0, 1: 1, 2: 3, 3: 7, 4: 15}
    ties: pessimistic
    empty-queries: 0
  - name: mrr@10
    relevant-from: 2
  - name: map@100
  - name: recall@50
  - name: latency_p95_ms
    direction: lower
    threshold: 80
    max-regression: 0.1
    allow-different-data: true
  - name: bias
    max-loss: 0.5
confidence: 0.9
baseline:
  version: 3
  max-regression: 0.05
slices:
  - column: device
    required: [mobile, desktop]
    max-regression: 0.04
    min-queries: 100
  - column: year
    required: [2026]
isolation: sandbox
promote-inconclusive: true
"""


def load(text):
    return policy.from_yaml(text, "policy.yml")


def test_all_that_a_policy_can_say_is_read():
    found = load(FULL)
    assert [m.key for m in found.metrics][:3] == ["ndcg@10", "ndcg@5", "ndcg@3"]
    assert found.metrics[2].rank_metric.gain == ((0, 0), (1, 1), (2, 3), (3, 7), (4, 15))
    assert found.metrics[2].rank_metric.empty_queries == "zero"
    assert found.metrics[6].rank_metric is None
    assert found.baseline.version == "3"
    assert found.slices[1].required == ("2026",)
    assert found.confidence_of(found.metrics[0]) == 0.95
    assert found.confidence_of(found.metrics[1]) == 0.9
    written = yaml.safe_dump(found.model_dump(mode="json", by_alias=True, exclude_defaults=True))
    assert policy.from_yaml(written, "again").digest() == found.digest()


def test_a_ranking_metric_is_found_in_the_runs_under_the_usual_name():
    names = "{name: ndcg@10}, {name: mrr@5, run-metric: eval/mrr@5}, {name: val_map_at_20}, {name: loss}"
    found = load(f"metrics: [{names}]")
    assert [m.in_runs for m in found.metrics] == ["val_ndcg_at_10", "eval/mrr_at_5", "val_map_at_20", "loss"]
    assert [m.key for m in found.metrics] == ["ndcg@10", "mrr@5", "map@20", "loss"]


def test_the_least_number_of_queries_is_200_or_what_a_rare_collapse_needs():
    found = load("metrics: [{name: ndcg@10}]")
    metric = found.metrics[0]
    # ln(0.05) / ln(0.99) = 298.07
    assert [found.least_queries(metric, m) for m in (0.0, 0.01, 0.02, 0.5)] == [200, 299, 200, 200]
    named = load("metrics: [{name: ndcg@10, min-queries: 50}]")
    assert named.least_queries(named.metrics[0], 0.001) == 50
    assert found.least_queries(metric, 5e-324) > 10**9, "the narrowest margin that a float can be"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty"),
        ("null", "empty"),
        ("[]", "policy.yml"),
        ("metrics: []", "metrics"),
        ("metrics: [{name: ndcg@10, treshold: 0.5}]", "treshold"),
        ("metrics: [{name: ndcg@10}]\nslice: []", "slice"),
        ("metrics: [{name: ndcg@10, max_regression: 0.1}]", "did you mean max-regression?"),
        ("metrics: [{name: recal@5}]", "did you mean recall@5?"),
        ("metrics: ndcg@10", "a list is asked for"),
        ("metrics: [{name: ndcg@10, threshold: two}]", "not a number"),
        ("metrics:\n\t- name: ndcg@10", "line 2: a tab"),
        ("metrics: [{name: ndcg@10, report-only: true}]", "report-only"),
        ("metrics: [{name: ndcg@10}, {name: val_ndcg_at_10}]", "twice"),
        ("metrics: [{name: ndcg@10, threshold: 1.5}]", "out of reach"),
        ("metrics: [{name: ndcg@10, threshold: .nan}]", "threshold"),
        ("metrics: [{name: ndcg@10, threshold: yes}]", "number"),
        ("metrics: [{name: ndcg@10, max-regression: 1}]", "max-regression"),
        ("metrics: [{name: ndcg@10, max-regression: 0.1, max-loss: 0.1}]", "max-loss"),
        ("metrics: [{name: ndcg@10, direction: lower}]", "higher is better"),
        ("metrics: [{name: ndcg@10, gain: square}]", "gain"),
        ("metrics: [{name: ndcg@10, gain: {0: 0, 1: 0}}]", "gain"),
        ("metrics: [{name: ndcg@10, gain: {0: 0, 1: -1}}]", "gain"),
        ("metrics: [{name: mrr@10, gain: exp}]", "gain"),
        ("metrics: [{name: latency, ties: average}]", "ties"),
        ("metrics: [{name: ndcg@10, confidence: 1.0}]", "confidence"),
        ("metrics: [{name: ndcg@10, confidence: 0.9999, min-queries: 5}]", "cannot be reached"),
        ("metrics: [{name: ndcg@10, min-queries: 1}]", "min-queries"),
        ("metrics: [{name: ndcg@10}]\nmin-queries: 3", "cannot be reached"),
        ("metrics: [{name: ndcg@10}]\nslices: [{required: [mobile]}]", "column"),
        ("metrics: [{name: ndcg@10}]\nslices: [{column: a}, {column: a}]", "twice"),
        ("metrics: [{name: latency}]\nslices: [{column: a}]", "ranking metric"),
        ("metrics: [{name: ndcg@10}]\nbaseline: {version: champion}", "version"),
        ("metrics: [{name: ndcg@10}]\nisolation: none", "isolation"),
        ("metrics: [{name: ndcg@10}]\nmetrics: [{name: ndcg@5}]", "twice"),
        ("a: &a [1]\nb: *a", "aliases"),
        ("metrics: [{name: !!python/object:os.system x}]", "YAML"),
        ("metrics: [\x00]", "YAML"),
        ("[" * 10_000, "YAML"),
        ("? [a]\n: 1", "YAML"),
        ("metrics: [{name: ndcg@10, threshold: 0x" + "f" * 5000 + "}]", "threshold"),
        ("metrics: [{name: 0x" + "f" * 5000 + "}]", "name"),
        ('metrics: [{name: ndcg@10}]\nslices: [{column: a, required: ["\\ud800"]}]', "half a character"),
        (
            "metrics: [{name: ndcg@10, confidence: 0.9999}]\nslices: [{column: a, required: [x], min-queries: 5}]",
            "slice a: a confidence of 0.9999 cannot be reached",
        ),
        ("# " + "x" * 2_000_000, "too long"),
    ],
)
def test_what_cannot_be_is_an_error_when_it_is_loaded(text, said):
    with pytest.raises(BadInput) as error:
        load(text)
    assert said in str(error.value)
    assert "policy.yml" in str(error.value)


def test_the_inputs_of_the_simple_case_ask_for_a_policy_too():
    found = policy.from_inputs(
        "val_ndcg_at_10", 0.5, 0.01, confidence=0.9, min_queries=40, baseline="2", slice_columns=("device",)
    )
    assert found.metrics[0].key == "ndcg@10"
    assert found.metrics[0].in_runs == "val_ndcg_at_10"
    assert (found.confidence, found.min_queries, found.baseline.version) == (0.9, 40, "2")
    assert policy.from_inputs("ndcg@10", None, 0.02).metrics[0].in_runs == "ndcg_at_10"


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        ({"confidence": 1.0}, "confidence"),
        ({"confidence": 0.999, "min_queries": 3}, "min-queries"),
        ({"min_queries": 1}, "min-queries"),
        ({"baseline": "latest"}, "baseline-version"),
        ({"slice_columns": ("",)}, "slice-column"),
    ],
)
def test_an_input_that_cannot_be_is_named_as_the_workflow_spells_it(asked, named):
    with pytest.raises(BadInput, match=named):
        policy.from_inputs("val_ndcg_at_10", 0.5, 0.02, **asked)


def test_the_schema_for_editors_takes_what_the_gate_takes_and_refuses_a_misspelt_field():
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    # As an editor sees a file: YAML turned into JSON.
    asked = json.loads(json.dumps(yaml.safe_load(FULL)))
    jsonschema.validate(asked, schema)
    example = re.search(r"```yaml\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)[1]
    jsonschema.validate(yaml.safe_load(example), schema)
    assert load(example).baseline is None  # a first release has none to compare with
    asked["metrics"][0]["treshold"] = 0.5
    with pytest.raises(jsonschema.ValidationError, match="treshold"):
        jsonschema.validate(asked, schema)
