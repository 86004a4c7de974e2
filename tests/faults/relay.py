"""Passes frames between two network taps after a delay: ``python -m tests.faults.relay INNER OUTER SECONDS``.

It makes the two TAP devices in the namespace where it runs and writes a line when they are there; they go with it.
"""

from __future__ import annotations

import fcntl
import os
import select
import struct
import sys
import time
from collections import deque

TUNSETIFF = 0x400454CA
IFF_TAP, IFF_NO_PI = 0x0002, 0x1000
LONGEST_FRAME = 65536
MOST_WAITING = 20_000


def tap(name: str) -> int:
    """The descriptor of a new TAP device."""
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TAP | IFF_NO_PI))
    return device


def relay(inner: int, outer: int, delay: float) -> None:
    """For ever. A frame that finds too many waiting is lost, as in any router."""
    other = {inner: outer, outer: inner}
    waiting: deque[tuple[float, int, bytes]] = deque()
    poll = select.poll()
    for device in other:
        poll.register(device, select.POLLIN)
    while True:
        patience = max(waiting[0][0] - time.monotonic(), 0.0) * 1000 if waiting else None
        for device, _ in poll.poll(patience):
            _take(device, other[device], delay, waiting)
        now = time.monotonic()
        while waiting and waiting[0][0] <= now:
            _, device, frame = waiting.popleft()
            try:
                os.write(device, frame)
            except OSError:  # the device is down, or its queue is full: lost
                continue


def _take(device: int, to: int, delay: float, waiting: deque[tuple[float, int, bytes]]) -> None:
    while True:
        try:
            frame = os.read(device, LONGEST_FRAME)
        except OSError:
            return
        if len(waiting) < MOST_WAITING:
            waiting.append((time.monotonic() + delay, to, frame))


def main(words: list[str]) -> None:
    """Run until killed."""
    inner, outer = tap(words[0]), tap(words[1])
    print("ready", flush=True)
    relay(inner, outer, float(words[2]))


if __name__ == "__main__":
    main(sys.argv[1:])
