"""The signal that threads wait for: who is woken, who is not, and that nobody is forgotten."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from davfs.cluster.threads import ThreadSignal


def waiting(signal: ThreadSignal, ready: Callable[[], bool], limit: float = 10.0) -> tuple[threading.Thread, list[bool]]:
    """A thread that waits, and what its wait gave."""
    gave: list[bool] = []
    thread = threading.Thread(target=lambda: gave.append(signal.wait(ready, limit)))
    thread.start()
    return thread, gave


def test_only_those_are_woken_who_need_wait_no_longer() -> None:
    signal, done, looks = ThreadSignal(), set[int](), dict[int, set[int]]()

    def ready(number: int) -> bool:
        looks.setdefault(number, set()).add(threading.get_ident())
        return number in done

    threads = [waiting(signal, lambda number=number: ready(number))[0] for number in range(5)]  # type: ignore[misc]
    deadline = time.monotonic() + 10
    while len(signal._waiting) < 5 and time.monotonic() < deadline:
        time.sleep(0.001)
    looks.clear()
    done.add(3)
    signal.notify()
    threads[3].join(10)
    assert not threads[3].is_alive() and all(thread.is_alive() for thread in threads if thread is not threads[3])
    own = threading.get_ident()
    assert all(who == {own} for number, who in looks.items() if number != 3), "a thread was woken in vain"
    done.update(range(5))
    signal.notify()
    for thread in threads:
        thread.join(10)
    assert not any(thread.is_alive() for thread in threads) and not signal._waiting


def test_a_time_out_says_how_it_stands_and_leaves_nothing() -> None:
    signal = ThreadSignal()
    began = time.monotonic()
    assert signal.wait(lambda: False, 0.05) is False
    assert time.monotonic() - began >= 0.05
    assert signal.wait(lambda: False, 0.0) is False and signal.wait(lambda: True, 0.0) is True
    assert not signal._waiting


def test_the_error_of_a_condition_is_raised_where_it_is_waited_for() -> None:
    signal, broken = ThreadSignal(), threading.Event()

    def ready() -> bool:
        if broken.is_set():
            raise LookupError("of the one who waits")
        return False

    def wait() -> None:
        with pytest.raises(LookupError):
            signal.wait(ready, 10.0)

    thread = threading.Thread(target=wait)
    thread.start()
    while not signal._waiting:
        time.sleep(0.001)
    broken.set()
    signal.notify()
    thread.join(10)
    assert not thread.is_alive()


def test_no_announcement_is_lost() -> None:
    """Two threads count in turns: one that missed its turn would wait for its whole limit."""
    signal, turns = ThreadSignal(), [0]

    def count(parity: int) -> None:
        while turns[0] < 2000:
            assert signal.wait(lambda: turns[0] % 2 == parity or turns[0] >= 2000, 10.0)
            turns[0] += turns[0] < 2000
            signal.notify()

    threads = [threading.Thread(target=count, args=(parity,)) for parity in (0, 1)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert turns[0] >= 2000 and time.monotonic() - began < 10
