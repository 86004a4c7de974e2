"""Every crash point of a recording, under every model of what a crash leaves: restarted and judged.

A point lies behind each call that changed something. What is there after the restart must be one of the states that the
client knows: that of the last acknowledged change, or of the one that was on its way.
"""

from __future__ import annotations

import random
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.crash.disk import Change, Disk, Left, crashes
from tests.crash.record import VOLUME, Recording, State, Step
from tests.crash.restart import Restarter


@dataclass(frozen=True, slots=True)
class Point:
    """One state after a crash, and what may be found in it. ``number``: of the last call before the crash."""

    scenario: str
    number: int
    where: str
    left: Left
    allowed: tuple[State, ...]
    kind: str = "node"


@dataclass(slots=True)
class Row:
    """A scenario's line in the table. ``points``: (prefix, model) pairs; ``states``: those that differ, each restarted once."""

    prefixes: int = 0
    points: int = 0
    states: int = 0
    processes: int = 0
    models: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


def points(recording: Recording, scenarios: Sequence[str] = (), widest: int = 1000, seed: int = 0) -> Iterator[Point]:
    """All points of the scenarios, in order. ``widest``: so many of the changes that may be lost are lost one by one."""
    source = random.Random(seed)
    disk = Disk(recording.before)
    acknowledged, steps = 0, recording.steps

    def spread(changes: list[Change]) -> Iterable[Change]:
        if not widest:
            return []
        return changes if len(changes) <= widest else [*source.sample(changes[:-1], widest - 1), changes[-1]]

    for number, call in enumerate(recording.calls):
        said = call.kind in ("answer", "mark")
        changed = not said and disk.apply(number, call)
        acknowledged += said
        if acknowledged > len(steps):
            raise AssertionError("more answers than requests")
        step = steps[min(acknowledged, len(steps) - 1)] if not said else steps[acknowledged - 1]
        if (not changed and not said) or not step.scenario or (scenarios and step.scenario not in scenarios):
            continue
        allowed = _allowed(recording, steps, acknowledged)
        for keep in crashes(disk, spread):
            where = f"after {call.kind} {call.path} (call {number}, {step.what}), {keep.name}"
            yield Point(step.scenario, number, where, disk.left(keep), allowed, recording.kind)


def _allowed(recording: Recording, steps: Sequence[Step], acknowledged: int) -> tuple[State, ...]:
    now = steps[acknowledged - 1].states[-1] if acknowledged else recording.first
    return (now, *steps[acknowledged].states) if acknowledged < len(steps) else (now,)


def judge(found: dict[str, Any], allowed: Sequence[State]) -> str:
    """What is wrong with what a restarted node has; "" if nothing."""
    if "error" in found:
        return f"the node did not start or serve: {found['error']}"
    volume = found["volumes"].get(VOLUME)
    if volume is not None and volume["problems"]:
        return f"the replica does not hold together: {volume['problems'][:3]}"
    seen = State() if volume is None else State(volume["tree"], frozenset(volume["locks"]))
    if seen in allowed:
        return ""
    return f"found {_short(seen)}, allowed {' or '.join(dict.fromkeys(map(_short, allowed)))}"


def _short(state: State) -> str:
    if state.tree is None:
        return "no volume"
    entries = [f"{path}={what[:6]}" for path, what in sorted(state.tree.items())]
    return f"[{' '.join(entries)}]" + (f" locked {sorted(state.locks)}" if state.locks else "")


def run(
    found: Iterable[Point], restarters: Sequence[Restarter], scratch: Path, *, stop_at: int = 0, tell: Any = None
) -> dict[str, Row]:
    """Restart each state that differs once, and judge each point; a row for each scenario. ``stop_at``: so many wrong ones."""
    rows: dict[str, Row] = {}
    verdicts: dict[tuple[object, ...], dict[str, Any]] = {}
    waiting: list[tuple[Restarter, Path, Point]] = []
    prefixes: set[tuple[str, int]] = set()
    again: list[Point] = []
    idle = list(restarters)

    def conclude(point: Point) -> None:
        row = rows[point.scenario]
        if wrong := judge(verdicts[point.left.key], point.allowed):
            row.wrong.append(f"{point.where}: {wrong}")

    def collect() -> None:
        restarter, folder, point = waiting.pop(0)
        verdicts[point.left.key] = restarter.answer()
        conclude(point)
        shutil.rmtree(folder)
        idle.append(restarter)

    for count, point in enumerate(found):
        row = rows.setdefault(point.scenario, Row())
        row.points += 1
        row.models[point.left.keep.name] += 1
        if (point.scenario, point.number) not in prefixes:
            prefixes.add((point.scenario, point.number))
            row.prefixes += 1
        key = point.left.key
        if key in verdicts:
            conclude(point)
            continue
        if any(one.left.key == key for _, _, one in waiting):
            again.append(point)
            continue
        if not idle:
            collect()
        row.states += 1
        folder = scratch / f"crash-{count}"
        point.left.build(folder)
        restarter = idle.pop()
        restarter.ask(folder, point.kind)
        waiting.append((restarter, folder, point))
        if tell is not None:
            tell(rows)
        if stop_at and sum(len(row.wrong) for row in rows.values()) >= stop_at:
            break
    while waiting:
        collect()
    for point in again:
        conclude(point)
    return rows
