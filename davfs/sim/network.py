"""The simulated network between nodes: requests are delayed, lost, repeated, refused, and cut off by partitions.

Values cross it as msgpack, like in production, so nothing is shared between nodes and tuples arrive as lists. May
import only core and the loop.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgpack

from davfs.core.effects import Call, Reply
from davfs.core.errors import CallTimeout, DavfsError, Unreachable, by_code
from davfs.sim.loop import Done, Loop, Process


@dataclass(slots=True)
class Weather:
    """How bad the network is: probabilities for each message, delays in seconds."""

    loss: float = 0.0
    repeat: float = 0.0
    slow: float = 0.0
    delay: float = 0.002
    slow_delay: float = 4.0


Handler = Callable[[Process, str, Mapping[str, Any], bytes, Done], None]


class Network:
    """Requests by (node, method). ``serve`` runs a request in the process that has arrived there."""

    def __init__(self, loop: Loop, weather: Weather) -> None:
        self.loop = loop
        self.weather = weather
        self.processes: dict[str, Process] = {}
        self.serve: Callable[[Process, str, str, Mapping[str, Any], bytes, Done], None] | None = None
        self.extra_delay: Callable[[str, str], float] = lambda node, method: 0.0  # of a request, to play a certain history
        self._cut: set[tuple[str, str]] = set()

    # --- faults -----------------------------------------------------------------------------------------------------

    def cut(self, one: str, other: str) -> None:
        """Let nothing through between two nodes."""
        self._cut |= {(one, other), (other, one)}

    def cut_one_way(self, sender: str, receiver: str) -> None:
        """Let nothing through from one node to another; requests the other way arrive, and their answers do not."""
        self._cut.add((sender, receiver))

    def heal(self) -> None:
        """Undo all cuts."""
        self._cut.clear()

    def passes(self, sender: str, receiver: str) -> bool:
        """Whether messages get through that way, if both ends are up."""
        return (sender, receiver) not in self._cut

    def reaches(self, one: str, other: str) -> bool:
        """Whether they can speak with each other, if both are up."""
        return self.passes(one, other) and self.passes(other, one)

    def up(self, node: str) -> bool:
        process = self.processes.get(node)
        return process is not None and process.alive and not process.paused

    def latency(self) -> float:
        """The delay of one message."""
        random = self.loop.random
        if random.random() < self.weather.slow:
            return random.uniform(0.0, self.weather.slow_delay)
        return random.uniform(0.1, 1.0) * self.weather.delay

    def _lost(self) -> bool:
        return self.loop.random.random() < self.weather.loss

    # --- requests ---------------------------------------------------------------------------------------------------

    def call(self, caller: Process, call: Call, done: Done) -> None:
        """Send a request; ``done`` is told its answer, or an error when its time is up."""
        ended = False

        def finish(value: Any, error: BaseException | None) -> None:
            nonlocal ended
            if not ended:
                ended = True
                done(value, error)

        if call.node == caller.node:
            self._run(caller, caller, call.method, dict(call.args), bytes(call.blob), finish)
            return
        target = self.processes.get(call.node)
        if (target is None or not target.alive) and self.reaches(caller.node, call.node):
            caller.at(self.latency(), lambda: finish(None, Unreachable(f"{call.node} refused the connection")))
            return
        caller.at(call.timeout, lambda: finish(None, CallTimeout(f"{call.node} did not answer in time")))
        packed, blob = msgpack.packb(dict(call.args), use_bin_type=True), bytes(call.blob)
        # Requests between nodes may be sent again on a fresh connection; nobody repeats a forwarded DAV request blindly.
        repeated = call.method != "dav" and self.loop.random.random() < self.weather.repeat
        for _ in range(2 if repeated else 1):
            self._send(caller, call.node, call.method, packed, blob, finish)

    def _send(self, caller: Process, node: str, method: str, packed: bytes, blob: bytes, finish: Done) -> None:
        if self._lost():
            return

        def answered(target: Process, value: Any, error: BaseException | None) -> None:
            if self._lost():
                return
            answer = _to_wire(value, error)

            def arrive() -> None:
                if self.passes(node, caller.node):
                    caller.deliver(lambda: finish(*_from_wire(answer)))

            self.loop.at(self.latency(), arrive)

        def arrive() -> None:
            target = self.processes.get(node)
            if target is not None and self.passes(caller.node, node):
                args = msgpack.unpackb(packed, raw=False, strict_map_key=False)
                run = lambda: self._run(  # noqa: E731
                    target, caller, method, args, blob, lambda value, error: answered(target, value, error)
                )
                target.deliver(run)

        self.loop.at(self.latency() + self.extra_delay(node, method), arrive)

    def _run(
        self, target: Process, caller: Process, method: str, args: dict[str, Any], blob: bytes, done: Done
    ) -> None:
        if self.serve is None:
            raise RuntimeError("nobody serves requests yet")
        self.serve(target, caller.node, method, args, blob, done)


def _to_wire(value: Any, error: BaseException | None) -> bytes:
    if isinstance(error, DavfsError):
        return bytes(msgpack.packb(["error", error.code, error.message, error.data], use_bin_type=True))
    if error is not None:
        return bytes(msgpack.packb(["error", DavfsError.code, repr(error), {}], use_bin_type=True))
    return bytes(msgpack.packb(["reply", value.value, value.blob], use_bin_type=True))


def _from_wire(data: bytes) -> tuple[Any, DavfsError | None]:
    kind, *rest = msgpack.unpackb(data, raw=False, strict_map_key=False)
    if kind == "reply":
        return Reply(*rest), None
    code, message, values = rest
    return None, by_code(code)(message, **values)
