"""The clock and the random source of a running node or program."""

from __future__ import annotations

import secrets
import time


class BootClock:
    """Seconds since boot, suspend included: a lease must run out while its holder's machine sleeps (design, section 3)."""

    def now(self) -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def wall_ns(self) -> int:
        return time.time_ns()


class SystemRandom:
    """The operating system's randomness."""

    def token(self, size: int) -> bytes:
        return secrets.token_bytes(size)
