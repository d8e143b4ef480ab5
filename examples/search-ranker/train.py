"""Trains a LambdaRank model on judged search queries and logs it to MLflow.

    python train.py --rounds 100

Knows nothing of releases: it opens a run, logs what it used, what it reached, and the model. Alone it opens a
run of its own; under train-and-register MLflow finds MLFLOW_RUN_ID in the environment and fills that run.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import mlflow
import numpy as np
import pandas as pd
import xgboost as xgb
from data import FEATURES, SLICES, Split, load_or_generate
from mlflow.models import infer_signature
from sklearn.metrics import ndcg_score

if TYPE_CHECKING:
    from numpy.typing import NDArray

METRIC = "val_ndcg_at_10"
# `xgboost` brings 200 MB for graphics cards, except for Macs, which have it under this name only.
XGBOOST = "xgboost" if sys.platform == "darwin" else "xgboost-cpu"

# It warns that the environment has no pip. Not every environment has, and the model does not need it.
logging.getLogger("mlflow.utils.environment").setLevel(logging.ERROR)


def ndcg_per_query(split: Split, scores: NDArray[np.floating], k: int = 10) -> NDArray[np.float64]:
    """NDCG@k of each query, with the gain 2^grade - 1; NaN where no document is relevant.

    Tied scores share the mean gain of the tie, so a model that gives every document the same score earns
    nothing from the order of the input. A query without a relevant document says nothing about a ranker: leave
    it out of the mean, as `np.nanmean` does.

    Raises:
        ValueError: a score is not a finite number.
    """
    if not np.isfinite(scores).all():
        raise ValueError("The model gave scores that are not finite numbers.")
    values = np.full(len(split.sizes), np.nan)
    ends = np.cumsum(split.sizes)
    for query, (start, end) in enumerate(zip(ends - split.sizes, ends, strict=True)):
        gains = 2.0 ** split.labels[start:end] - 1
        if gains.any():
            values[query] = ndcg_score([gains], [scores[start:end]], k=k)
    return values


def slice_means(split: Split, values: NDArray[np.float64]) -> dict[str, float]:
    """The metric for each value of each slice, named like `val_ndcg_at_10/device/mobile`."""
    means = {}
    for column, name in enumerate(SLICES):
        for value in np.unique(split.slices[:, column]):
            chosen = values[split.slices[:, column] == value]
            if not np.isnan(chosen).all():
                means[f"{METRIC}/{name}/{value}"] = float(np.nanmean(chosen))
    return means


def training_matrix(split: Split, features: list[str], broken: list[str], seed: int) -> xgb.DMatrix:
    """What XGBoost trains on: one group of rows per query."""
    rng = np.random.default_rng(seed)
    columns = split.columns(features)
    for name in broken:
        # What a join on the wrong key leaves behind: values that look right, on the wrong rows.
        column = features.index(name)
        columns[:, column] = rng.permutation(columns[:, column])
    groups = np.repeat(np.arange(len(split.sizes)), split.sizes)
    return xgb.DMatrix(columns, split.labels, qid=groups, feature_names=features)


class Progress(xgb.callback.TrainingCallback):
    """Prints four lines in the course of a training."""

    def __init__(self, rounds: int, split: Split, matrix: xgb.DMatrix) -> None:
        self.rounds = rounds
        self.split = split
        self.matrix = matrix

    def after_iteration(self, model: xgb.Booster, epoch: int, evals_log: object) -> bool:  # noqa: ARG002
        """XGBoost calls this after each round; True would stop it."""
        done = epoch + 1
        if done % max(1, self.rounds // 4) == 0 or done == self.rounds:
            reached = np.nanmean(ndcg_per_query(self.split, model.predict(self.matrix)))
            print(f"round {done:>4}/{self.rounds}   {METRIC} {reached:.4f}", flush=True)
        return False


def feature(name: str) -> str:
    """`name`, if it is a feature."""
    if name not in FEATURES:
        raise argparse.ArgumentTypeError(f"there is no feature '{name}'; there are {', '.join(FEATURES)}")
    return name


def feature_list(text: str) -> list[str]:
    """The features in a comma-separated list."""
    return [feature(name.strip()) for name in text.split(",")]


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """The options; `features` is the list of those to train on."""
    parser = argparse.ArgumentParser(description="Train a search ranker and log it to MLflow.")
    option = parser.add_argument
    broken = "train on it with its values on the wrong rows, to see what a broken pipeline costs"
    option("--data", type=Path, metavar="DIR", help="what data.py wrote; without it, made on the spot")
    option("--rounds", type=int, default=100, help="how many trees (default: %(default)s)")
    option("--learning-rate", type=float, default=0.1, help="(default: %(default)s)")
    option("--max-depth", type=int, default=5, help="(default: %(default)s)")
    option("--features", type=feature_list, default=list(FEATURES), metavar="A,B,...", help="only these")
    option("--drop-feature", type=feature, action="append", default=[], metavar="NAME", help="not this one")
    option("--break-feature", type=feature, action="append", default=[], metavar="NAME", help=broken)
    option("--seed", type=int, default=1, help="of the training, not of the data (default: %(default)s)")
    options = parser.parse_args(argv)
    options.features = [name for name in options.features if name not in options.drop_feature]
    if not options.features:
        parser.error("no feature is left to train on")
    if unused := [name for name in options.break_feature if name not in options.features]:
        parser.error(f"--break-feature {unused[0]}: the model is not trained on it")
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")
    return options


def main() -> None:
    """Train, evaluate, log."""
    options = arguments()
    train, validation = load_or_generate(options.data)
    for name, split in (("train", train), ("validation", validation)):
        print(f"{name:<10}   {len(split.sizes)} queries, {len(split.labels)} documents, {split.version}")
    parameters = {
        "objective": "rank:ndcg",
        "lambdarank_num_pair_per_sample": 10,
        "learning_rate": options.learning_rate,
        "max_depth": options.max_depth,
        "subsample": 0.8,
        "seed": options.seed,
        # So little data gains nothing from a second thread, and waits for it where the machine is busy.
        "nthread": 1,
    }
    table = pd.DataFrame(validation.columns(options.features), columns=options.features)
    matrix = xgb.DMatrix(table)

    with mlflow.start_run():
        mlflow.log_params(
            {
                **parameters,
                "rounds": options.rounds,
                "features": ",".join(options.features),
                "broken_features": ",".join(options.break_feature) or "none",
                "train_data": train.version,
                "validation_data": validation.version,
            }
        )
        started = time.perf_counter()
        model = xgb.train(
            parameters,
            training_matrix(train, options.features, options.break_feature, options.seed),
            num_boost_round=options.rounds,
            callbacks=[Progress(options.rounds, validation, matrix)],
        )
        seconds = time.perf_counter() - started
        values = ndcg_per_query(validation, model.predict(matrix))
        mlflow.log_metrics(
            {
                METRIC: float(np.nanmean(values)),
                "val_queries": int(np.isfinite(values).sum()),
                "val_queries_without_relevant": int(np.isnan(values).sum()),
                "train_seconds": seconds,
                **slice_means(validation, values),
            }
        )
        example = table.head(5)
        mlflow.xgboost.log_model(
            model,
            name="model",
            signature=infer_signature(example, model.predict(xgb.DMatrix(example))),
            input_example=example,
            # Named by hand: MLflow would ask for `xgboost` everywhere.
            pip_requirements=[
                f"mlflow=={mlflow.__version__}",
                f"{XGBOOST}=={xgb.__version__}",
                f"numpy=={np.__version__}",
                f"pandas=={pd.__version__}",
            ],
        )


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
