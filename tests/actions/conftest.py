"""What the tests of the actions share: a machine that runs workflows."""

from __future__ import annotations

import pytest

from tests.actions import runner as runners


@pytest.fixture(scope="session")
def runner(mlflow_server, tmp_path_factory):
    """Runs workflows with `act`, against the test's MLflow server."""
    act = runners.find_act()
    if act is None:
        pytest.skip("no act, neither in CHAMPION_GATE_TEST_ACT nor on PATH; scripts/test installs it where Go is there")
    return runners.Runner(act, tmp_path_factory.mktemp("runner"), mlflow_server.uri)
