"""The judge of histories, by hand-made good and bad ones, and beside a deliberately dumb one that tries all orders."""

from __future__ import annotations

import itertools
import random
import time
from typing import Any

import pytest

from davfs.sim.history import Operation, judge, linearizable, parts
from davfs.sim.model import READS, Tree, apply, tree_of

START = tree_of({("d",): None, ("d", "old"): b"old"})
DONE = ("ok", True)
REPLACED = ("ok", False)
GONE = ("error", "not-found")


def op(begin: float, end: float | None, outcome: Any, *what: Any) -> Operation:
    return Operation("c", what, begin, end, None if end is None else outcome)


def put(begin: float, end: float | None, name: str, content: bytes, outcome: Any = DONE) -> Operation:
    return op(begin, end, outcome, "put", ("d", name), content)


def get(begin: float, end: float, name: str, seen: bytes | None) -> Operation:
    return op(begin, end, GONE if seen is None else ("ok", seen), "get", ("d", name))


GOOD = {
    "one after the other": [put(1, 2, "a", b"1"), get(3, 4, "a", b"1"), put(5, 6, "a", b"2", REPLACED), get(7, 8, "a", b"2")],
    "at the same time, either order": [put(1, 4, "a", b"1"), put(2, 3, "a", b"2", REPLACED), get(5, 6, "a", b"2")],
    "a read beside a write sees old or new": [put(1, 9, "a", b"1"), get(2, 3, "a", None), get(4, 5, "a", b"1")],
    "unknown, never": [put(1, None, "a", b"1"), get(2, 3, "a", None), get(50, 60, "a", None)],
    "unknown, late": [put(1, None, "a", b"1"), get(2, 3, "a", None), get(4, 5, "a", b"1"), get(6, 7, "a", b"1")],
    "unknown, then overwritten": [put(1, None, "a", b"1"), put(2, 3, "a", b"2"), put(4, 5, "a", b"3", REPLACED)],
    "moved": [op(1, 2, DONE, "move", ("d", "old"), ("d", "new"), False), get(3, 4, "old", None), get(3, 4, "new", b"old")],
    "copied with its properties": [
        op(1, 2, DONE, "proppatch", ("d", "old"), "p", "v"),
        op(3, 4, DONE, "copy", ("d",), ("e",), False),
        op(5, 6, ("ok", (("p", "v"),)), "props", ("e", "old")),
        op(7, 8, ("ok", ("old",)), "list", ("e",)),
    ],
    "a part is written": [op(1, 2, DONE, "write", ("d", "old"), 1, b"XY"), get(3, 4, "old", b"oXY")],
    "parts at the same time": [
        op(1, 5, DONE, "write", ("d", "old"), 0, b"A"), op(1, 5, DONE, "write", ("d", "old"), 4, b"B"),
        get(2, 3, "old", b"old\0B"), get(6, 7, "old", b"Ald\0B"),
    ],
    "refused for what was there": [
        op(1, 2, ("error", "already-exists"), "mkcol", ("d",)),
        op(1, 2, ("error", "parent-missing"), "put", ("no", "a"), b"1"),
        op(1, 2, ("error", "precondition-failed"), "copy", ("d",), ("e",), False),
        op(1, 2, DONE, "mkcol", ("e",)),
    ],
}  # fmt: skip

BAD = {
    "an acknowledged PUT is lost": [put(1, 2, "a", b"1"), get(3, 4, "a", None)],
    "an old content comes back": [put(1, 2, "a", b"1"), put(3, 4, "a", b"2", REPLACED), get(5, 6, "a", b"1")],
    "seen, then not": [put(1, 9, "a", b"1"), get(2, 3, "a", b"1"), get(4, 5, "a", None)],
    "two readers see two orders": [
        put(1, 8, "a", b"1"), put(1, 8, "a", b"2", REPLACED), get(9, 10, "a", b"1"), get(11, 12, "a", b"2"),
    ],
    "seen before it was asked for": [get(1, 2, "a", b"1"), put(3, 4, "a", b"1")],
    "an unknown one takes effect twice": [
        put(1, None, "a", b"1"), get(2, 3, "a", b"1"), put(4, 5, "a", b"2", REPLACED), get(6, 7, "a", b"1"),
    ],
    "created twice": [put(1, 2, "a", b"1"), put(3, 4, "a", b"2")],
    "a mixture of two versions": [put(1, 2, "a", b"11"), put(3, 4, "a", b"22", REPLACED), get(5, 6, "a", b"12")],
    "half of a part": [op(1, 2, DONE, "write", ("d", "old"), 0, b"XY"), get(3, 4, "old", b"Xld")],
    "moved, and still there": [
        op(1, 2, DONE, "move", ("d", "old"), ("d", "new"), False), get(3, 4, "new", b"old"), get(5, 6, "old", b"old"),
    ],
    "moved, and nowhere for a moment": [
        op(1, 9, DONE, "move", ("d", "old"), ("d", "new"), False), get(2, 3, "new", None), get(4, 5, "old", None),
        get(6, 7, "new", None), get(10, 11, "new", b"old"),
    ],
    "a copy that shows before it is whole": [
        op(1, 9, DONE, "copy", ("d",), ("e",), False), op(2, 3, ("ok", ()), "list", ("e",)),
    ],
    "a copy without its properties": [
        op(1, 2, DONE, "proppatch", ("d", "old"), "p", "v"),
        op(3, 4, DONE, "copy", ("d", "old"), ("d", "new"), False),
        op(5, 6, ("ok", ()), "props", ("d", "new")),
    ],
    "a listing without what was put": [put(1, 2, "a", b"1"), op(3, 4, ("ok", ("old",)), "list", ("d",))],
    "a refusal for what was not there": [op(1, 2, ("error", "already-exists"), "mkcol", ("e",))],
}  # fmt: skip


@pytest.mark.parametrize("name", GOOD)
def test_good_histories(name: str) -> None:
    assert judge(GOOD[name], START) == []


@pytest.mark.parametrize("name", BAD)
def test_bad_histories(name: str) -> None:
    assert any("invariant" in failure for failure in judge(BAD[name], START))


def test_a_mixture_is_called_one() -> None:
    assert any("parts of two versions" in failure for failure in judge(BAD["a mixture of two versions"], START))


def test_a_failure_says_where_no_order_goes_on() -> None:
    (failure,) = judge(BAD["an old content comes back"], START)
    assert "/d/a" in failure
    assert "2 can be put in one" in failure
    assert "[5..6] c ('get', ('d', 'a')) -> ('ok', b'1')" in failure


def test_a_change_that_may_come_too_early_is_not_put_there() -> None:
    """What is taken away is not there yet when it could first have been; it is later, and gone in the end."""
    history = [
        op(1, 9, ("ok", True), "proppatch", ("d", "f"), "q", None),
        op(2, 3, ("ok", True), "proppatch", ("d", "f"), "q", "v"),
        op(10, 11, ("ok", ()), "props", ("d", "f")),
    ]
    assert judge(history, tree_of({("d",): None, ("d", "f"): b"x"})) == []


def test_what_is_not_decided_is_a_failure() -> None:
    history = [put(1, None, "a", b"%d" % number) for number in range(12)] + [get(2, 3, "a", None), get(4, 5, "a", b"x")]
    assert linearizable(history, START, budget=20) is None
    assert any("not decided" in failure for failure in judge(history, START, budget=20))
    assert linearizable(history, START) is False


def test_nothing_is_cut_apart_that_something_connects() -> None:
    alone = [put(1, 2, name, b"1") for name in "abc"]
    assert [len(part.operations) for part in parts(alone, START)] == [1, 1, 1]
    for joined in (
        op(3, 4, DONE, "move", ("d", "a"), ("d", "b"), True),
        op(3, 4, ("ok", ("a", "b", "c", "old")), "list", ("d",)),
        op(3, 4, DONE, "copy", ("d",), ("e",), True),
        op(3, 4, DONE, "delete", ("d",)),
    ):
        sizes = sorted(len(part.operations) for part in parts([*alone, joined], START))
        assert sizes == ([1, 3] if joined.op[0] == "move" else [4]), joined


# --- beside all orders --------------------------------------------------------------------------------------------------

NAMES = (("a",), ("b",), ("a", "c"))


def _any_op(rng: random.Random, number: int) -> tuple[Any, ...]:
    kind = rng.choice(("get", "get", "list", "props", "put", "put", "write", "mkcol", "delete", "move", "copy", "proppatch"))
    path = rng.choice(NAMES)
    if kind == "list":
        return kind, rng.choice((path, ()))
    extra: dict[str, tuple[Any, ...]] = {
        "put": (b"%d" % number,), "write": (1, b"%d" % number), "move": (rng.choice(NAMES), rng.random() < 0.7),
        "copy": (rng.choice(NAMES), rng.random() < 0.7), "proppatch": ("p", rng.choice(("v", None))),
    }  # fmt: skip
    return kind, path, *extra.get(kind, ())


def _history(rng: random.Random, size: int) -> list[Operation]:
    """Of a volume that is one, or (three of four times) nearly so: an answer is another's, or its time is."""
    tree: Tree = ()
    history = []
    for number in range(size):
        at = 10.0 * number
        what = _any_op(rng, number)
        operation = Operation("c", what, at - rng.uniform(0, 25), at + rng.uniform(0, 25))
        if rng.random() < 0.2:
            operation.ended = None
        if operation.ended is not None or rng.random() < 0.5:
            tree, outcome = apply(tree, what)
            operation.outcome = outcome if operation.ended is not None else None
        history.append(operation)
    known = [operation for operation in history if operation.ended is not None]
    if rng.random() < 0.75 and len(known) > 1:
        one, other = rng.sample(known, 2)
        if rng.random() < 0.5:
            one.outcome = other.outcome
        else:
            one.invoked, one.ended, other.invoked, other.ended = other.invoked, other.ended, one.invoked, one.ended
    return history


def _explained_by_any_order(history: list[Operation]) -> bool:
    needed = [operation for operation in history if operation.ended is not None]
    free = [operation for operation in history if operation.ended is None and operation.op[0] not in READS]
    for count in range(len(free) + 1):
        for chosen in itertools.combinations(free, count):
            if any(_explains(order) for order in itertools.permutations([*needed, *chosen])):
                return True
    return False


def _explains(order: tuple[Operation, ...]) -> bool:
    tree: Tree = ()
    latest = float("-inf")
    for operation in order:
        latest = max(latest, operation.invoked)
        if operation.ended is not None and operation.ended < latest:
            return False  # something that began after its end stands before it
        tree, outcome = apply(tree, operation.op)
        if operation.ended is not None and outcome != operation.outcome:
            return False
    return True


def test_the_verdict_is_that_of_all_orders() -> None:
    verdicts = []
    for seed in range(400):
        history = _history(random.Random(seed), 5)
        verdict = linearizable(history)
        assert verdict is _explained_by_any_order(history), (seed, [str(one) for one in history])
        verdicts.append(verdict)
    assert 50 < sum(verdicts) < 350, "both must occur"


def test_a_long_history_of_many_clients_is_judged_in_time() -> None:
    """20 files, 8 clients at once, 4,000 operations, 5 % of unknown outcome; then one answer among the last is wrong."""
    rng = random.Random(1)
    tree = START
    history = []
    for number in range(4000):
        name = f"f{rng.randrange(20)}"
        what = ("put", ("d", name), b"%d" % number) if rng.random() < 0.5 else ("get", ("d", name))
        operation = Operation("c", what, number - rng.uniform(0, 8), number + rng.uniform(0, 8))
        lost = rng.random() < 0.05
        if not lost or rng.random() < 0.5:
            tree, operation.outcome = apply(tree, what)
        if lost:
            operation.ended = operation.outcome = None
        history.append(operation)
    began = time.monotonic()
    assert judge(history, START) == []
    read = [one for one in history if one.op[0] == "get" and one.outcome is not None and one.outcome[0] == "ok"][-3]
    read.outcome = ("ok", b"17")
    assert judge(history, START) != []
    assert time.monotonic() - began < 20


@pytest.mark.parametrize("seed", range(3))
def test_many_unknown_outcomes_in_one_directory_are_decided(seed: int) -> None:
    """Everything is connected by listings and moves, 15 % of the outcomes are unknown; half of those took effect, some late."""
    rng = random.Random(seed)
    tree, history = START, []
    late: list[tuple[Any, ...]] = []
    for number in range(300):
        while late and rng.random() < 0.1:
            tree, _ = apply(tree, late.pop(rng.randrange(len(late))))
        names = [("d", rng.choice("abcd")) for _ in range(2)]
        body = b"%d" % number
        ops = (("put", names[0], body), ("get", names[0]), ("list", ("d",)), ("move", *names, True), ("delete", names[0]))
        what: tuple[Any, ...] = rng.choices(ops, (4, 4, 1, 1, 1))[0]
        operation = Operation("c", what, number - rng.uniform(0, 4), number + rng.uniform(0, 4))
        if rng.random() < 0.15:
            operation.ended = None
            if rng.random() < 0.5:
                late.append(what)
        else:
            tree, operation.outcome = apply(tree, what)
        history.append(operation)
    assert judge(history, START, budget=20_000) == []
    read = [one for one in history if one.op[0] == "get" and one.outcome is not None and one.outcome[0] == "ok"][-2]
    read.outcome = ("ok", b"0")
    assert judge(history, START, budget=20_000) != []


def test_what_changes_nothing_yet_may_come_later() -> None:
    """A property is removed while another client sets it, and is gone afterwards: it was set, then removed."""
    start = tree_of({("f",): b""})
    history = [
        Operation("one", ("proppatch", ("f",), "p", "v"), 1, 4, ("ok", True)),
        Operation("two", ("proppatch", ("f",), "p", None), 2, 3, ("ok", True)),
    ]
    gone = Operation("three", ("props", ("f",)), 5, 6, ("ok", ()))
    there = Operation("three", ("props", ("f",)), 5, 6, ("ok", (("p", "v"),)))
    assert judge([*history, gone], start) == judge([*history, there], start) == []
    assert judge([*history, Operation("three", ("props", ("f",)), 5, 6, ("ok", (("p", "w"),)))], start)
