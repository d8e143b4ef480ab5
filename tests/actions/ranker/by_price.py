"""A ranker that is quick to train: it ranks documents by their price."""

import os
from pathlib import Path

import mlflow
import pandas as pd

DIRECTION = 1  # -1: the cheapest first


class ByPrice(mlflow.pyfunc.PythonModel):
    """Likes documents the more, the dearer they are; or the other way round."""

    def __init__(self, direction):
        self.direction = direction

    def predict(self, context, model_input, params=None):
        """The price as the score, with its sign."""
        return model_input["price"] * self.direction


if results := os.environ.get("RESULTS"):  # what a training can see, for those who ask
    Path(results, "seen-by-training.txt").write_text("\n".join(f"{key}={value}" for key, value in os.environ.items()))
with mlflow.start_run():
    mlflow.pyfunc.log_model(
        name="model",
        python_model=ByPrice(DIRECTION),
        input_example=pd.DataFrame({"price": [1.5, 2.5]}),
        pip_requirements=["mlflow"],
    )
