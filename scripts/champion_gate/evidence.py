"""Where the figures come from: judged queries, scored now or before, TREC rankings, or the metrics of the runs."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from champion_gate import artifact_digest, signals
from champion_gate.decision import BASELINE, CHAMPION, Basis, Evidence, Figures, Side, SliceKey
from champion_gate.errors import BadInput
from champion_gate.github import annotate, log
from champion_gate.policy import Policy
from champion_gate.registry import Registry, Run, Version
from champion_gate.release_log import ReleaseLog
from champion_gate.text import one_line

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from champion_gate.per_query import Dataset, PerQuery
    from champion_gate.rank_metric import RankMetric
    from champion_gate.rank_metrics import Judged
    from champion_gate.scoring import Options
    from champion_gate.tables import Chunk, JudgedTable
    from champion_gate.trec import Ranking

    Values = dict[str, NDArray[np.float64]]

CHALLENGER = "challenger"
_ENDED_BADLY = ("FAILED", "KILLED")
_PROGRESS_SECONDS = 10.0


@dataclass(frozen=True)
class Sources:
    """The evidence that was given; the first of `evaluation_data`, `scores` and `qrels` that is not empty counts."""

    evaluation_data: str = ""
    scores: str = ""
    qrels: str = ""
    query_column: str = "query_id"
    label_column: str = "label"
    document_column: str = ""
    score_columns: Mapping[str, str] = field(default_factory=dict)
    """By side, the column of a `scores` table that holds its scores."""
    rankings: Mapping[str, str] = field(default_factory=dict)
    """By side, where its TREC ranking is."""

    @property
    def location(self) -> str:
        """Where the judged queries are; empty if there are none."""
        return self.evaluation_data or self.scores or self.qrels


@dataclass(frozen=True)
class Gathered:
    """The evidence, and what it was made from."""

    evidence: Evidence
    dataset: Dataset | None = None
    per_query: PerQuery | None = None
    isolation: str | None = None
    artifacts_digest: str | None = None
    """SHA-256 of the challenger's files, if they were fetched."""
    scored_in: str = ""
    """The environment that the models were scored in, `model` or `current`; empty if the gate scored none itself."""


class Gatherer:
    """Gathers the evidence on the versions of one gate; files are kept in `folder` meanwhile.

    `versions` has the challenger and, where there are any, champion and baseline, in this order. `purpose` is the
    verdict's: a `release` uses no figures of a gate that ran in a pull request.
    """

    def __init__(
        self,
        registry: Registry,
        release_log: ReleaseLog,
        policy: Policy,
        versions: Mapping[str, Version],
        folder: Path,
        purpose: Literal["release", "check"],
    ) -> None:
        self.registry = registry
        self.release_log = release_log
        self.policy = policy
        self.versions = versions
        self.folder = folder
        self.purpose = purpose
        self.measured = _apart(versions)
        self.metrics = [metric for _, metric in policy.rank_metrics()]
        self.isolation: str | None = None
        self.artifacts_digest: str | None = None

    def gather(self, sources: Sources, scoring: Options | None) -> Gathered:
        """The evidence from the sources that are given; `scoring` says how models are run, where evaluation data is.

        Raises:
            BadInput: the data cannot be used; says which file, column and query.
            OutsideWorldFailed: the registry or a storage did not answer.
        """
        sides = {who: _side(self.registry, version, who) for who, version in self.versions.items()}
        if self.policy.slices and not (sources.evaluation_data or sources.scores):
            columns = ", ".join(one_line(each.column, 60) for each in self.policy.slices)
            annotate("warning", "Slices", f"Only tables of judged queries have slices: no look into {columns}.")
        if not sources.location:
            return Gathered(_evidence(sides, Basis.POINT_ESTIMATE))
        if not self.metrics:
            raise BadInput(
                "Judged queries are given, and no metric that could be computed from them.",
                "The policy, or the input 'metric', names run metrics only: "
                + ", ".join(m.key for m in self.policy.metrics)
                + ".",
                "Name a ranking metric such as ndcg@10, mrr@10, map@100 or recall@50, or give no judged queries.",
            )
        from champion_gate import tables  # noqa: F401  (for what it imports)

        signals.retake()
        scored_in = ""
        if sides[CHALLENGER].problem is not None:
            return Gathered(_evidence(sides, Basis.QUERIES))  # decided already; no need to score it
        if sources.evaluation_data:
            assert scoring is not None  # noqa: S101  (the command gives it with evaluation data)
            dataset, per_query, problems = self._scored_now(sources, scoring)
            scored_in = scoring.environment
        elif sources.scores:
            dataset, per_query = self._scored_before(sources)
            problems = {}
        else:
            dataset, per_query = self._ranked_before(sources)
            problems = {}
        if BASELINE in self.versions and BASELINE not in self.measured:  # it is the champion
            values = dict(per_query.values)
            values |= {BASELINE: values[CHAMPION]} if CHAMPION in values else {}
            per_query = replace(per_query, values=values)
            problems |= {BASELINE: problems[CHAMPION]} if CHAMPION in problems else {}
        sides = {who: replace(side, scoring_problem=problems.get(who)) for who, side in sides.items()}
        figures = {} if CHALLENGER in problems else self._figures(per_query)
        evidence = _evidence(sides, Basis.QUERIES, figures, frozenset(per_query.slices))
        return Gathered(evidence, dataset, per_query, self.isolation, self.artifacts_digest, scored_in)

    # -- judged queries that both models are scored on now

    def _scored_now(self, sources: Sources, scoring: Options) -> tuple[Dataset, PerQuery, dict[str, str]]:
        from champion_gate.dataset_digest import DatasetDigest
        from champion_gate.model_files import ModelFailed
        from champion_gate.per_query import PerQuery

        table = self._table(sources, sources.evaluation_data)
        # Read once before a model is: bad data is found at once, and the digest tells what need not be scored again.
        digest, keys = DatasetDigest(), _Keys()
        for chunk in table.chunks():
            digest.update(chunk)
            keys.add(chunk.query_ids, chunk.offsets, chunk.slices)
        dataset = _dataset("evaluation data", table.name, digest.hexdigest(), keys)
        values: dict[str, Values] = {}
        problems: dict[str, str] = {}
        for who, version in self.measured.items():
            known = None if who == CHALLENGER else self._scored_in_the_log(version, dataset, keys.query_ids, scoring)
            if known is not None:
                values[who] = known
                continue
            try:
                values[who] = self._score(table, sources, version, who, scoring)
            except ModelFailed as failed:
                problems[who] = str(failed)
                if who == CHALLENGER:
                    break  # decided; no need to ask the others
                log(str(failed))
        return dataset, PerQuery(keys.query_ids, keys.documents(), keys.slices, values), problems

    def _score(self, table: JudgedTable, sources: Sources, version: Version, who: str, scoring: Options) -> Values:
        from champion_gate.model_files import read_model
        from champion_gate.scoring import open_scorer

        label = f"{who} version {version.number}"
        log(f"Fetching {label} of {version.name} ...")
        files = self.registry.download_model(version, self.folder)
        if who == CHALLENGER:
            self.artifacts_digest = artifact_digest.of_folder(files)  # before its code runs
        model = read_model(files, label)
        wanted = _inputs(model.columns, table, sources, label)
        found = _Collected(self.metrics)
        done, told = 0, time.monotonic()
        with open_scorer(model, scoring) as scorer:
            self._shut_in(scorer.isolation)
            for chunk in table.with_features(wanted).chunks():
                scores = scorer.score(chunk.features, chunk.rows)
                found.add(_judged(chunk, table.name), scores, table.name)
                done += chunk.rows
                if time.monotonic() - told > _PROGRESS_SECONDS:
                    told = time.monotonic()
                    log(f"Scored {done:,} documents with {label} ...")
        log(f"Scored {done:,} documents with {label}.")
        return found.values()

    def _scored_in_the_log(
        self, version: Version, dataset: Dataset, query_ids: list[str], scoring: Options
    ) -> Values | None:
        """What an earlier gate found for this version on these queries by these metrics, if its table is there."""
        from champion_gate import earlier_gates

        sandbox = self.policy.isolation == "sandbox"
        asked = earlier_gates.Asked(dataset.digest, self.metrics, scoring.environment, self.purpose, sandbox)
        found = earlier_gates.figures(self.registry, self.release_log, version, asked, query_ids, self.folder)
        if found is not None:
            run, values = found
            self._shut_in(run.tags.get(earlier_gates.ISOLATION_TAG))
            log(f"Version {version.number} was scored on this data before, by gate run {run.id}: not again.")
            return values
        return None

    def _shut_in(self, isolation: str | None) -> None:
        """Note how a model was shut in, now or when it was scored before: the verdict names the weakest of all.

        `process` sorts before `sandbox (...)`.
        """
        self.isolation = min(filter(None, (self.isolation, isolation)))

    # -- tables and rankings that hold what the models said

    def _scored_before(self, sources: Sources) -> tuple[Dataset, PerQuery]:
        from champion_gate.dataset_digest import DatasetDigest
        from champion_gate.per_query import PerQuery

        columns = {who: sources.score_columns[who] for who in self.measured}
        table = self._table(sources, sources.scores, tuple(columns.values()))
        digest, keys = DatasetDigest(), _Keys()
        found = {who: _Collected(self.metrics) for who in columns}
        for chunk in table.chunks():
            digest.update(chunk)
            keys.add(chunk.query_ids, chunk.offsets, chunk.slices)
            judged = _judged(chunk, table.name)  # for all sides: the ideal ranking depends on the labels only
            for who, column in columns.items():
                found[who].add(judged, chunk.scores[column], table.name)
        dataset = _dataset("scores", table.name, digest.hexdigest(), keys)
        values = {who: collected.values() for who, collected in found.items()}
        return dataset, PerQuery(keys.query_ids, keys.documents(), keys.slices, values)

    def _table(self, sources: Sources, location: str, scores: tuple[str, ...] = ()) -> JudgedTable:
        from champion_gate.tables import Columns, JudgedTable

        path = self._fetched(location)
        columns = Columns(
            query=sources.query_column,
            label=sources.label_column,
            document=sources.document_column,
            slices=tuple(column.column for column in self.policy.slices),
            scores=scores,
            features=() if scores else None,
        )
        return JudgedTable.open(path, columns, name=one_line(location, 300), scratch=self.folder)

    def _fetched(self, location: str) -> Path:
        from champion_gate.locations import local_file

        run_id = self.versions[CHALLENGER].run_id
        return local_file(
            location,
            self.folder,
            fetch_run_artifact=self.registry.download_artifact,
            dataset_source=lambda name: self.registry.dataset_source(run_id, name) if run_id else None,
        )

    def _ranked_before(self, sources: Sources) -> tuple[Dataset, PerQuery]:
        from champion_gate import trec
        from champion_gate.dataset_digest import DatasetDigest
        from champion_gate.per_query import PerQuery

        for who in self.measured:
            if not sources.rankings.get(who):
                raise BadInput(
                    f"The input '{who}-ranking' is required with 'qrels', and it is empty or not given.",
                    f"There is a {who} to measure, and nothing says how it ranks.",
                    f"Set '{who}-ranking' under `with:` in the workflow, or --{who}-ranking on the command line.",
                )
        shown = one_line(sources.qrels, 300)
        qrels = trec.read_qrels(self._fetched(sources.qrels), name=shown)
        digest, keys = DatasetDigest(), _Keys()
        digest.update(qrels)
        keys.add(qrels.query_ids, qrels.offsets, qrels.slices)
        rankings, values = {}, {}
        for who in self.measured:
            name = one_line(sources.rankings[who], 300)
            ranking = rankings[who] = trec.read_ranking(self._fetched(sources.rankings[who]), qrels, name=name)
            found = _Collected(self.metrics)
            # Documents that are ranked and not judged are another set for each side.
            found.add(_judged(ranking, name), ranking.scores, name)
            values[who] = found.values()
        _no_reference_lacks(rankings, qrels.query_ids, sources.rankings)
        notes = tuple(trec.notes(rankings.items()))
        for note in notes:
            log(note)
        dataset = _dataset("qrels", shown, digest.hexdigest(), keys, notes)
        return dataset, PerQuery(keys.query_ids, keys.documents(), keys.slices, values)

    # -- from figures per query to sums

    def _figures(self, per_query: PerQuery) -> dict[str, Figures]:
        import numpy as np

        from champion_gate.statistics import Moments, PairMoments, by_group

        found = {}
        for metric in self.metrics:
            sides = {who: values[metric.name] for who, values in per_query.values.items()}
            challenger = sides.pop(CHALLENGER)
            judged = np.isfinite(challenger)
            empty = int((~judged).sum())
            if metric.empty_queries == "zero":
                challenger, sides = np.nan_to_num(challenger), {w: np.nan_to_num(v) for w, v in sides.items()}
                judged = np.ones(len(challenger), dtype=bool)
            pairs = {who: PairMoments.of(values[judged], challenger[judged]) for who, values in sides.items()}
            slices: dict[SliceKey, PairMoments] = {}
            for column, of_query in per_query.slices.items() if CHAMPION in sides else ():
                # Not an array of text, which is as wide for all as the longest value, and drops zeros at the end.
                codes = {name: code for code, name in enumerate(sorted(set(of_query)))}
                groups = np.fromiter((codes[name] for name in of_query), dtype=np.int64, count=len(of_query))
                sums = by_group(sides[CHAMPION][judged], challenger[judged], groups[judged], len(codes))
                slices |= {SliceKey(column, name): each for name, each in zip(codes, sums, strict=True)}
            found[metric.name] = Figures(Moments.of(challenger[judged]), pairs, slices, empty)
        return found


class _Keys:
    """Queries, how many documents each has, and their slices, collected chunk by chunk."""

    def __init__(self) -> None:
        self.query_ids: list[str] = []
        self.slices: dict[str, list[str]] = {}
        self._sizes: list[NDArray[np.int64]] = []

    def add(self, ids: Iterable[str], offsets: NDArray[np.int64], slices: Mapping[str, Sequence[str]]) -> None:
        import numpy as np

        self.query_ids += ids
        self._sizes.append(np.diff(offsets))
        for column, values in slices.items():
            self.slices.setdefault(column, []).extend(values)

    def documents(self) -> NDArray[np.int64]:
        import numpy as np

        return np.concatenate(self._sizes)

    @property
    def documents_total(self) -> int:
        return int(sum(sizes.sum() for sizes in self._sizes))


class _Collected:
    """One side's figures per query, collected chunk by chunk."""

    def __init__(self, metrics: Sequence[RankMetric]) -> None:
        self.metrics = metrics
        self._parts: list[list[NDArray[np.float64]]] = []

    def add(self, judged: Judged, scores: NDArray[np.float64], name: str) -> None:
        try:
            self._parts.append(judged.measure(self.metrics, scores))
        except ValueError as error:
            raise _unmeasurable(name, error) from error

    def values(self) -> Values:
        import numpy as np

        columns = zip(*self._parts, strict=True)
        return {metric.name: np.concatenate(parts) for metric, parts in zip(self.metrics, columns, strict=True)}


def _apart(versions: Mapping[str, Version]) -> dict[str, Version]:
    """The versions that have to be measured: a baseline that is the champion itself is not another one."""
    champion = versions.get(CHAMPION)
    same = {BASELINE} if champion is not None and versions.get(BASELINE) == champion else set()
    return {who: version for who, version in versions.items() if who not in same}


def _no_reference_lacks(rankings: Mapping[str, Ranking], query_ids: list[str], names: Mapping[str, str]) -> None:
    """See that champion and baseline have a ranking of each query that the challenger ranks.

    A query that no side ranks is a query that nobody answers, and counts 0 for all. One that only the reference lacks
    would make the challenger look better than it is.

    Raises:
        BadInput: one of them lacks some.
    """
    import numpy as np

    def ranked(ranking: Ranking) -> NDArray[np.bool_]:
        retrieved = np.concatenate([[0], np.cumsum(np.isfinite(ranking.scores))])
        return retrieved[ranking.offsets[1:]] > retrieved[ranking.offsets[:-1]]

    by_challenger = ranked(rankings[CHALLENGER])
    for who, ranking in rankings.items():
        lacking = np.flatnonzero(by_challenger & ~ranked(ranking))
        if len(lacking):
            raise BadInput(
                f"{one_line(names[who], 300)} lacks {len(lacking):,} of the {len(query_ids):,} judged queries that the "
                f"challenger ranks, first '{one_line(query_ids[int(lacking[0])], 80)}'.",
                f"A {who} that is not measured looks worse than it is.",
                f"Write the {who}'s ranking of every query of the qrels.",
            )


def _judged(rows: Chunk | Ranking, name: str) -> Judged:
    from champion_gate.rank_metrics import Judged

    try:
        return Judged(rows.labels, rows.offsets)
    except ValueError as error:
        raise _unmeasurable(name, error) from error


def _unmeasurable(name: str, error: ValueError) -> BadInput:
    return BadInput(
        f"The judged queries of {name} cannot be measured: {one_line(str(error), 300)}.",
        "",
        "Check the labels, and the metric's gain in the policy.",
    )


def _inputs(signature: tuple[str, ...] | None, table: JudgedTable, sources: Sources, label: str) -> tuple[str, ...]:
    """The columns that a model is given: those of its signature, else all features; never the labels.

    Raises:
        BadInput: the table has not all of them.
    """
    if signature is None:
        return table.feature_names
    if sources.label_column in signature:
        raise BadInput(
            f"The model of {label} asks for the label column '{one_line(sources.label_column, 80)}'.",
            "A model that sees the labels ranks perfectly, and a gate would learn nothing.",
            "Train it without them, or name another label-column.",
        )
    there = {*table.feature_names, *table.columns.slices, sources.query_column, sources.document_column}
    if missing := [name for name in signature if name not in there]:
        raise BadInput(
            f"{table.name} lacks columns that {label} asks for: {', '.join(one_line(n, 60) for n in missing[:10])}"
            + (f" and {len(missing) - 10} more." if len(missing) > 10 else "."),
            "It has: " + ", ".join(one_line(name, 60) for name in table.feature_names[:20]) + ".",
            "Evaluate on data with all features that the model was trained on.",
        )
    return signature


def _dataset(kind: str, source: str, digest: str, keys: _Keys, notes: tuple[str, ...] = ()) -> Dataset:
    from champion_gate.per_query import Dataset

    name = source.rstrip("/").rpartition("/")[2]
    log(f"{name}: {len(keys.query_ids):,} queries, {keys.documents_total:,} documents, {digest[:19]}.")
    return Dataset(kind, name, source, digest, len(keys.query_ids), keys.documents_total, notes)


def _evidence(
    sides: Mapping[str, Side],
    basis: Basis,
    figures: Mapping[str, Figures] | None = None,
    slice_columns: frozenset[str] = frozenset(),
) -> Evidence:
    return Evidence(
        sides[CHALLENGER], sides.get(CHAMPION), basis, sides.get(BASELINE), dict(figures or {}), slice_columns
    )


def _side(registry: Registry, version: Version, who: str) -> Side:
    run = registry.find_run(version.run_id) if version.run_id else None
    if run is None:
        missing = f"run {version.run_id} of {who} version {version.number} is not there any more"
        none = f"{who} version {version.number} was registered without a run"
        return Side(version.number, metrics_problem=f"There are no metrics: {missing if version.run_id else none}.")
    return Side(
        version.number,
        dict(run.metrics),
        run.tags.get("data.version") or None,
        run.tags.get("evaluation.data.version") or None,
        _problem(version, run, who),
    )


def _problem(version: Version, run: Run, who: str) -> str | None:
    if who == CHALLENGER and run.status in _ENDED_BADLY:
        return f"The run of {who} version {version.number} ended {run.status}: it may be half trained."
    if who == CHALLENGER and run.deleted:
        return f"The run of {who} version {version.number} was deleted: its model goes with it at the next clean-up."
    if who == CHALLENGER and version.status == "FAILED_REGISTRATION":
        return f"Version {version.number} failed to register."
    return None
