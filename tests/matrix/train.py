"""A training as MLflow's users write it, for every MLflow from 2.9 on: logs a metric and a scikit-learn model.

Runs in the environment of the MLflow that it is to log with. What the model needs is left to that MLflow to find out.
"""

from __future__ import annotations

import argparse

import mlflow
import mlflow.sklearn
import numpy as np
import pandas as pd
from mlflow.models import infer_signature
from sklearn.linear_model import LinearRegression
from sklearn.metrics import ndcg_score

parser = argparse.ArgumentParser()
parser.add_argument("--data", required=True)
parser.add_argument("--features", required=True)
options = parser.parse_args()

data = pd.read_parquet(options.data)
features = data[options.features.split(",")]
model = LinearRegression().fit(features, data["label"])
scores = model.predict(features)
queries = data.assign(score=scores).groupby("query_id")
with mlflow.start_run():
    ndcg = [ndcg_score([of["label"]], [of["score"]], k=10) for _, of in queries if of["label"].any()]
    mlflow.log_metric("val_ndcg_at_10", float(np.mean(ndcg)))
    mlflow.sklearn.log_model(model, "model", signature=infer_signature(features, scores))
