"""Ends with 0 if this container's MLflow answers and its database does, too.

It signs in as somebody who does not exist. A server that says so (401) has looked in the database; that takes no
password. Where the database is away, the answer is a 5xx.
"""

import base64
import sys
import urllib.error
import urllib.request

NOBODY = base64.b64encode(b"health-check:nobody-has-this-password").decode()
request = urllib.request.Request(
    "http://localhost:5000/api/2.0/mlflow/registered-models/search?max_results=1",
    headers={"Authorization": f"Basic {NOBODY}"},
)
try:
    with urllib.request.urlopen(request, timeout=10):  # noqa: S310  (the address is the one above)
        sys.exit("MLflow let somebody in who does not exist: is --app-name=basic-auth missing?")
except urllib.error.HTTPError as error:
    if error.code != 401:
        sys.exit(f"MLflow answered {error.code}: {error.read(500).decode(errors='replace')}")
except OSError as error:
    sys.exit(f"MLflow did not answer: {error}")
