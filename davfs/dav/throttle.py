"""Failed logins slow their like down: per (client address, name), in a table of bounded size. Knows neither HTTP nor accounts.

An attempt counts as failed until it has succeeded, so that many at once gain nothing.
"""

from __future__ import annotations

import contextlib
import ipaddress
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

from davfs.core.errors import DavfsError

FREE_FAILURES = 5  # a person who mistypes waits for nothing
LONGEST_WAIT_S = 60.0
FORGOTTEN_AFTER_S = 900.0
MAX_ENTRIES = 10_000
_MAX_NAME = 128


class TooManyFailures(DavfsError):
    """Too many failed logins; wait before the next one."""

    code = "too-many-failures"
    status = 429


class _Record(NamedTuple):
    failures: int
    last_s: float

    @property
    def blocked_until_s(self) -> float:
        over = self.failures - FREE_FAILURES
        return self.last_s + (min(2.0**over, LONGEST_WAIT_S) if over >= 0 else 0.0)


class Throttle:
    """Thread-safe. ``clock`` gives seconds that never step."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._records: OrderedDict[tuple[str, str], _Record] = OrderedDict()  # least recently failed first

    def attempt(self, address: str, name: str) -> None:
        """Count an attempt, or :class:`TooManyFailures` (``retry_after``: whole seconds) when it comes too early."""
        key, now = _key(address, name), self._clock()
        with self._lock:
            known = self._records.get(key, _Record(0, now))
            if now - known.last_s > FORGOTTEN_AFTER_S:
                known = _Record(0, now)
            if now < known.blocked_until_s:
                wait = int(known.blocked_until_s - now) + 1
                raise TooManyFailures(f"too many failed logins; try again in {wait} s", retry_after=wait)
            self._records[key] = _Record(known.failures + 1, now)
            self._records.move_to_end(key)
            while len(self._records) > MAX_ENTRIES:
                self._records.popitem(last=False)

    def succeeded(self, address: str, name: str) -> None:
        """The attempt was good: forget the failures before it."""
        with self._lock:
            self._records.pop(_key(address, name), None)


def _key(address: str, name: str) -> tuple[str, str]:
    """One customer's IPv6 addresses are a /64, and count as one."""
    if ":" in address:
        with contextlib.suppress(ValueError):
            address = str(ipaddress.ip_network((address.partition("%")[0], 64), strict=False))
    return address, name[:_MAX_NAME]
