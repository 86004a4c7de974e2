"""A seeded, deterministic loop: virtual time, processes that run protocols, and the effects that protocols yield.

The simulator's counterpart of ``cluster/threads.py``: the same generators, driven by one event queue instead of threads.
Every choice comes from one random generator and every event has a number, so a seed names exactly one history. A step
of a protocol between two yields is atomic here. May import cluster and core; knows no network and no disk (``network.py``).
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Generator
from typing import Any, TypeAlias

from davfs.core.effects import Call, Effect, Gather, Outcome, Outcomes, Reconfigure, Reply, Sleep, Spawn, Submit, Wait
from davfs.core.errors import CorruptData, DavfsError, InvalidInput, Unavailable

Done: TypeAlias = Callable[[Any, BaseException | None], None]
"""Told (value, None) or (None, error) when something ends."""

SUSPECT = (CorruptData, InvalidInput)
"""Nothing is malformed in a simulation, and what is damaged is known: whoever says so otherwise has found a bug."""

SPINNING = 20_000
RESTLESS = 150_000  # events between two stages of a simulation; some 10,000 are usual
"""Events at one instant, beyond which something waits without waiting."""


class Loop:
    """The event queue. ``now`` is in seconds; ``trace`` collects lines if tracing is on."""

    def __init__(self, seed: int, tracing: bool = False) -> None:
        self.seed = seed
        self.random = random.Random(seed)  # noqa: S311  reproducible on purpose
        self.excused: Callable[[tuple[Any, ...], Exception], bool] = lambda context, failure: False  # after injected damage
        self.now = 0.0
        self.failures: list[str] = []
        self.trace: list[str] = []
        self.tracing = tracing
        self.running: Task | None = None
        self.steps = 0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        self._still = 0

    def at(self, delay: float, action: Callable[[], None]) -> None:
        """Do something after a delay, whoever is up then."""
        number = self._count = self._count + 1
        heapq.heappush(self._events, (self.now + max(0.0, delay), number, action))

    def run_until(self, ended: Callable[[], bool], limit: float) -> bool:
        """Run until ``ended()`` (True) or ``limit`` seconds of virtual time have passed (False)."""
        deadline = self.now + limit
        most = self.steps + RESTLESS
        while not ended():
            if not self._events or self._events[0][0] > deadline:
                self.now = deadline
                return ended()
            at, _, action = heapq.heappop(self._events)
            self.steps += 1
            self._still = self._still + 1 if at == self.now else 0
            self.now = at
            if self._still > SPINNING:
                self.fail("something spins: no time passes any more")
                return False
            if self.steps > most:
                self.fail("the same things happen again and again")
                return False
            action()
        return True

    def note(self, line: str) -> None:
        """A line of the trace."""
        if self.tracing:
            self.trace.append(f"{self.now:10.4f} {line}")

    def fail(self, reason: str) -> None:
        """Something happened that must not happen in any history."""
        self.note(f"FAILURE {reason}")
        if len(self.failures) < 20:
            self.failures.append(reason)


class SimSignal:
    """The protocols' ``Signal`` for one process."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._waiting: list[Callable[[], None]] = []

    def notify(self) -> None:
        """Let everyone who waits look again, in events of their own."""
        for look in list(self._waiting):
            self._process.at(0.0, look)

    def wait(self, ready: Callable[[], bool], timeout: float, done: Done) -> None:
        """Call ``done(ready(), None)`` when it is true or time is up."""
        if ready():
            done(True, None)
            return
        ended = False

        def look(last: bool = False) -> None:
            nonlocal ended
            if ended or not (ready() or last):
                return
            ended = True
            self._waiting.remove(look)
            done(ready(), None)

        self._waiting.append(look)
        self._process.at(timeout, lambda: look(last=True))


class Process:
    """One life of a node: from a start to the next crash. Nothing of it survives but what is on its disk.

    ``rate``: how fast its clock runs; the design assumes less than 10 % of difference.
    """

    def __init__(
        self,
        loop: Loop,
        node: str,
        call: Callable[[Process, Call, Done], None],
        submit: Callable[[Process, tuple[Any, ...], float, Done], None],
        rate: float = 1.0,
    ) -> None:
        self.loop = loop
        self.node = node
        self.alive = True
        self.rate = rate
        self._paused_events: list[Callable[[], None]] | None = None
        self._call = call
        self._submit = submit
        self.reconfigure: Callable[[Any, Any, Done], None] = _no_member

    @property
    def paused(self) -> bool:
        return self._paused_events is not None

    def clock(self) -> float:
        """Seconds of this node's own clock, which goes on while it is paused."""
        return self.loop.now * self.rate

    def at(self, delay: float, action: Callable[[], None]) -> None:
        """Do something after a delay of this node's clock, if it lives then; later if it is paused then.

        What a dead process asks for is forgotten at once: its protocols are collected some time, no seed says when, and
        run their ``finally`` parts then.
        """
        if self.alive:
            self.loop.at(delay / self.rate, lambda: self.deliver(action))

    def deliver(self, action: Callable[[], None]) -> None:
        """Do something now, as far as the process is able to."""
        if not self.alive:
            return
        if self._paused_events is not None:
            self._paused_events.append(action)
        else:
            action()

    def pause(self) -> None:
        """SIGSTOP."""
        if self._paused_events is None:
            self._paused_events = []

    def resume(self) -> None:
        """SIGCONT: what came meanwhile is done now, in an order that nobody may rely on."""
        events, self._paused_events = self._paused_events or [], None
        self.loop.random.shuffle(events)
        for event in events:
            self.at(0.0, event)

    def crash(self) -> None:
        """kill -9."""
        self.alive = False

    # --- protocols --------------------------------------------------------------------------------------------------

    def start(self, protocol: Generator[Effect, Any, Any], name: str) -> None:
        """Run a background task; one that ends with an error is a failure: its work is silently not done any more."""

        def ended(value: Any, error: BaseException | None) -> None:
            if error is not None:
                self.loop.fail(f"the background task {name} of {self.node} ended: {error!r}")

        self.run(protocol, ended, (name,))

    def run(self, protocol: Generator[Effect, Any, Any], done: Done, context: tuple[Any, ...] = ()) -> None:
        """Run a protocol to its end. ``context`` says on whose behalf, for those who watch."""
        task = Task(self, protocol, done, context)
        self.at(0.0, lambda: task.step(None, None))

    def perform(self, effect: Effect, done: Done) -> None:
        """Do what a protocol asked for."""
        match effect:
            case Call():
                self._call(self, effect, done)
            case Gather():
                self._gather(effect, done)
            case Submit(command=command, timeout=timeout):
                self._submit(self, command, timeout, done)
            case Reconfigure(before=before, after=after):
                self.reconfigure(before, after, done)
            case Wait(signal=SimSignal() as signal, ready=ready, timeout=timeout):
                signal.wait(ready, timeout, done)
            case Sleep(seconds=seconds):
                self.at(seconds, lambda: done(None, None))
            case Spawn(task=task, name=name):
                self.start(task, name)
                done(None, None)
            case _:
                raise TypeError(f"the simulator cannot do {effect!r}")

    def _gather(self, gather: Gather, done: Done) -> None:
        outcomes: Outcomes = {}
        returned = gather.enough({})

        def one(node: str, value: Any, error: BaseException | None) -> None:
            nonlocal returned
            outcome: Outcome
            if error is None:
                outcome = value
            elif isinstance(error, DavfsError):
                outcome = error
            else:
                self.loop.fail(f"a request of {self.node} to {node} failed: {error!r}")
                outcome = Unavailable(repr(error))
            if returned:
                if gather.late is not None:
                    gather.late(node, outcome)
                return
            outcomes[node] = outcome
            finish(len(outcomes) == len(gather.calls) or gather.enough(outcomes))

        def finish(enough: bool) -> None:
            nonlocal returned
            if enough and not returned:
                returned = True
                done(dict(outcomes), None)

        for call in gather.calls:
            self._call(self, call, lambda value, error, node=call.node: one(node, value, error))  # type: ignore[misc]
        if returned:
            done({}, None)
        else:
            self.at(max((call.timeout for call in gather.calls), default=0.0) + 1, lambda: finish(True))


def _no_member(before: Any, after: Any, done: Done) -> None:
    raise TypeError("only a member of Raft can change its membership")


class Task:
    """A protocol on its way in one process."""

    def __init__(
        self, process: Process, protocol: Generator[Effect, Any, Any], done: Done, context: tuple[Any, ...]
    ) -> None:
        self.context = context
        self._process = process
        self._protocol = protocol
        self._done = done

    def step(self, value: Any, error: BaseException | None) -> None:
        """Go on to the next effect that takes time."""
        loop = self._process.loop
        before, loop.running = loop.running, self
        try:
            effect = self._protocol.send(value) if error is None else self._protocol.throw(error)
        except StopIteration as stop:
            self._done(stop.value, None)
            return
        except Exception as failure:  # noqa: BLE001  whoever waits for the protocol is told
            suspect = isinstance(failure, SUSPECT) and not loop.excused(self.context, failure)
            if suspect or not isinstance(failure, DavfsError):
                loop.fail(f"{self._process.node}: {self.context}: {failure!r}")
            self._done(None, failure)
            return
        finally:
            loop.running = before
        self._process.perform(effect, self._resume)

    def _resume(self, value: Any, error: BaseException | None) -> None:
        self._process.at(0.0, lambda: self.step(value, error))


def reply_of(value: Any) -> Reply:
    """A handler's result, checked to be a reply."""
    if not isinstance(value, Reply):
        raise TypeError(f"a handler answered {value!r}")
    return value
