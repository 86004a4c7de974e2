"""Free loopback ports, several in a row."""

from __future__ import annotations

import random
import socket

# Below the kernel's range for outgoing connections, so that no client's socket takes a port between probe and use.
LOWEST, HIGHEST = 12000, 32000


def free_run(count: int) -> int:
    """The first of `count` ports in a row on 127.0.0.1 that nothing listens on now."""
    for _ in range(200):
        first = random.randrange(LOWEST, HIGHEST - count)
        if all(_is_free(port) for port in range(first, first + count)):
            return first
    raise OSError(f"no {count} free ports in a row between {LOWEST} and {HIGHEST}")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
