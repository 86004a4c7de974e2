"""Python's garbage collector, made part of the schedule: what ends with its last reference ends when the seed says.

Tables of what is in use (``cluster/in_use.py``) forget what nobody keeps; where errors make cycles that is when the collector
comes by, which depends on all that the process did before.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

from davfs.sim.loop import Loop

EVERY_S = 5.0


@contextmanager
def scheduled(loop: Loop) -> Iterator[None]:
    """Collect at certain moments of virtual time, and at no others; what was there before is not looked at."""

    def collect() -> None:
        gc.collect()
        loop.at(EVERY_S, collect)

    was = gc.isenabled()
    gc.collect()
    gc.freeze()
    gc.disable()
    loop.at(EVERY_S, collect)
    try:
        yield
    finally:
        gc.unfreeze()
        if was:
            gc.enable()
