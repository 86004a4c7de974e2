"""Who asks: by HTTP Basic (RFC 7617) with a password or an app password, or by Bearer (RFC 6750) with an app password.

Accounts stand in the node's configuration (administrators of every volume) or in Raft's state. Knows nothing of DAV;
keeps no password. A password that was verified is believed for a minute, unless its account's hash changes before.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import logging
import secrets
import threading
import time
import unicodedata
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

from davfs.core import accounts
from davfs.core.errors import DavfsError, Unavailable
from davfs.core.passwords import STAND_IN, check_hash, verify_password
from davfs.dav.throttle import Throttle

REMEMBERED_S = 60.0  # a verified password is believed so long: argon2 costs time and memory on purpose
MAX_REMEMBERED = 10_000
MAX_CREDENTIALS = 8192  # characters; bringing a long name of combining marks into NFC takes quadratic time
VERIFICATIONS = 4  # at once: each takes 19 MiB
_QUEUE_LIMIT_S = 10.0


class Unauthorized(DavfsError):
    """Name and password are needed."""

    code = "unauthorized"
    status = 401


class Identity(NamedTuple):
    """Who asks. ``configured``: the account stands in a node's configuration (or that lets everybody in), which makes
    it administrator of every volume."""

    name: str
    configured: bool


class _Verified(NamedTuple):
    identity: Identity
    stored: str
    until_s: float


EVERYBODY = Identity("", True)
_WRONG = "name or password is wrong"

log = logging.getLogger(__name__)


class Authenticator:
    """Checks Authorization headers against ``users`` (name -> hash, of the configuration) and the ``accounts`` of Raft.

    ``anonymous``: requests without credentials are let in (default: when there are no ``users``). Thread-safe.
    ``clock`` gives seconds that never step.
    """

    def __init__(
        self,
        users: Mapping[str, str] | None = None,
        accounts: Callable[[], accounts.Accounts] = dict,
        *,
        anonymous: bool | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._users = {unicodedata.normalize("NFC", name): stored for name, stored in (users or {}).items()}
        for stored in self._users.values():
            check_hash(stored)
        self._accounts = accounts
        self._anonymous = not self._users if anonymous is None else anonymous
        self._clock = clock
        self._throttle = Throttle(clock)
        self._key = secrets.token_bytes(32)
        self._verified: dict[bytes, _Verified] = {}
        self._lock = threading.Lock()
        # The same header is verified by one thread at a time, so that a client that opens ten connections costs one hash.
        self._turns = [threading.Lock() for _ in range(VERIFICATIONS)]

    def identify(
        self,
        authorization: str | None,
        address: str = "",
        waiting: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> Identity:
        """Who sends this header from this address. :class:`Unauthorized`, or :class:`TooManyFailures` when a client has
        guessed too often. ``waiting`` is entered around what takes long."""
        if self._anonymous and (not authorization or not (self._users or self._accounts())):
            return EVERYBODY
        if not authorization:
            raise Unauthorized("this drive needs a name and a password")
        scheme, _, credentials = authorization.partition(" ")
        if scheme.lower() == "bearer":
            return self._by_app_password(credentials.strip(), address, None)
        if scheme.lower() != "basic":
            raise Unauthorized("only Basic and Bearer authentication are understood")
        name, password = _basic(credentials)
        if accounts.app_id_of(password) is not None:
            return self._by_app_password(password, address, name)
        fingerprint = hmac.new(self._key, f"{name}:{password}".encode(), hashlib.sha256).digest()
        known = self._recall(fingerprint)
        if known is not None and self._clock() < known.until_s:
            return known.identity
        with waiting():
            return self._by_password(name, password, fingerprint, address)

    def _by_app_password(self, text: str, address: str, name: str | None) -> Identity:
        app_id = accounts.app_id_of(text)
        if app_id is None:
            raise Unauthorized("Bearer takes an app password (davfs user app-password add)")
        self._throttle.attempt(address, app_id)
        account = accounts.holder_of(self._accounts(), text)
        if account is None or name not in (None, account.name):
            log.warning("a login by app password %r from %s failed", app_id, address)
            raise Unauthorized(_WRONG)
        self._throttle.succeeded(address, app_id)
        return Identity(account.name, False)

    def _by_password(self, name: str, password: str, fingerprint: bytes, address: str) -> Identity:
        turn = self._turns[fingerprint[0] % VERIFICATIONS]
        if not turn.acquire(timeout=_QUEUE_LIMIT_S):
            raise Unavailable("too many logins at once; try again shortly")
        try:
            known = self._recall(fingerprint)
            if known is not None and self._clock() < known.until_s:
                return known.identity  # another thread verified it meanwhile
            if known is None:  # what was right before is no guess: others' failures do not keep it out
                self._throttle.attempt(address, name)
            identity, stored = self._stored(name)
            if not verify_password(password, stored or STAND_IN) or not stored:
                log.warning("a login as %r from %s failed", name, address)
                raise Unauthorized(_WRONG)
            self._throttle.succeeded(address, name)
            with self._lock:
                if len(self._verified) >= MAX_REMEMBERED:
                    self._verified.clear()
                self._verified[fingerprint] = _Verified(identity, stored, self._clock() + REMEMBERED_S)
            return identity
        finally:
            turn.release()

    def _stored(self, name: str) -> tuple[Identity, str]:
        """Who would be let in under the name, and the hash that decides: "" if nobody can be."""
        configured = self._users.get(name)
        if configured is not None:
            return Identity(name, True), configured
        account = self._accounts().get(name)
        return Identity(name, False), account.password if account is not None else ""

    def _recall(self, fingerprint: bytes) -> _Verified | None:
        """What was verified once, if the account is still the same; perhaps too long ago to be believed."""
        with self._lock:
            known = self._verified.get(fingerprint)
        if known is None:
            return None
        identity, stored = self._stored(known.identity.name)
        same = identity == known.identity and hmac.compare_digest(stored.encode(), known.stored.encode())
        return known if same else None


def _basic(credentials: str) -> tuple[str, str]:
    """Name (NFC) and password of Basic credentials."""
    if len(credentials) > MAX_CREDENTIALS:
        raise Unauthorized("the Authorization header is too long")
    try:
        text = base64.b64decode(credentials.strip(), validate=True).decode("utf-8")
    except ValueError:  # not base64, not ASCII or not UTF-8
        raise Unauthorized("the Authorization header is malformed") from None
    name, colon, password = text.partition(":")
    if not colon:
        raise Unauthorized("the Authorization header is malformed")
    return unicodedata.normalize("NFC", name), password
