"""Drives protocols with threads: each runs in the thread that calls it, requests to nodes in a bounded pool.

The production counterpart of the simulator's loop. Nothing here knows what the protocols do.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol, TypeVar

from davfs.cluster.reading import ReadMemory
from davfs.cluster.service import Handler
from davfs.core.effects import (
    Call,
    Effect,
    Gather,
    Outcome,
    Outcomes,
    Protocol_,
    Reconfigure,
    Reply,
    Sleep,
    Spawn,
    Submit,
    Wait,
)
from davfs.core.errors import DavfsError, Unavailable

log = logging.getLogger(__name__)

Result = TypeVar("Result")

DIRECT_BYTES = 64 * 1024
"""Requests up to this size are sent by the thread that asks: a socket's buffer takes them without waiting."""


class Remote(Protocol):
    """Requests to other nodes (``rpc.client``)."""

    def call(
        self, node: str, method: str, args: Mapping[str, Any], blob: bytes | memoryview = b"", *, timeout: float
    ) -> tuple[Any, bytes]: ...

    def begin(
        self, node: str, method: str, args: Mapping[str, Any], blob: bytes | memoryview = b"", timeout: float = 5.0
    ) -> Any:
        """Send a call without waiting; None, and nothing was run, when that cannot be done at once."""

    def answered(self, exchanges: Collection[Any], timeout: float) -> list[Any]:
        """Which of some begun calls have an answer, waiting for the first."""

    def finish(self, exchange: Any) -> tuple[Any, bytes]:
        """The answer of a begun call."""


class ThreadSignal:
    """The protocols' ``Signal`` for threads. Whoever notifies asks the ``ready`` functions and wakes those alone who need
    wait no longer: each thread that is woken in vain delays all others of this process. They must take no locks."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[threading.Lock, Callable[[], bool]] = {}  # what each who waits sleeps on

    def notify(self) -> None:
        with self._lock:
            for bed in [bed for bed, ready in self._waiting.items() if _may_be(ready)]:
                del self._waiting[bed]
                bed.release()

    def wait(self, ready: Callable[[], bool], timeout: float) -> bool:
        ends = time.monotonic() + timeout
        bed = threading.Lock()
        bed.acquire()
        while not ready():
            with self._lock:
                if ready():  # what was announced from here on wakes us
                    return True
                self._waiting[bed] = ready
            left = ends - time.monotonic()
            if left <= 0 or not bed.acquire(timeout=left):
                with self._lock:
                    self._waiting.pop(bed, None)
                return ready()
        return True


def _cannot_reconfigure(before: Any, after: Any, timeout: float) -> bool:
    raise TypeError("only a member of Raft can change its membership")


def _may_be(ready: Callable[[], bool]) -> bool:
    try:
        return ready()
    except Exception:  # noqa: BLE001  it belongs to whoever waits
        return True


class ThreadRuntime:
    """Runs protocols. ``handlers`` answer calls of this node to itself; ``submit`` is Raft's."""

    def __init__(
        self, node: str, remote: Remote, submit: Callable[[tuple[Any, ...], float], Any], workers: int = 64,
        reconfigure: Callable[[Any, Any, float], bool] = _cannot_reconfigure,
    ) -> None:
        self.handlers: Mapping[str, Handler] = {}
        self._reconfigure = reconfigure
        self._node = node
        self._remote = remote
        self._submit = submit
        self._pool = ThreadPoolExecutor(workers, "call")
        self.read_memory = ReadMemory()
        self._closing = threading.Event()
        self._threads: list[threading.Thread] = []

    def run(self, protocol: Protocol_[Result]) -> Result:
        """Drive a protocol to its end, in this thread."""
        try:
            effect = protocol.send(None)
            while True:
                try:
                    result = self._perform(effect)
                except Exception as error:  # noqa: BLE001  whatever it is belongs to the protocol
                    effect = protocol.throw(error)
                else:
                    effect = protocol.send(result)
        except StopIteration as stop:
            value: Result = stop.value
            return value
        finally:
            protocol.close()

    def start(self, protocol: Protocol_[Any], name: str) -> None:
        """Drive a protocol in a thread of its own; its errors are logged."""
        thread = threading.Thread(target=self._run_logged, args=(protocol, name), name=name, daemon=True)
        self._threads = [t for t in self._threads if t.is_alive()] + [thread]
        thread.start()

    def ahead(self, protocol: Protocol_[Result]) -> Future[Result]:
        """Drive a protocol in the pool, for read-ahead. It must not wait for others of the pool without a limit."""
        return self._pool.submit(self.run, protocol)

    def close(self, limit: float = 5.0) -> None:
        """Let no task start anything new, and wait for those that run."""
        self._closing.set()
        for thread in self._threads:
            thread.join(limit / max(1, len(self._threads)))
        self._pool.shutdown(wait=False, cancel_futures=True)

    def handle(self, method: str, peer: str, args: Mapping[str, Any], blob: bytes) -> tuple[Any, bytes]:
        """Answer a request of a node (the RPC server's and this node's own)."""
        reply = self.run(self.handlers[method](peer, args, blob))
        return reply.value, reply.blob

    # --- effects ----------------------------------------------------------------------------------------------------

    def _perform(self, effect: Effect) -> Any:
        match effect:
            case Call():
                return self._call(effect)
            case Wait(signal=ThreadSignal() as signal, ready=ready, timeout=timeout):
                return signal.wait(ready, timeout)
            case Gather():
                return self._gather(effect)
            case Submit(command=command, timeout=timeout):
                return self._submit(command, timeout)
            case Reconfigure(before=before, after=after, timeout=timeout):
                return self._reconfigure(before, after, timeout)
            case Sleep(seconds=seconds):
                if self._closing.wait(seconds):
                    raise Unavailable("this node is stopping")
                return None
            case Spawn(task=task, name=name):
                return self.start(task, name)
            case _:
                raise TypeError(f"no thread can do {effect!r}")

    def _call(self, call: Call, exchange: Any = None) -> Reply:
        if exchange is not None:
            return Reply(*self._remote.finish(exchange))
        if call.node == self._node:
            return self.run(self.handlers[call.method](self._node, call.args, bytes(call.blob)))
        value, blob = self._remote.call(call.node, call.method, call.args, call.blob, timeout=call.timeout)
        return Reply(value, blob)

    def _outcome(self, call: Call, exchange: Any = None) -> Outcome:
        try:
            return self._call(call, exchange)
        except DavfsError as error:
            return error
        except Exception as error:
            log.exception("%s on %s", call.method, call.node)
            return Unavailable(f"{call.method} on {call.node} failed: {error!r}")

    def _gather(self, gather: Gather) -> Outcomes:
        if any(len(call.blob) > DIRECT_BYTES for call in gather.calls) or gather.enough({}):
            return self._gather_in_pool(gather, {})
        return self._gather_here(gather)

    def _gather_here(self, gather: Gather) -> Outcomes:
        """Send small requests, do this node's own, and read the answers, all in this thread: no other has to be woken."""
        begun: dict[Any, Call] = {}
        others: list[Call] = []
        for call in gather.calls:
            exchange = None
            if call.node != self._node:
                exchange = self._remote.begin(call.node, call.method, call.args, call.blob, call.timeout)
            if exchange is None:
                others.append(call)
            else:
                begun[exchange] = call
        if any(call.node != self._node for call in others):  # someone has to be dialled: that takes threads anyway
            return self._gather_in_pool(gather, begun, others)
        outcomes = {call.node: self._outcome(call) for call in others}
        ends = time.monotonic() + max(call.timeout for call in gather.calls) + 1
        while begun and not gather.enough(outcomes):
            answered = self._remote.answered(begun, ends - time.monotonic())
            if not answered:
                break
            for exchange in answered:
                call = begun.pop(exchange)
                outcomes[call.node] = self._outcome(call, exchange)
        for exchange, call in begun.items():
            self._pool.submit(self._finish_late, gather, call, exchange)
        return outcomes

    def _finish_late(self, gather: Gather, call: Call, exchange: Any) -> None:
        outcome = self._outcome(call, exchange)
        if gather.late is not None:
            gather.late(call.node, outcome)

    def _gather_in_pool(self, gather: Gather, begun: Mapping[Any, Call], others: Sequence[Call] | None = None) -> Outcomes:
        progress = threading.Condition()
        outcomes: Outcomes = {}
        returned = gather.enough({})

        def one(call: Call, exchange: Any = None) -> None:
            outcome = self._outcome(call, exchange)
            with progress:
                late = returned
                if not late:
                    outcomes[call.node] = outcome
                    progress.notify()
            if late and gather.late is not None:
                gather.late(call.node, outcome)

        detached = returned
        own = None
        for exchange, call in begun.items():
            self._pool.submit(one, call, exchange)
        for call in gather.calls if others is None else others:
            if call.node == self._node and not detached:
                own = call  # done by this thread, while the others are on their way
            else:
                self._pool.submit(one, call)
        if detached:
            return {}
        if own is not None:
            one(own)
        with progress:
            progress.wait_for(
                lambda: len(outcomes) == len(gather.calls) or gather.enough(outcomes),
                max(call.timeout for call in gather.calls) + 1,
            )
            returned = True
            return dict(outcomes)

    def _run_logged(self, protocol: Protocol_[Any], name: str) -> None:
        try:
            self.run(protocol)
        except Exception:
            if not self._closing.is_set():
                log.exception("the background task %s ended", name)
