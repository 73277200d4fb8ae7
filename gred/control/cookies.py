"""Cookies of keepalives and probes: a number, and what proves that we have sent it. Pure.

Who returns one has seen it. Nothing here remembers which were sent, or answered.
"""

import hmac
import os
from collections.abc import Callable
from hashlib import blake2s

COOKIE = 16  # bytes: number, 8, and what proves it, 8
_NUMBER = 8


class Cookies:
    """Cookies under a key of their own; *about* is whose they are."""

    def __init__(self, about: bytes, secret: Callable[[int], bytes] = os.urandom) -> None:
        self.key = secret(16)
        self._about = about

    def make(self, number: int) -> bytes:
        """Return the COOKIE bytes of *number*."""
        packed = number.to_bytes(_NUMBER)
        return packed + self._proof(packed)

    def read(self, trailer: bytes) -> int | None:
        """Return the number at the start of *trailer*; None: it is no cookie of these."""
        if len(trailer) < COOKIE:
            return None
        packed, proof = trailer[:_NUMBER], trailer[_NUMBER:COOKIE]
        return int.from_bytes(packed) if hmac.compare_digest(proof, self._proof(packed)) else None

    def _proof(self, packed: bytes) -> bytes:
        return blake2s(packed + self._about, key=self.key, digest_size=COOKIE - _NUMBER).digest()
