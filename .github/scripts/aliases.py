"""Prints the aliases of a registered model, as `champion=1 rolled-back=2`: aliases.py MODEL."""

import sys

from mlflow import MlflowClient

aliases = MlflowClient().get_registered_model(sys.argv[1]).aliases
print(*sorted(f"{alias}={version}" for alias, version in aliases.items()))
