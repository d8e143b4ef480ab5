"""Signatures of verdicts: HMAC-SHA256 (RFC 2104) over a verdict's canonical bytes. Pure.

A signature names its key by the first digits of the key's own SHA-256, so that keys can be rotated: a promotion is
given the new and the old one, and takes a verdict that any of them signed.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence

from champion_gate.errors import BadInput

_SHORTEST = 16
_PREFIX = "hmac-sha256"


def usable(keys: Sequence[str]) -> tuple[str, ...]:
    """The keys, if they can be keys; the first one signs, all of them are tried when a signature is checked.

    Space around a key is no part of it: a variable loses it on the way, a command line does not.

    Raises:
        BadInput: one is so short that it could be guessed.
    """
    found = tuple(dict.fromkeys(key.strip() for key in keys))
    for key in found:
        if len(key.encode()) < _SHORTEST:
            raise BadInput(
                f"A signing-key has {len(key.encode())} bytes.",
                f"A key below {_SHORTEST} bytes could be guessed from a signed verdict.",
                "Make one, for example: openssl rand -hex 32",
            )
    return found


def sign(text: str, key: str) -> str:
    """The signature of a text, as `hmac-sha256:<key>:<digest>`."""
    digest = hmac.new(key.encode(), text.encode(), hashlib.sha256).hexdigest()
    return f"{_PREFIX}:{_name(key)}:{digest}"


def is_signed_by(text: str, signature: str, keys: Sequence[str]) -> bool:
    """Whether one of the keys made this signature of this text. Takes the same time for every wrong one."""
    found = False
    for key in keys:
        found |= hmac.compare_digest(sign(text, key).encode(), signature.encode())
    return found


def _name(key: str) -> str:
    return hashlib.sha256(b"champion-gate key name\n" + key.encode()).hexdigest()[:8]
