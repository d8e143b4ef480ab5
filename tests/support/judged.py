"""Small tables of judged queries, and models that score them, for tests of the gate."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import polars as pl

SIDES = {"challenger": "challenger_score", "champion": "champion_score", "baseline": "baseline_score"}


def queries(count: int = 300, documents: int = 12, seed: int = 1) -> pl.DataFrame:
    """Judged queries with two features, of which `good` tells more of the label than `poor`, and slices."""
    import polars as pl

    rng = np.random.default_rng(seed)
    rows = count * documents
    fit = rng.standard_normal(rows)
    of = np.repeat(np.arange(count), documents)
    return pl.DataFrame(
        {
            "query_id": [f"q{i:05d}" for i in of],
            "document_id": [f"d{i:02d}" for i in np.tile(np.arange(documents), count)],
            "device": np.array(["mobile", "desktop"])[of % 2],
            "locale": np.array(["de", "en", "fr"])[of % 3],
            "label": np.searchsorted((0.4, 1.0, 1.6), fit),
            "good": np.round(fit + 0.3 * rng.standard_normal(rows), 4),
            "poor": np.round(fit + 1.5 * rng.standard_normal(rows), 4),
        }
    )


def scored(frame: pl.DataFrame, **columns: Any) -> pl.DataFrame:
    """The table with score columns, `challenger=` and so on: expressions or arrays."""
    return frame.with_columns(**{SIDES[side]: values for side, values in columns.items()})


def noisy(frame: pl.DataFrame, amount: float, seed: int = 2) -> Any:
    """The feature `good`, less good by some noise."""
    return frame["good"].to_numpy() + amount * np.random.default_rng(seed).standard_normal(frame.height)


def log_ranker(client: Any, uri: str, model: str, feature: str, folder: Path, *, sign: float = 1.0) -> str:
    """Train nothing: log and register a real pyfunc model that scores by one feature; returns the version's number."""
    import mlflow
    import pandas as pd
    from mlflow.models import infer_signature

    code = folder / f"ranker_{feature}_{abs(hash((feature, sign)))}.py"
    code.write_text(
        "import mlflow\n\n\n"
        "class Ranker(mlflow.pyfunc.PythonModel):\n"
        "    def predict(self, context, model_input, params=None):\n"
        f"        return ({sign!r} * model_input[{feature!r}]).to_numpy()\n\n\n"
        "mlflow.models.set_model(Ranker())\n",
        encoding="utf-8",
    )
    example = pd.DataFrame({"good": [0.1, 0.2], "poor": [0.3, 0.4]})
    before = os.environ.get("MLFLOW_TRACKING_URI")
    mlflow.set_tracking_uri(uri)
    try:
        experiment = mlflow.set_experiment(f"/search/{model}/training")
        tags = {"team": "search", "owner": "ada", "data.version": "d1", "environment": "ci", "purpose": "training"}
        with mlflow.start_run(experiment_id=experiment.experiment_id, tags=tags) as run:
            mlflow.log_metric("val_ndcg_at_10", 0.5)
            logged = mlflow.pyfunc.log_model(
                name="model",
                python_model=str(code),
                signature=infer_signature(example, np.array([0.1, 0.2])),
                pip_requirements=["mlflow-skinny", "numpy", "pandas"],
            )
        if not client.search_registered_models(f"name = '{model}'"):
            client.create_registered_model(model, tags={"team": "search"})
        made = client.create_model_version(model, logged.model_uri, run.info.run_id, model_id=logged.model_id)
        client.set_registered_model_alias(model, "challenger", made.version)
        return str(made.version)
    finally:
        # It goes by the environment again, which MLflow sets as well.
        mlflow.set_tracking_uri(None)
        os.environ.pop("MLFLOW_TRACKING_URI", None)
        if before is not None:
            os.environ["MLFLOW_TRACKING_URI"] = before
