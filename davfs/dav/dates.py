"""Times as HTTP, WebDAV and some clients write them, from and to nanoseconds since 1970. Pure."""

from __future__ import annotations

import calendar
import time
from decimal import Decimal, InvalidOperation
from email.utils import parsedate_tz
from functools import lru_cache

from davfs.core.errors import InvalidInput

SECOND = 1_000_000_000
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_LATEST = 253_402_300_799  # 9999-12-31: the last second that the formats can write
_LATEST_KEPT = ((1 << 63) - 1) // SECOND  # 2262-04-11: the last one whose nanoseconds fit what files keep


def http_date(ns: int) -> str:
    """``Sun, 06 Nov 1994 08:49:37 GMT`` (RFC 9110, 5.6.7)."""
    return _http_date(ns // SECOND)


@lru_cache(maxsize=4096)
def _http_date(seconds: int) -> str:
    t = time.gmtime(min(max(seconds, 0), _LATEST))
    return (
        f"{_DAYS[t.tm_wday]}, {t.tm_mday:02d} {_MONTHS[t.tm_mon - 1]} {t.tm_year:04d} "
        f"{t.tm_hour:02d}:{t.tm_min:02d}:{t.tm_sec:02d} GMT"
    )


def iso_date(ns: int) -> str:
    """``1994-11-06T08:49:37Z`` (RFC 3339), for creationdate."""
    return _iso_date(ns // SECOND)


@lru_cache(maxsize=4096)
def _iso_date(seconds: int) -> str:
    t = time.gmtime(min(max(seconds, 0), _LATEST))
    return f"{t.tm_year:04d}-{t.tm_mon:02d}-{t.tm_mday:02d}T{t.tm_hour:02d}:{t.tm_min:02d}:{t.tm_sec:02d}Z"


def parse_http_date(text: str | None) -> int | None:
    """Seconds since 1970, None if the text is no date (then a condition with it is ignored: RFC 9110, 13.1.3)."""
    if not text:
        return None
    try:
        parts = parsedate_tz(text)
        return None if parts is None else calendar.timegm(parts[:6]) - (parts[9] or 0)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def parse_seconds(text: str) -> int:
    """Nanoseconds from seconds since 1970 with or without a fraction, as in X-OC-Mtime; :class:`InvalidInput`."""
    try:
        seconds = Decimal(text.strip())
        if not 0 <= seconds <= _LATEST_KEPT:
            raise InvalidInput("the time is not between 1970 and 2262")
    except InvalidOperation:
        raise InvalidInput("the time is no number of seconds") from None
    return int(seconds * SECOND)


def parse_any(text: str) -> int:
    """Nanoseconds from seconds since 1970, an HTTP date or an RFC 3339 time, as clients set them by PROPPATCH;
    :class:`InvalidInput`."""
    if text.strip().isdecimal():
        return parse_seconds(text)
    seconds = parse_http_date(text)
    if seconds is None:
        try:
            seconds = calendar.timegm(time.strptime(text.strip()[:19], "%Y-%m-%dT%H:%M:%S"))
        except ValueError:
            raise InvalidInput(f"{text[:40]!r} is no date") from None
    return min(max(seconds, 0), _LATEST_KEPT) * SECOND
