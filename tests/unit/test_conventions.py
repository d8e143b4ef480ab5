"""Names: the rule, the offending part, a corrected proposal."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from champion_gate import conventions
from champion_gate.errors import BadInput


def test_an_experiment_name_gives_its_parts():
    assert conventions.experiment_name("/search/ranking/training") == conventions.ExperimentName(
        "search", "ranking", "training"
    )


@pytest.mark.parametrize(
    ("name", "offending", "proposal"),
    [
        ("/Search/ranking/training", "'Search'", "/search/ranking/training"),
        ("search/ranking/training", "does not start with '/'", "/search/ranking/training"),
        ("/search/ranking", "2 parts", "/search/ranking/training"),
        ("/search", "1 part", "/search/project/training"),
        ("/search/ranking/training/extra", "4 parts", "/search/ranking/training"),
        ("/search//training", "''", "/search/training/training"),
        ("/search/my ranking/training", "'my ranking'", "/search/my-ranking/training"),
        ("/search/$(touch x)/training", "'$(touch x)'", "/search/touch-x/training"),
    ],
)
def test_a_bad_experiment_name_is_answered_with_a_proposal_that_is_good(name, offending, proposal):
    with pytest.raises(BadInput) as caught:
        conventions.experiment_name(name)
    assert offending in caught.value.what
    assert "/{team}/{project}/{type}" in caught.value.why
    assert proposal in caught.value.do
    conventions.experiment_name(proposal)


@given(st.text(max_size=300))
def test_an_experiment_name_is_accepted_or_refused_in_one_line(name):
    refusal = None
    try:
        parts = conventions.experiment_name(name)
        assert name == f"/{parts.team}/{parts.project}/{parts.type}"
    except BadInput as error:
        refusal = error
    if refusal is not None:
        assert "\n" not in str(refusal)
        for proposal in re.findall(r"Did you mean '(.*)'\?", refusal.do):
            conventions.experiment_name(proposal)


@pytest.mark.parametrize("name", ["search-ranker", "r", "top-10-ranker", "catalog.schema.my_model", "a1-b2-ranker"])
def test_good_model_names(name):
    conventions.new_model_name(name)


@pytest.mark.parametrize(
    ("name", "offending", "proposal"),
    [
        ("SearchRanker", "'R'", "search-ranker"),
        ("search_ranker", "'_'", "search-ranker"),
        ("search-ranker-v2", "'v2'", "search-ranker"),
        ("search-ranker-2", "'2'", "search-ranker"),
        ("my-ranker2", "'ranker2'", "my"),
        ("xgboost-ranker", "'xgboost'", "ranker"),
        ("search-lambdamart", "'lambdamart'", "search"),
        ("search--ranker", "single hyphens", "search-ranker"),
        ("9-lives", "start with a letter", "lives"),
    ],
)
def test_a_bad_model_name_is_answered_with_a_proposal_that_is_good(name, offending, proposal):
    with pytest.raises(BadInput) as caught:
        conventions.new_model_name(name)
    assert offending in caught.value.what
    assert caught.value.why == conventions.MODEL_NAME_RULE
    assert f"'{proposal}'" in caught.value.do
    conventions.new_model_name(proposal)


@given(st.text(max_size=120))
def test_every_proposal_for_a_model_name_is_itself_well_formed(name):
    assert conventions.model_name_problem(conventions.proposed_model_name(name)) is None


@pytest.mark.parametrize("name", ["", "  ", "a/b", "a:b", "a\nb", "a\x00b", "x" * 256])
def test_what_mlflow_cannot_have_as_a_model_name_is_refused(name):
    with pytest.raises(BadInput, match="model-name"):
        conventions.readable_model_name(name)


def test_an_existing_model_with_an_odd_name_can_be_read():
    assert conventions.readable_model_name("Old Model_v2") == "Old Model_v2"


@pytest.mark.parametrize("alias", ["", "latest", "Latest", "v3", "a b", "a/b", "x" * 201, "a\n"])
def test_aliases_that_mlflow_refuses(alias):
    with pytest.raises(BadInput, match="to-alias"):
        conventions.alias_name(alias, "to-alias")


def test_aliases_of_other_champions():
    assert conventions.previous_alias("champion") == "previous-champion"
    assert conventions.rolled_back_alias("champion") == "rolled-back"
    assert conventions.previous_alias("champion-eu") == "previous-champion-eu"
    assert conventions.rolled_back_alias("champion-eu") == "rolled-back-champion-eu"


@pytest.mark.parametrize("alias", ["champion", "previous-champion", "rolled-back", "rolled-back-eu"])
def test_training_does_not_move_the_aliases_of_releases(alias):
    with pytest.raises(BadInput, match="not moved by training"):
        conventions.training_alias(alias)


def test_the_at_sign_of_a_metric_is_spelled_out():
    assert conventions.metric_name("val_ndcg@10") == "val_ndcg_at_10"
    assert conventions.metric_name(" val/ndcg_at_10 ") == "val/ndcg_at_10"
    with pytest.raises(BadInput, match="metric"):
        conventions.metric_name("ndcg$(id)")


@pytest.mark.parametrize(
    ("uri", "parts"),
    [
        ("models:/search-ranker@challenger", ("search-ranker", "challenger", None)),
        ("models:/search-ranker/7", ("search-ranker", None, "7")),
        ("models:/a.b.c@champion", ("a.b.c", "champion", None)),
    ],
)
def test_model_uris(uri, parts):
    assert conventions.model_uri(uri) == parts


@pytest.mark.parametrize(
    "uri",
    ["", "search-ranker", "models:/", "models:/x", "models:/x@", "models:/x/latest", "models:/x@a@b", "runs:/1/m"],
)
def test_uris_that_name_no_version(uri):
    with pytest.raises(BadInput):
        conventions.model_uri(uri)


@pytest.mark.parametrize("pair", ["novalue", "=x", "gate.state=done", "team=x", "mlflow.user=x", "a\nb=c", "k@=v"])
def test_tags_that_are_not_the_users_to_set(pair):
    with pytest.raises(BadInput, match="tag"):
        conventions.user_tag(pair)


def test_a_tags_value_may_be_anything():
    assert conventions.user_tag("ticket = a=b $(id)") == ("ticket", " a=b $(id)")


@pytest.mark.parametrize("number", ["0", "-1", "v2", "1.0", "", "latest", "9999999999", "\u0663"])
def test_what_is_no_version_number(number):
    with pytest.raises(BadInput, match="from-version"):
        conventions.version_number(number, "from-version")
