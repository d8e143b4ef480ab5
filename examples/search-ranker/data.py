"""Judged search queries of a shop, generated: the same seed gives the same bytes.

Every query has 5 to 40 documents (products), each with a grade from 0 (bad) to 4 (perfect). The grade depends
on the features the way it does in a real shop: not linearly, not on each alone, and never quite.

    python data.py --output data     writes data/train.npz, data/validation.npz and data/evaluation.parquet

The first two are for training. The third is what the gate judges by: other queries of the same shop, which no training
sees, as a table with one row per document.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd

SEED = 20
TRAIN_QUERIES = 1500
VALIDATION_QUERIES = 600
EVALUATION_QUERIES = 800

FEATURES = (
    "bm25_title",
    "bm25_body",
    "exact_match",
    "ctr",
    "mean_position",
    "age_days",
    "price",
    "price_ratio",
    "popularity",
    "rating",
    "in_stock",
    "query_terms",
    "query_impressions",
)
SLICES = ("popularity", "device", "locale")

LOCALES = ("de-DE", "en-GB", "fr-FR", "pl-PL")
DEVICES = ("desktop", "mobile", "tablet")
# Shares of all searches: the few queries that make up the first half, the next 30 %, and the long tail.
POPULARITY = ("head", "torso", "tail")
_POPULARITY_SHARES = (0.5, 0.8)
_KNOWN_QUERIES = 300_000
# Grades 1 to 4 begin here. Absolute, not per query: some queries have no good document, as in life.
_GRADE_THRESHOLDS = (0.4, 1.0, 1.6, 2.2)

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Split:
    """Judged queries: rows are documents, those of one query next to each other.

    Attributes:
        features: one row per document, one column per name in `FEATURES`.
        labels: the grade of each document, 0 to 4.
        query_ids: one per query, in the order of the rows.
        sizes: how many documents each query has.
        impressions: how often each query was searched for.
        slices: for each query, its value of each name in `SLICES`.
    """

    features: NDArray[np.float32]
    labels: NDArray[np.int8]
    query_ids: NDArray[np.str_]
    sizes: NDArray[np.int32]
    impressions: NDArray[np.int64]
    slices: NDArray[np.str_]

    @property
    def version(self) -> str:
        """A digest of all values, which names this data wherever it was made."""
        digest = hashlib.sha256(repr((FEATURES, SLICES)).encode())
        for field in fields(self):
            array: NDArray[np.generic] = getattr(self, field.name)
            little = array.astype(array.dtype.newbyteorder("<"))
            digest.update(f"{field.name} {little.dtype.str} {little.shape}\n".encode())
            digest.update(np.ascontiguousarray(little).tobytes())
        return f"sha256-{digest.hexdigest()[:16]}"

    def columns(self, names: list[str]) -> NDArray[np.float32]:
        """The named features, in that order."""
        return self.features[:, [FEATURES.index(name) for name in names]]

    def table(self) -> pd.DataFrame:
        """One row per document: `query_id`, `document_id`, the slices, `label`, and the features.

        How popular a query is stands in `query_popularity`, since `popularity` is that of a document.
        """
        import pandas as pd

        of = np.repeat(np.arange(len(self.sizes)), self.sizes)
        number = np.arange(len(of)) - np.repeat(np.cumsum(self.sizes) - self.sizes, self.sizes)
        queries = self.query_ids[of]
        columns = {
            "query_id": queries,
            "document_id": [f"{query}-{each:02d}" for query, each in zip(queries, number, strict=True)],
            **{
                f"query_{name}" if name in FEATURES else name: self.slices[of, column]
                for column, name in enumerate(SLICES)
            },
            "label": self.labels,
        }
        return pd.DataFrame(columns).join(pd.DataFrame(self.features, columns=list(FEATURES)))

    def save(self, path: Path) -> None:
        """Write it as one compressed NumPy file."""
        np.savez_compressed(path, **{field.name: getattr(self, field.name) for field in fields(self)})

    @classmethod
    def load(cls, path: Path) -> Split:
        """Read what `save` wrote."""
        with np.load(path, allow_pickle=False) as arrays:
            return cls(**{field.name: arrays[field.name] for field in fields(cls)})


def generate(
    seed: int = SEED, train_queries: int = TRAIN_QUERIES, validation_queries: int = VALIDATION_QUERIES
) -> tuple[Split, Split]:
    """A training and a validation split: no query is in both, and both have the same mix of queries."""
    rng = np.random.default_rng(seed)
    total = train_queries + validation_queries
    everything = _judged_queries(rng, total)
    in_validation = np.zeros(total, dtype=bool)
    in_validation[rng.permutation(total)[:validation_queries]] = True
    return _select(everything, ~in_validation), _select(everything, in_validation)


def evaluation(seed: int = SEED, queries: int = EVALUATION_QUERIES) -> Split:
    """Queries to evaluate on, in neither of the other splits."""
    split = _judged_queries(np.random.default_rng([seed, 1]), queries)
    return replace(split, query_ids=np.array([f"e{number:05d}" for number in range(queries)]))


def load_or_generate(folder: Path | None, seed: int = SEED) -> tuple[Split, Split]:
    """The splits that were written to `folder`; without a folder, made on the spot."""
    if folder is None:
        return generate(seed)
    return Split.load(folder / "train.npz"), Split.load(folder / "validation.npz")


def _judged_queries(rng: np.random.Generator, count: int) -> Split:
    # How often a query is searched follows Zipf's law. The judges got as many of the few queries that make up
    # half of all searches as of those that make up the next 30 %, and as of the long tail.
    searches = 3e6 / (np.arange(_KNOWN_QUERIES) + 3.0) ** 0.95
    edges = np.searchsorted(np.cumsum(searches) / searches.sum(), (0.0, *_POPULARITY_SHARES, 1.0))
    band = np.sort(rng.permutation(np.arange(count) % len(POPULARITY)))
    ranks = np.concatenate(
        [
            first + rng.permutation(end - first)[: np.count_nonzero(band == number)]
            for number, (first, end) in enumerate(itertools.pairwise(edges))
        ]
    )
    popularity = np.array(POPULARITY)[band]
    impressions = np.maximum(1, np.rint(searches[ranks])).astype(np.int64)
    mobile = np.where(popularity == "head", 0.65, 0.5)
    draw = rng.random(count)
    device = np.where(draw < mobile, "mobile", np.where(draw < 0.93, "desktop", "tablet"))
    locale = np.array(LOCALES)[np.searchsorted((0.4, 0.7, 0.88), rng.random(count))]

    # Tail queries are longer, name products more exactly, and find fewer documents.
    tail = popularity == "tail"
    terms = 1 + np.floor(-np.log(1 - rng.random(count)) * np.where(tail, 2.2, 1.1)).clip(0, 8)
    seasonal = rng.random(count) < 0.3
    frugal = rng.random(count) < np.where(device == "mobile", 0.5, 0.3)
    sizes = np.floor(5 + 36 * rng.random(count) ** np.where(tail, 1.3, 0.7)).astype(np.int32).clip(5, 40)

    of = np.repeat(np.arange(count), sizes)
    rows = len(of)

    # What the judge sees and the ranker does not: how well the document fits, and how good the product is.
    fit = rng.standard_normal(rows) + 0.25 * rng.standard_normal(count)[of]
    quality = rng.standard_normal(rows)
    price_ratio = np.exp(0.5 * rng.standard_normal(rows))
    age_days = np.floor(-np.log(1 - rng.random(rows)) * 240)
    in_stock = rng.random(rows) < 0.92

    # What the ranker sees. Text scores grow with the number of terms, so they compare only within a query.
    scale = 2.0 * np.sqrt(terms)[of] * np.exp(0.2 * rng.standard_normal(count))[of]
    bm25_title = scale * _softplus(0.9 * fit + 0.75 * rng.standard_normal(rows) + 0.4)
    bm25_body = scale * _softplus(0.6 * fit + 0.95 * rng.standard_normal(rows) + 1.0)
    exact_match = rng.random(rows) < _sigmoid(1.1 * fit - 1.6 - 0.35 * (terms[of] - 2))
    popular = np.exp(1.1 * (0.6 * quality + 0.8 * rng.standard_normal(rows)) + 3)
    rating = np.round((3.7 + 0.5 * quality + 0.45 * rng.standard_normal(rows)).clip(1, 5) * 2) / 2
    price = price_ratio * np.exp(3.2 + 0.9 * rng.standard_normal(count))[of]

    # The grade. Fit saturates; an exact match helps only what fits; price hurts both ways, and the dear more
    # where people are frugal; freshness counts only for seasonal queries; what is sold out is at best a 1.
    dear = np.log(price_ratio)
    utility = (
        1.5 * np.tanh(0.9 * fit)
        + 0.3 * exact_match * (fit > 0)
        + 0.45 * quality * (fit > -0.5)
        - (0.5 + 0.9 * frugal[of]) * np.maximum(dear, 0) ** 2
        - 0.7 * np.minimum(dear + 0.5, 0) ** 2
        + 1.3 * seasonal[of] * (np.exp(-age_days / 45) - 0.25)
        + 0.35 * rng.standard_normal(rows)
        + 0.4
    )
    labels = np.searchsorted(_GRADE_THRESHOLDS, utility)
    labels = np.where(in_stock, labels, np.minimum(labels, 1)).astype(np.int8)

    # Clicks: an old ranker showed the documents, and people look at what is high up, whatever it is. They
    # judge by title, price and picture, which is not all. Rare queries are shown seldom: mostly noise.
    shown_by = 0.5 * bm25_title / scale + 0.3 * np.log(popular) + 0.6 * rng.standard_normal(rows)
    position = _positions(of, shown_by)
    mean_position = np.maximum(1, position + 1.5 * rng.standard_normal(rows))
    appeal = 0.9 * fit + 0.3 * quality - 0.6 * np.maximum(dear, 0) + 0.45 * rng.standard_normal(rows)
    seen = np.maximum(1.0, impressions[of] * position**-0.5)
    expected = seen * 0.5 * _sigmoid(1.2 * appeal - 2.2) * position**-0.7
    clicks = np.clip(np.rint(expected + np.sqrt(expected) * rng.standard_normal(rows)), 0, seen)
    ctr = (clicks + 0.6) / (seen + 10)

    columns = {
        "bm25_title": bm25_title,
        "bm25_body": bm25_body,
        "exact_match": exact_match,
        "ctr": ctr,
        "mean_position": mean_position,
        "age_days": age_days,
        "price": price,
        "price_ratio": price_ratio,
        "popularity": popular,
        "rating": rating,
        "in_stock": in_stock,
        "query_terms": terms[of],
        "query_impressions": impressions[of],
    }
    # Rounded, so that the last bit of some processor's exp() does not make it other data.
    features = np.round(np.column_stack([columns[name].astype(np.float64) for name in FEATURES]), 4)
    return Split(
        features=features.astype(np.float32),
        labels=labels,
        query_ids=np.array([f"q{number:05d}" for number in range(count)]),
        sizes=sizes,
        impressions=impressions,
        slices=np.column_stack([popularity, device, locale]),
    )


def _positions(of: Ints, score: Floats) -> Floats:
    """Where each document stands in its query, from 1, when sorted by descending score."""
    order = np.lexsort((-score, of))
    starts = np.searchsorted(of, of)
    position = np.empty(len(of))
    position[order] = np.arange(len(of)) - starts + 1
    return position


def _select(split: Split, chosen: NDArray[np.bool_]) -> Split:
    rows = np.repeat(chosen, split.sizes)
    return Split(
        features=split.features[rows],
        labels=split.labels[rows],
        query_ids=split.query_ids[chosen],
        sizes=split.sizes[chosen],
        impressions=split.impressions[chosen],
        slices=split.slices[chosen],
    )


def _sigmoid(x: Floats) -> Floats:
    return 1 / (1 + np.exp(-x))


def _softplus(x: Floats) -> Floats:
    return np.log1p(np.exp(x))


def main() -> None:
    """Write the splits, and print the versions of the first two as an action's outputs want them."""
    parser = argparse.ArgumentParser(description="Generate judged search queries.")
    parser.add_argument("--output", type=Path, metavar="DIR", help="write the files there")
    parser.add_argument("--seed", type=int, default=SEED, help="(default: %(default)s)")
    options = parser.parse_args()
    train, validation = generate(options.seed)
    if options.output:
        options.output.mkdir(parents=True, exist_ok=True)
        train.save(options.output / "train.npz")
        validation.save(options.output / "validation.npz")
        evaluation(options.seed).table().to_parquet(options.output / "evaluation.parquet", index=False)
    print(f"data-version={train.version}")
    print(f"evaluation-data-version={validation.version}")


if __name__ == "__main__":
    main()
