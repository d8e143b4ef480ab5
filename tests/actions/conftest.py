"""What the tests of the actions share: a machine that runs workflows."""

from __future__ import annotations

import pytest

from tests.actions import runner as runners


@pytest.fixture(scope="session")
def runner(mlflow_server, tmp_path_factory):
    """Runs workflows with `act`, against the test's MLflow server."""
    return runners.make(tmp_path_factory, mlflow_server.uri)
