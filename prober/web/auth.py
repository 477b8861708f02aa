"""Basic auth (RFC 7617) against bcrypt hashes, without ever blocking the event loop.

bcrypt takes a tenth of a second by design. It runs in a thread, one at a time, and what it found is remembered: a
scraper that logs in every 15 s costs one hash in the agent's life. What is remembered is a keyed hash of the
credentials, never the credentials.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import secrets
from collections import OrderedDict
from collections.abc import Mapping
from enum import Enum
from typing import Final

import bcrypt

BAD_REMEMBERED_MAX: Final = 256
WAITING_MAX: Final = 16
"""Logins that may wait for their turn; beyond that the server is busy."""
_PASSWORD_BYTES_MAX: Final = 72
"""bcrypt looks no further, and neither did the program that made the hash."""


class Verdict(Enum):
    """What a login attempt came to."""

    GOOD = "good"
    BAD = "bad"
    BUSY = "busy"


class Users:
    """Who may come in. Without users everybody may."""

    def __init__(self, hashes: Mapping[bytes, bytes]) -> None:
        self._key = secrets.token_bytes(32)
        self._good: dict[bytes, bytes] = {}  # user -> digest of the credentials that were right
        self._bad: OrderedDict[bytes, None] = OrderedDict()
        self._turn = asyncio.Lock()
        self._waiting = 0
        self.replace(hashes)

    def replace(self, hashes: Mapping[bytes, bytes]) -> None:
        """From now on these users may come in. What was remembered holds only for a hash that is the same."""
        self._hashes = dict(hashes)
        self._good = {user: digest for user, digest in self._good.items() if user in hashes}
        self._bad.clear()
        # A user who does not exist must cost as much time as one who does. No password has this hash.
        cost = max((int(known[4:6]) for known in hashes.values()), default=4)
        self._nobody = b"$2b$%02d$" % cost + b"." * 53

    @property
    def required(self) -> bool:
        return bool(self._hashes)

    async def check(self, authorization: str | None) -> Verdict:
        """Judge an Authorization header."""
        credentials = parse_basic(authorization)
        if credentials is None:
            return Verdict.BAD
        user, password = credentials
        known = self._hashes.get(user)
        hashed = self._nobody if known is None else known
        digest = self._digest(user, hashed, password)
        if hmac.compare_digest(self._good.get(user, b""), digest):
            return Verdict.GOOD
        if digest in self._bad:
            return Verdict.BAD
        if self._waiting >= WAITING_MAX:
            return Verdict.BUSY
        self._waiting += 1
        try:
            async with self._turn:
                right = await asyncio.to_thread(_matches, password, hashed)
        finally:
            self._waiting -= 1
        if right and known is not None and self._hashes.get(user) == known:
            self._good[user] = digest
            return Verdict.GOOD
        self._bad[digest] = None
        if len(self._bad) > BAD_REMEMBERED_MAX:
            self._bad.popitem(last=False)
        return Verdict.BAD

    def _digest(self, *parts: bytes) -> bytes:
        message = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
        return hmac.digest(self._key, message, "sha256")


def parse_basic(authorization: str | None) -> tuple[bytes, bytes] | None:
    """User and password of an Authorization header; None if it has none."""
    scheme, _, encoded = (authorization or "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user, colon, password = base64.b64decode(encoded.strip(), validate=True).partition(b":")
    except (binascii.Error, ValueError):  # ValueError: not ASCII
        return None
    return (user, password) if colon else None


def _matches(password: bytes, hashed: bytes) -> bool:
    return bcrypt.checkpw(password[:_PASSWORD_BYTES_MAX], hashed)
