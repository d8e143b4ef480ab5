"""Serving: loads `models:/MODEL@champion` as MLflow's users do, asks it, and prints what it says of itself."""

from __future__ import annotations

import json
import sys

import mlflow
import numpy as np
import pandas as pd

name, data = sys.argv[1:]
model = mlflow.pyfunc.load_model(f"models:/{name}@champion")
columns = model.metadata.get_input_schema().input_names()
scores = model.predict(pd.read_parquet(data)[columns])
assert np.isfinite(scores).all()
python = model.metadata.flavors["python_function"]["python_version"]
print(json.dumps({"run_id": model.metadata.run_id, "mlflow": model.metadata.mlflow_version, "python": python}))
