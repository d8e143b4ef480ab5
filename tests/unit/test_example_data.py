"""The example's judged queries: the same everywhere, honest splits, and shaped like a shop's."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

pytest.importorskip("numpy", reason="the example's dependencies are not installed")

import numpy as np

EXAMPLE = Path(__file__).parents[2] / "examples" / "search-ranker"
# Runs and models name these in their tags: whoever changes the generator makes other data, and says so here.
TRAIN_VERSION = "sha256-2a747a7cd76313d7"
VALIDATION_VERSION = "sha256-026238c06144aded"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"search_ranker_{name}", EXAMPLE / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


data = load("data")


@pytest.fixture(scope="module")
def splits():
    return data.generate()


def groups(split, values):
    return np.split(values, np.cumsum(split.sizes)[:-1])


def test_the_same_seed_gives_the_same_bytes_on_every_machine(splits):
    train, validation = splits
    assert (train.version, validation.version) == (TRAIN_VERSION, VALIDATION_VERSION)


def test_another_seed_is_another_data_set(splits):
    train, validation = data.generate(seed=data.SEED + 1)
    assert train.version != splits[0].version
    assert validation.version != splits[1].version


def test_the_version_changes_with_one_label(splits):
    validation = splits[1]
    labels = validation.labels.copy()
    labels[17] = (labels[17] + 1) % 5
    changed = data.Split(**{**vars(validation), "labels": labels})
    assert changed.version != validation.version


def test_no_query_is_in_both_splits(splits):
    train, validation = splits
    assert not set(train.query_ids) & set(validation.query_ids)
    assert len(train.query_ids) == data.TRAIN_QUERIES
    assert len(validation.query_ids) == data.VALIDATION_QUERIES


def test_what_was_saved_is_what_is_loaded(splits, tmp_path):
    for split in splits:
        split.save(tmp_path / "split.npz")
        assert data.Split.load(tmp_path / "split.npz").version == split.version


def test_the_evaluation_queries_are_others_and_a_table_says_all_of_them(splits):
    split = data.evaluation()
    table = split.table()
    assert len(table) == len(split.labels)
    assert list(table.query_id.unique()) == list(split.query_ids)
    assert not set(split.query_ids) & {*splits[0].query_ids, *splits[1].query_ids}
    assert not table.duplicated(["query_id", "document_id"]).any()
    assert (table.groupby("query_id")[["device", "locale", "query_popularity"]].nunique() == 1).all(axis=None)
    assert set(data.FEATURES) < set(table.columns)
    # Each slice that the policy requires has the queries that it takes.
    assert table.groupby("device").query_id.nunique()[["mobile", "desktop"]].min() >= 200


def test_the_command_writes_both_splits_and_prints_their_versions_as_outputs(tmp_path):
    printed = subprocess.run(
        [sys.executable, EXAMPLE / "data.py", "--output", tmp_path / "new" / "data"],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    ).stdout
    assert printed.splitlines() == [
        f"data-version={TRAIN_VERSION}",
        f"evaluation-data-version={VALIDATION_VERSION}",
    ]
    train, validation = data.load_or_generate(tmp_path / "new" / "data")
    assert (train.version, validation.version) == (TRAIN_VERSION, VALIDATION_VERSION)


def test_rows_labels_and_sizes_fit_together(splits):
    for split in splits:
        assert split.features.shape == (split.sizes.sum(), len(data.FEATURES))
        assert len(split.labels) == split.sizes.sum()
        assert split.slices.shape == (len(split.sizes), len(data.SLICES))
        assert np.isfinite(split.features).all()
        assert split.sizes.min() == 5
        assert split.sizes.max() == 40
        assert set(np.unique(split.labels)) == {0, 1, 2, 3, 4}


def test_good_documents_are_rarer_than_bad_ones_and_some_queries_have_none(splits):
    for split in splits:
        counts = np.bincount(split.labels)
        assert (np.diff(counts) < 0).all()
        hopeless = sum(group.max() == 0 for group in groups(split, split.labels))
        assert 0 < hopeless < 0.05 * len(split.sizes)


def test_few_queries_make_up_most_searches(splits):
    for split in splits:
        busiest = np.sort(split.impressions)[::-1][: len(split.impressions) // 10]
        assert busiest.sum() > 0.5 * split.impressions.sum()
        popularity = split.slices[:, data.SLICES.index("popularity")]
        assert split.impressions[popularity == "head"].min() >= split.impressions[popularity == "torso"].max()
        assert split.impressions[popularity == "torso"].min() >= split.impressions[popularity == "tail"].max()


def test_every_slice_value_is_in_both_splits(splits):
    for column, values in enumerate((data.POPULARITY, data.DEVICES, data.LOCALES)):
        for split in splits:
            assert set(split.slices[:, column]) == set(values)


def test_click_rates_say_more_about_popular_queries_than_about_rare_ones(splits):
    train, _ = splits
    popularity = np.repeat(train.slices[:, data.SLICES.index("popularity")], train.sizes)
    clicks = train.columns(["ctr"])[:, 0]

    def correlation(value):
        chosen = popularity == value
        return np.corrcoef(clicks[chosen], train.labels[chosen])[0, 1]

    assert correlation("head") > correlation("torso") > correlation("tail") > 0


def test_click_rates_fall_with_the_position_whatever_the_grade(splits):
    train, _ = splits
    popular = np.repeat(train.slices[:, data.SLICES.index("popularity")] == "head", train.sizes)
    position, clicks = train.columns(["mean_position", "ctr"]).T
    for grade in range(4):
        high = popular & (train.labels == grade) & (position < 3)
        low = popular & (train.labels == grade) & (position > 12)
        assert clicks[high].mean() > 2 * clicks[low].mean()


def test_what_is_sold_out_is_never_a_good_result(splits):
    for split in splits:
        assert split.labels[split.columns(["in_stock"])[:, 0] == 0].max() == 1


def test_columns_come_in_the_order_asked_for(splits):
    _, validation = splits
    swapped = validation.columns(["ctr", "bm25_title"])
    assert (swapped[:, 0] == validation.features[:, data.FEATURES.index("ctr")]).all()
    assert (swapped[:, 1] == validation.features[:, data.FEATURES.index("bm25_title")]).all()


@pytest.fixture(scope="module")
def train():
    pytest.importorskip("mlflow", reason="the example's dependencies are not installed")
    pytest.importorskip("xgboost", reason="the example's dependencies are not installed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "data", data)
        yield load("train")


def judged(*queries):
    """A split of these lists of grades."""
    labels = np.array([grade for grades in queries for grade in grades], dtype=np.int8)
    count = len(queries)
    return data.Split(
        features=np.zeros((len(labels), len(data.FEATURES)), dtype=np.float32),
        labels=labels,
        query_ids=np.array([f"q{number}" for number in range(count)]),
        sizes=np.array([len(grades) for grades in queries], dtype=np.int32),
        impressions=np.ones(count, dtype=np.int64),
        slices=np.full((count, len(data.SLICES)), "all"),
    )


def test_ndcg_is_the_textbook_number(train):
    split = judged([3, 2, 3, 0, 1, 2], [1, 0])
    values = train.ndcg_per_query(split, np.array([6, 5, 4, 3, 2, 1, 1, 2], dtype=np.float32))
    assert values == pytest.approx([0.948811, 1 / np.log2(3)], abs=1e-6)


def test_ndcg_looks_at_ten_documents(train):
    grades = [0] * 10 + [4]
    assert train.ndcg_per_query(judged(grades), -np.arange(11.0))[0] == 0


def test_equal_scores_earn_nothing_from_the_order_of_the_input(train):
    best_first, worst_first = judged([4, 0, 0, 0]), judged([0, 0, 0, 4])
    flat = np.zeros(4)
    shared = np.mean(1 / np.log2(np.arange(2, 6)))
    assert train.ndcg_per_query(best_first, flat)[0] == pytest.approx(shared)
    assert train.ndcg_per_query(worst_first, flat)[0] == pytest.approx(shared)


def test_a_query_without_a_relevant_document_is_left_out(train):
    values = train.ndcg_per_query(judged([0, 0], [0, 1]), np.array([1.0, 2.0, 1.0, 2.0]))
    assert np.isnan(values[0])
    assert np.nanmean(values) == 1


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_scores_that_are_no_numbers_are_refused(train, bad):
    with pytest.raises(ValueError, match="finite"):
        train.ndcg_per_query(judged([0, 1]), np.array([1.0, bad]))


def test_features_are_chosen_dropped_and_broken_by_name(train):
    options = train.arguments(["--features", "ctr, price,rating", "--drop-feature", "price"])
    assert options.features == ["ctr", "rating"]
    for wrong in (
        ["--features", "no-such"],
        ["--features", "ctr", "--drop-feature", "ctr"],
        ["--break-feature", "ctr", "--drop-feature", "ctr"],
        ["--rounds", "0"],
    ):
        with pytest.raises(SystemExit):
            train.arguments(wrong)


def test_a_broken_feature_keeps_its_values_and_loses_their_places(train, splits):
    split = splits[1]
    whole = train.training_matrix(split, ["price", "ctr"], [], 1).get_data().toarray()
    broken = train.training_matrix(split, ["price", "ctr"], ["ctr"], 1).get_data().toarray()
    assert (broken[:, 0] == whole[:, 0]).all()
    assert sorted(broken[:, 1]) == sorted(whole[:, 1])
    assert abs(np.corrcoef(broken[:, 1], whole[:, 1])[0, 1]) < 0.05
    assert (split.columns(["ctr"])[:, 0] == whole[:, 1]).all(), "the data itself must stay as it is"
