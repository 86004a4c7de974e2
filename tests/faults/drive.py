"""One run: clients work, faults come and go by the schedule, the drive must serve again, then everything is judged."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from http.client import HTTPException
from typing import Any, TypeVar

from compat.client import DavClient
from davfs.sim.history import Operation, judge
from davfs.sim.model import tree_of
from tests.faults import schedule
from tests.faults.clients import PATIENCE_S, Client, Directories, Reader, furnish
from tests.faults.lock_rules import judge_locks
from tests.faults.record import Component, Record
from tests.faults.schedule import Fault, Round, Schedule
from tests.faults.strike import START_S, Strikes
from tests.faults.world import World, wait_for

VOLUMES = {"demo": 3, "wide": 5}
"""Each with its replicas, as far as there are nodes."""
POLICY = ("--copies", "3", "--chunk-size", "65536", "--trash-days", "0")
CLIENTS_PER_NODE = 2
MARGIN_S = 60.0
"""Clients go on so much longer than asked for at most: until the last repairs are done."""
BEAT_S = 0.05
READY_S = 60.0

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Span:
    """A fault, or a repair, as it was: seconds since the begin."""

    kind: str
    detail: str
    began: float
    ended: float


@dataclass(frozen=True, slots=True)
class Recovery:
    """After a round: how long until a volume was served through some node and through all; how long is allowed (invariant
    11), which is two ttl and whatever the machine kept sleeping processes waiting."""

    round: int
    at: float
    first: float
    all: float
    limit: float


@dataclass
class Story:
    """All that a report needs."""

    seed: int
    seconds: float
    what: str
    left_out: list[str]
    record: Record
    spans: list[Span] = field(default_factory=list)
    recoveries: list[Recovery] = field(default_factory=list)
    loads: list[tuple[float, float]] = field(default_factory=list)
    stalls: list[tuple[float, float]] = field(default_factory=list)
    rounds: int = 0
    judged: int = 0
    read: int = 0
    worked: float = 0.0
    verdicts: list[str] = field(default_factory=list)
    unexplained: dict[Component, list[Operation]] = field(default_factory=dict)

    @property
    def failures(self) -> list[str]:
        """What must not be: seen on the way, and judged afterwards."""
        return [*self.record.problems, *self.verdicts]


class Metronome(threading.Thread):
    """Sleeps a little again and again: what it oversleeps, every process here may have been kept waiting."""

    def __init__(self, story: Story) -> None:
        super().__init__(daemon=True)
        self.stop = threading.Event()
        self._story = story

    def run(self) -> None:
        record, beats = self._story.record, 0
        while not self.stop.is_set():
            began = time.monotonic()
            time.sleep(BEAT_S)
            late = time.monotonic() - began - BEAT_S
            if late > 2 * BEAT_S:
                self._story.stalls.append((record.now(), late))
            if beats % round(1 / BEAT_S) == 0:
                self._story.loads.append((record.now(), os.getloadavg()[0]))
            beats += 1


class Run:
    """Over a world that is not started yet. ``say``: told what happens, a line at a time."""

    def __init__(
        self, world: World, seed: int, seconds: float, say: Callable[[str], None], kinds: frozenset[str], longest: float
    ) -> None:
        self._world = world
        self._seconds = seconds
        self._say = say
        self.story = Story(seed, seconds, world.what, list(world.left_out), Record())
        self._strikes = Strikes(world, tuple(VOLUMES), self._wrong)
        self._schedule = Schedule(seed, len(world.numbers), world.able & kinds, world.small, longest)
        self._directories = Directories(tuple(VOLUMES), seconds + MARGIN_S)
        self._clients: list[Client] = []

    def go(self) -> Story:
        """All of it. The world is started here; whoever made it destroys it."""
        self._say(f"starting {len(self._world.numbers)} nodes")
        self._world.start()
        first = self._world.numbers[0]
        for name, replicas in VOLUMES.items():
            count = str(min(replicas, len(self._world.numbers)))
            self._world.command(first, "volume", "create", name, "--replicas", count, *POLICY)
        components = self._directories.all()
        self._say(f"making {len(components)} directories")
        trees = self._at(first, lambda: self._furnish(components))
        record = self.story.record
        record.zero = time.monotonic()
        metronome = Metronome(self.story)
        metronome.start()
        self._begin_clients()
        try:
            self._rounds()
        finally:
            self.story.worked = record.now()
            for client in self._clients:
                client.stop.set()
            for client in self._clients:
                client.join(4 * PATIENCE_S)
            metronome.stop.set()
        self._end(trees)
        return self.story

    def _furnish(self, components: list[Component]) -> dict[Component, dict[Any, Any]]:
        first = self._world.numbers[0]
        for volume in VOLUMES:
            with self._world.beside(volume, PATIENCE_S, first) as client:
                wait_for(f"the volume {volume}", partial(_answers, client, first), READY_S)
        return furnish(lambda volume: self._world.beside(volume, 2 * PATIENCE_S, first), components)

    def _begin_clients(self) -> None:
        record, story = self.story.record, self.story
        for number in self._world.numbers:
            for one in range(CLIENTS_PER_NODE):
                name = f"c{number}{'abcdef'[one]}"
                seed = story.seed * 1000 + number * 10 + one
                self._clients.append(Client(self._world, record, self._directories, number, name, seed))
        for client in self._clients:
            client.start()

    # --- faults -----------------------------------------------------------------------------------------------------

    def _rounds(self) -> None:
        while self.story.record.now() < self._seconds:
            following = self._schedule.next_round()
            self._round(following)
            self.story.rounds += 1

    def _round(self, one: Round) -> None:
        """Its faults, the healing, the repairs, the calm."""
        began = time.monotonic()
        events = sorted([(f.at, 0, n, f) for n, f in enumerate(one.faults)] +
                        [(f.at + f.seconds, 1, n, f) for n, f in enumerate(one.faults)])  # fmt: skip
        open_: dict[int, tuple[AbstractContextManager[str], str, float]] = {}
        try:
            for at, ends, number, fault in events:
                time.sleep(max(began + at - time.monotonic(), 0.0))
                if ends:
                    self._finish(*open_.pop(number), fault)
                else:
                    context = self._strikes.begin(fault)
                    at_s = self.story.record.now()
                    detail = context.__enter__()
                    open_[number] = context, detail, at_s
                    self._say(f"{self.story.record.now():6.1f} s  {fault.kind}: {detail}")
        finally:
            for context, _, _ in open_.values():
                context.__exit__(None, None, None)
        self._recover(one)
        self._repair()
        time.sleep(one.calm)

    def _finish(self, context: AbstractContextManager[str], detail: str, at: float, fault: Fault) -> None:
        context.__exit__(None, None, None)
        self.story.spans.append(Span(fault.kind, detail, at, self.story.record.now()))

    def _recover(self, one: Round) -> None:
        """Faults are over: nodes that ended without being told to are wrong; then every volume must serve."""
        up = [number for number in self._world.numbers if number not in self._strikes.excused]
        for number in up:
            code = self._world.exit_code(number)
            if code is not None:
                self._wrong(f"node-{number} ended with {code}: {self._tail(number)}")
                self._world.serve(number)
        over = self.story.record.now()
        limit = 2 * schedule.TTL_S
        try:
            wait_for("all listeners", lambda: all(self._world.listens(number) for number in up), START_S, 0.1)
        except TimeoutError as error:
            self._wrong(str(error))
        listening = self.story.record.now()
        took: dict[tuple[str, int], float | None] = {}
        threads = [threading.Thread(target=self._probe, args=(volume, number, took), daemon=True)
                   for volume in VOLUMES for number in up]  # fmt: skip
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        now = self.story.record.now()
        waited = sum(late for at, late in self.story.stalls if over <= at <= now)
        allowed = limit + waited
        done = [ended for ended in took.values() if ended is not None]
        missing = [place for place, ended in took.items() if ended is None]
        for volume in VOLUMES:
            ends = [ended for (name, _), ended in took.items() if name == volume and ended is not None]
            if not ends or min(ends) - over > allowed:
                self._wrong(f"invariant 11: {volume} did not serve within {allowed:.1f} s after round {one.number}")
        if missing or (done and max(done) - listening > allowed):
            slow = sorted(f"{v} through node-{n} {'never' if t is None else f'{t - listening:.1f} s'}"
                          for (v, n), t in took.items() if t is None or t - listening > allowed)  # fmt: skip
            self._wrong(f"invariant 11: after round {one.number}, allowed {allowed:.1f} s: {', '.join(slow)}")
        if done:
            some, every = max(min(done) - over, 0.0), max(done) - over
            self.story.recoveries.append(Recovery(one.number, over, some, every, allowed))
            self._say(f"{now:6.1f} s  served again after {some:.1f} s, through all after {every:.1f} s")

    def _probe(self, volume: str, number: int, took: dict[tuple[str, int], float | None]) -> None:
        """Write until it is acknowledged."""
        self._world.enter(number)
        ends = time.monotonic() + 45
        took[volume, number] = None
        with self._world.beside(volume, 20.0, number) as client:
            while time.monotonic() < ends:
                if _answers(client, number):
                    took[volume, number] = self.story.record.now()
                    return
                time.sleep(0.2)

    def _repair(self) -> None:
        for repair in self._strikes.owed:
            began = self.story.record.now()
            detail = repair()
            self.story.spans.append(Span("repair", detail, began, self.story.record.now()))
            self._say(f"{self.story.record.now():6.1f} s  repair: {detail}")
        self._strikes.owed.clear()

    # --- the end ----------------------------------------------------------------------------------------------------

    def _end(self, trees: dict[Component, dict[Any, Any]]) -> None:
        """Everything is read through every node; replicas, copies, locks and histories are judged."""
        story, record = self.story, self.story.record
        self._say(f"{record.now():6.1f} s  reading everything through every node")
        used = sorted(record.histories)
        readers = [Reader(self._world, record, self._directories, number, used) for number in self._world.numbers]
        before = record.counts()["operations"]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join(600)
            story.verdicts += [f"invariant 1: not read after the end: {what}" for what in reader.unread[:10]]
            if reader.is_alive():
                story.verdicts.append(f"invariant 1: {reader.name} did not come to an end")
        story.read = record.counts()["operations"] - before
        self._say(f"{record.now():6.1f} s  scrub and fsck")
        for volume in VOLUMES:
            passes = self._strikes.scrub(volume)
            lost = sum(one["found"].get("lost", 0) for one in passes)
            if lost:
                story.verdicts.append(f"invariant 7: {lost} chunks of {volume} have no good copy")
        self._strikes.fsck()
        self._say(f"judging {record.counts()['operations']} operations in {len(used)} directories")
        for component in used:
            found = judge(record.histories[component], tree_of(trees[component]))
            story.verdicts += [f"{component[0]}/{component[1]}: {what}" for what in found]
            if found:
                story.unexplained[component] = sorted(record.histories[component], key=lambda one: one.invoked)
            story.judged += 1
        story.verdicts += judge_locks(record.locks, record.naked)

    def _wrong(self, what: str) -> None:
        self.story.record.wrong(what)
        self._say(f"{self.story.record.now():6.1f} s  WRONG: {what}")

    def _tail(self, number: int) -> str:
        lines = self._world.log(number).read_text(errors="replace").splitlines()
        return " / ".join([line for line in lines if "davfs.dav.errors" not in line][-6:])

    def _at(self, number: int, work: Callable[[], Result]) -> Result:
        """Do something in a node's network."""
        found: list[Result] = []
        failed: list[BaseException] = []

        def run() -> None:
            try:
                self._world.enter(number)
                found.append(work())
            except BaseException as error:
                failed.append(error)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        thread.join()
        if failed:
            raise failed[0]
        return found[0]


def _answers(client: DavClient, number: int) -> bool:
    try:
        return client.put(f"probe-{number}", b"there").ok
    except (OSError, HTTPException):
        return False
