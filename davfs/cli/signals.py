"""SIGTERM and SIGINT as an event.

A handler runs in the main thread, between any two of its steps; if it set the event itself while that thread is inside
``Event.wait``, it would wait for a lock that its own thread holds. So it only writes to a pipe, and a thread of its own
reads that.
"""

from __future__ import annotations

import os
import signal
import threading
from contextlib import suppress


def stop_event() -> threading.Event:
    """An event that is set by the first SIGTERM or SIGINT. Call it from the main thread."""
    stop = threading.Event()
    reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    os.set_blocking(reader, True)

    def told(_number: int, _frame: object) -> None:
        with suppress(BlockingIOError):  # full of earlier ones
            os.write(writer, b".")

    def wait() -> None:
        os.read(reader, 1)
        stop.set()

    threading.Thread(target=wait, name="signals", daemon=True).start()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, told)
    return stop
