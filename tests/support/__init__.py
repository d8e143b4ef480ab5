"""What the tests share: servers, a way to run commands as a user does, and faults on the wire."""
