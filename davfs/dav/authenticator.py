"""Who asks: everybody, or accounts by HTTP Basic (RFC 7617). Knows nothing of DAV; keeps no password."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
import threading
import time
from collections.abc import Callable, Mapping

from davfs.core.errors import DavfsError
from davfs.core.passwords import hash_password, check_hash, verify_password

REMEMBERED_S = 60.0  # a verified password is believed so long: scrypt costs 50 ms on purpose
MAX_REMEMBERED = 10_000


class Unauthorized(DavfsError):
    """Name and password are needed."""

    code = "unauthorized"
    status = 401


class Authenticator:
    """Checks Authorization headers against ``users`` (name -> scrypt hash); without users everybody is let in.

    Thread-safe. ``clock`` gives seconds that never step.
    """

    def __init__(self, users: Mapping[str, str] | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._users = dict(users or {})
        for stored in self._users.values():
            check_hash(stored)
        self._clock = clock
        self._key = secrets.token_bytes(32)
        self._verified: dict[bytes, tuple[str, float]] = {}
        self._lock = threading.Lock()
        # An unknown name costs the same time as a wrong password.
        self._nobody = hash_password(secrets.token_hex(16), secrets.token_bytes(16)) if self._users else ""

    def principal(self, authorization: str | None) -> str:
        """The account of a request, "" when everybody is let in; :class:`Unauthorized`."""
        if not self._users:
            return ""
        if not authorization:
            raise Unauthorized("this drive needs a name and a password")
        fingerprint = hmac.new(self._key, authorization.encode("latin-1", "replace"), hashlib.sha256).digest()
        now = self._clock()
        with self._lock:
            known = self._verified.get(fingerprint)
        if known and now < known[1]:
            return known[0]
        name = self._verify(authorization)
        with self._lock:
            if len(self._verified) >= MAX_REMEMBERED:
                self._verified.clear()
            self._verified[fingerprint] = (name, now + REMEMBERED_S)
        return name

    def _verify(self, authorization: str) -> str:
        scheme, _, credentials = authorization.partition(" ")
        if scheme.lower() != "basic":
            raise Unauthorized("only Basic authentication is understood")
        try:
            text = base64.b64decode(credentials.strip(), validate=True).decode("utf-8")
        except (binascii.Error, UnicodeDecodeError):
            raise Unauthorized("the Authorization header is malformed") from None
        name, colon, password = text.partition(":")
        matches = verify_password(password, self._users.get(name, self._nobody))
        if not colon or name not in self._users or not matches:
            raise Unauthorized("name or password is wrong")
        return name
