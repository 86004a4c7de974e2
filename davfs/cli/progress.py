"""Progress of a long command, on standard error: one line that is written anew on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from threading import Lock

TERMINAL_S = 0.2
LOG_S = 5.0


class Progress:
    """Thread-safe. ``end`` leaves a terminal's line as it is and goes to the next."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._terminal = sys.stderr.isatty()
        self._shown_at = time.monotonic()
        self._open = False

    def show(self, text: str) -> None:
        """Show where the command is, if it is time to."""
        with self._lock:
            now = time.monotonic()
            if now - self._shown_at < (TERMINAL_S if self._terminal else LOG_S):
                return
            self._shown_at = now
            sys.stderr.write(f"\r\x1b[K{text}" if self._terminal else f"{text}\n")
            sys.stderr.flush()
            self._open = self._terminal

    def end(self, text: str = "") -> None:
        """The last word."""
        with self._lock:
            if self._open:
                sys.stderr.write("\r\x1b[K")
                self._open = False
            if text:
                sys.stderr.write(f"{text}\n")
            sys.stderr.flush()


def size(count: int) -> str:
    """Bytes, for people."""
    number = float(count)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if number < 1024:
            return f"{number:.0f} {unit}" if unit == "bytes" else f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:.1f} TiB"
