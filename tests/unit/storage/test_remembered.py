"""What was read of the index is given again, and never as it was before a change."""

from __future__ import annotations

import threading

from davfs.storage.remembered import KEPT, Remembered


class Index:
    """Something to read that counts how often it is read."""

    def __init__(self) -> None:
        self.value = 0
        self.reads = 0

    def read(self) -> int:
        self.reads += 1
        return self.value


def test_nothing_is_read_twice_until_a_change() -> None:
    index, remembered = Index(), Remembered()
    assert [remembered.ask("k", index.read, lambda _: True) for _ in range(3)] == [0, 0, 0]
    assert index.reads == 1
    with remembered.changing():
        index.value = 1
    assert [remembered.ask("k", index.read, lambda _: True) for _ in range(3)] == [1, 1, 1]
    remembered.forget()
    remembered.ask("k", index.read, lambda _: True)
    assert index.reads == 3


def test_what_a_change_overtook_is_not_kept() -> None:
    index, remembered = Index(), Remembered()

    def overtaken() -> int:
        old = index.read()
        with remembered.changing():
            index.value += 1
        return old

    assert remembered.ask("k", overtaken, lambda _: True) == 0
    assert remembered.ask("k", index.read, lambda _: True) == 1


def test_nothing_is_given_or_kept_while_it_changes() -> None:
    index, remembered = Index(), Remembered()
    remembered.ask("k", index.read, lambda _: True)
    with remembered.changing():
        index.value = 1
        with remembered.changing():
            pass
        assert remembered.ask("k", index.read, lambda _: True) == 1
        index.value = 2
        assert remembered.ask("k", index.read, lambda _: True) == 2
    assert remembered.ask("k", index.read, lambda _: True) == 2


def test_it_is_bounded_in_number_and_by_size() -> None:
    index, remembered = Index(), Remembered()
    for n in range(KEPT + 1):
        remembered.ask(n, index.read, lambda _: True)
    reads = index.reads
    remembered.ask(KEPT, index.read, lambda _: True)
    assert index.reads == reads
    remembered.ask(0, index.read, lambda _: True)
    assert index.reads == reads + 1, "the one that was kept first went"
    for _ in range(2):
        remembered.ask("large", index.read, lambda _: False)
    assert index.reads == reads + 3


def test_who_has_seen_a_change_is_followed_by_none_who_has_not() -> None:
    index, remembered, ended = Index(), Remembered(), threading.Event()
    seen: list[tuple[int, int]] = []

    def look() -> None:
        while not ended.is_set():
            before = index.value  # as somebody without a memory sees it
            seen.append((before, remembered.ask("k", index.read, lambda _: True)))

    threads = [threading.Thread(target=look) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(300):
        with remembered.changing():
            index.value += 1
    ended.set()
    for thread in threads:
        thread.join(10)
    assert seen and all(later >= earlier for earlier, later in seen)
