"""Gates: overlapping changes one behind the other, in the order of arrival; a place is given up whatever happens."""

from typing import Any

import pytest

from davfs.cluster.gates import Gates
from davfs.core.errors import Unavailable
from davfs.sim.loop import Loop, Process, SimSignal


class Queue:
    def __init__(self) -> None:
        self.loop = Loop(0)
        self.process = Process(self.loop, "n", lambda *a: None, lambda *a: None)
        self.gates = Gates(SimSignal(self.process))
        self.inside: list[str] = []
        self.order: list[str] = []
        self.errors: dict[str, Any] = {}

    def enter(self, name: str, *paths: tuple[str, ...], stays: float = 1.0, timeout: float = 10.0) -> None:
        def work():
            from davfs.core.effects import Sleep

            ticket = yield from self.gates.enter(paths, timeout)
            self.inside.append(name)
            self.order.append(name)
            yield Sleep(stays)
            self.inside.remove(name)
            self.gates.leave(ticket)

        self.process.run(work(), lambda value, error: self.errors.update({name: error}))

    def run(self, seconds: float) -> None:
        self.loop.run_until(lambda: False, seconds)


@pytest.mark.parametrize(
    ("one", "other", "together"),
    [
        ((("a",),), (("b",),), True),
        ((("a",),), (("a",),), False),
        ((("a",),), (("a", "b"),), False),
        ((("a", "b"),), (("a",),), False),
        ((("a",),), (("ab",),), True),
        ((("a",), ("z",)), (("y", "x"), ("z", "q")), False),
        (((),), (("a", "b", "c"),), False),
    ],
)
def test_only_overlapping_changes_wait(one: Any, other: Any, together: bool) -> None:
    queue = Queue()
    queue.enter("one", *one)
    queue.enter("other", *other)
    queue.run(0.5)
    assert queue.inside == (["one", "other"] if together else ["one"])
    queue.run(3)
    assert queue.errors == {"one": None, "other": None}
    assert not queue.gates.busy


def test_a_later_change_overtakes_none_that_it_overlaps() -> None:
    queue = Queue()
    queue.enter("a", ("a",))
    queue.enter("a, b", ("a",), ("b",))  # waits for the first
    queue.enter("b", ("b",))  # waits for the second, though nobody is inside there
    queue.enter("c", ("c",))
    queue.run(0.5)
    assert queue.inside == ["a", "c"]
    queue.run(5)
    assert queue.order == ["a", "c", "a, b", "b"]


def test_who_waits_too_long_leaves_the_queue() -> None:
    queue = Queue()
    queue.enter("slow", ("a",), stays=5.0)
    queue.enter("gives up", ("a",), ("b",), timeout=1.0)
    queue.run(0.1)
    queue.enter("behind", ("b",), timeout=3.0)
    queue.run(2)
    assert isinstance(queue.errors["gives up"], Unavailable)
    assert queue.order == ["slow", "behind"]
