"""A gate in small: one process that scores one model, for tests of what the model can do to it.

`python -m tests.support.scoring_driver SPEC`: SPEC is JSON with `model`, `isolation` (its name), `rows`,
`options`, and `packages` (a folder to take packages from, before the environment's own). What came is printed as JSON.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np

from champion_gate import github, isolation, model_environment, signals
from champion_gate.errors import Cancelled, GateError
from champion_gate.scoring import Options, open_scorer, read_model
from tests.support.models import quick_interpreter, working


def main(spec):
    how = working(spec["isolation"])
    isolation.find = lambda _: how
    quick = quick_interpreter(Path(spec["packages"]))
    model_environment.interpreter_for = lambda *_, **__: quick
    signals.take()
    rows = spec["rows"]
    Path(spec["model"], "data", "gate").write_text(str(os.getpid()))  # a model that looks for us need not search
    try:
        model = read_model(Path(spec["model"]), "challenger version 7 of search-ranker")
        with open_scorer(model, Options(environment="current", **spec.get("options", {}))) as scorer:
            print("ready", file=sys.stderr, flush=True)
            scores = scorer.score({"row": np.arange(float(rows))}, rows).tolist()
            came = {"isolation": scorer.isolation, "scores": scores}
    except GateError as error:
        github.annotate("error", "Champion Gate", str(error))
        came = {"error": type(error).__name__, "message": str(error)}
        code = error.exit_code
    except Cancelled as cancelled:
        came, code = {"error": "Cancelled"}, cancelled.exit_code
    else:
        code = 0
    print(json.dumps(came), flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
