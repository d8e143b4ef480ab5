"""A training script for the tests: speaks MLflow's REST API with the standard library alone, so that it starts at once.

Each argument is a step, done in order:

    metric=NAME:VALUE     log a metric to the run
    tag=KEY:VALUE         tag the run
    model=FOLDER          log a model as a folder of the run's artifacts, as MLflow 2 does
    logged=NAME           log a LoggedModel, as MLflow 3 does
    child                 go on in a new child run
    register=NAME         register the run's folder `model` as a version of NAME
    end=STATUS            end the run
    environment=FILE      write this process's environment to FILE as JSON
    say=TEXT, complain=TEXT   print to stdout, to stderr
    spawn=FILE            start a child and a grandchild that ignore SIGINT and SIGTERM; their ids go to FILE
    sleep=SECONDS, exit=CODE, raise
"""

from __future__ import annotations

import base64
import json
import os
import ssl
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

MLMODEL = "artifact_path: {name}\nflavors:\n  python_function:\n    loader_module: none\n    python_version: 3.10.0\n"
STUBBORN = "trap '' INT TERM; {more} echo $$ >> {file}; while :; do sleep 1; done"

uri = os.environ["MLFLOW_TRACKING_URI"]
run = {"id": os.environ["MLFLOW_RUN_ID"]}
"""The run that the next step speaks of."""


def call(method, path, body=None):
    raw = body if isinstance(body, bytes) else json.dumps(body or {}).encode()
    request = urllib.request.Request(f"{uri}/api/2.0/{path}", None if method == "GET" else raw, method=method)
    request.add_header("Content-Type", "application/octet-stream" if isinstance(body, bytes) else "application/json")
    if user := os.environ.get("MLFLOW_TRACKING_USERNAME"):
        account = f"{user}:{os.environ['MLFLOW_TRACKING_PASSWORD']}"
        request.add_header("Authorization", f"Basic {base64.b64encode(account.encode()).decode()}")
    authority = os.environ.get("MLFLOW_TRACKING_SERVER_CERT_PATH")
    context = ssl.create_default_context(cafile=authority) if authority and uri.startswith("https:") else None
    with urllib.request.urlopen(request, timeout=30, context=context) as answer:
        text = answer.read()
    return json.loads(text) if text else {}


def this_run():
    return call("GET", f"mlflow/runs/get?run_id={run['id']}")["run"]


def now():
    return int(time.time() * 1000)


def put_artifact(path, content):
    root = this_run()["info"]["artifact_uri"].removeprefix("mlflow-artifacts:/")
    call("PUT", f"mlflow-artifacts/artifacts/{root.lstrip('/')}/{path}", content.encode())


def main(steps):
    for step in steps:
        verb, _, what = step.partition("=")
        if verb == "metric":
            key, _, value = what.rpartition(":")
            call(
                "POST", "mlflow/runs/log-metric", {"run_id": run["id"], "key": key, "value": value, "timestamp": now()}
            )
        elif verb == "tag":
            key, _, value = what.partition(":")
            call("POST", "mlflow/runs/set-tag", {"run_id": run["id"], "key": key, "value": value})
        elif verb == "model":
            put_artifact(f"{what}/MLmodel", MLMODEL.format(name=what))
            put_artifact(f"{what}/weights.txt", "0.5")
        elif verb == "logged":
            body = {"experiment_id": this_run()["info"]["experiment_id"], "name": what, "source_run_id": run["id"]}
            model = call("POST", "mlflow/logged-models", body)["model"]["info"]["model_id"]
            call("PATCH", f"mlflow/logged-models/{model}", {"model_id": model, "status": "LOGGED_MODEL_READY"})
            print(f"logged {what} as {model}", flush=True)
        elif verb == "child":
            tags = [{"key": "mlflow.parentRunId", "value": run["id"]}]
            body = {"experiment_id": this_run()["info"]["experiment_id"], "start_time": now(), "tags": tags}
            run["id"] = call("POST", "mlflow/runs/create", body)["run"]["info"]["run_id"]
        elif verb == "register":
            source = this_run()["info"]["artifact_uri"] + "/model"
            body = {"name": what, "source": source, "run_id": run["id"]}
            call("POST", "mlflow/model-versions/create", body)
        elif verb == "end":
            call("POST", "mlflow/runs/update", {"run_id": run["id"], "status": what, "end_time": now()})
        elif verb == "environment":
            Path(what).write_text(json.dumps(dict(os.environ)))
        elif verb == "say":
            print(what, flush=True)
        elif verb == "complain":
            print(what, file=sys.stderr, flush=True)
        elif verb == "spawn":
            grandchild = STUBBORN.format(more="", file=what)
            child = STUBBORN.format(more=f"bash -c '{grandchild.replace(chr(39), chr(34))}' &", file=what)
            subprocess.Popen(["bash", "-c", child])
            while not Path(what).exists() or len(Path(what).read_text().split()) < 2:
                time.sleep(0.02)
        elif verb == "sleep":
            time.sleep(float(what))
        elif verb == "exit":
            sys.exit(int(what))
        elif verb == "raise":
            raise RuntimeError("the training data is empty")
        else:
            raise ValueError(f"no such step: {step}")


if __name__ == "__main__":
    main(sys.argv[1:])
