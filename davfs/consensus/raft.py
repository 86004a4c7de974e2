"""One node's part in Raft: submit commands, wait for them, and learn who leads.

The tick thread owns PySyncObj; every public method may be called from any other thread, and every wait has a limit. May
import nothing of davfs but core.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from pysyncobj.config import FAIL_REASON

from davfs.consensus import membership, wire
from davfs.consensus.engine import NO_OP, REGULAR, Callbacks, Engine
from davfs.consensus.journal import DurableJournal
from davfs.consensus.membership import Change, Members
from davfs.consensus.timing import RaftTiming
from davfs.consensus.transport import FrameTransport
from davfs.core.errors import ConsensusUnavailable, CorruptData, DavfsError, InvalidInput, StorePoisoned
from davfs.core.ports import FrameNetwork, JournalStore, StateMachine

log = logging.getLogger(__name__)

Result = TypeVar("Result")

_REASONS = {
    value: name.lower().replace("_", " ") for name, value in vars(FAIL_REASON).items() if isinstance(value, int)
}


class _Attempt:
    """One try of a command: what came of it, once something has."""

    def __init__(self) -> None:
        self.ended = threading.Event()
        self.value: Any = None
        self.reason = FAIL_REASON.UNKNOWN_OUTCOME

    def done(self, value: Any, reason: int) -> None:
        self.value, self.reason = value, reason
        self.ended.set()


class RaftNode:
    """A member of the cluster, with its replica of ``machine``.

    ``voters``: who votes until the log says otherwise. Without its own name this member begins as a learner: it follows the
    log, and votes once the log names it (``reconfigure``). ``cautious``: with a blank log it takes no part until
    ``release``, for it may be the successor of a member that voted.

    Takes ownership of ``store`` and ``network`` and closes both. The constructor loads the machine from the last snapshot and
    starts; committed entries follow as soon as a leader is known.
    """

    def __init__(
        self,
        name: str,
        voters: Iterable[str],
        store: JournalStore,
        machine: StateMachine,
        network: FrameNetwork,
        timing: RaftTiming | None = None,
        *,
        cautious: bool = False,
    ) -> None:
        self.name = name
        self._timing = timing or RaftTiming()
        self._machine = machine
        self._network = network
        self._changed = threading.Condition(threading.RLock())
        self._on_applied: list[Callable[[], None]] = []
        self._on_leadership: list[Callable[[int, bool], None]] = []
        self._requests: deque[Callable[[], None]] = deque()
        self._stop = threading.Event()
        self._fatal: DavfsError | None = None
        founders = sorted(set(voters))
        peers = [voter for voter in founders if voter != name]
        journal = DurableJournal(store)
        self._transport = FrameTransport(peers, journal.boot, network, self._timing, journal.flush)
        callbacks = Callbacks(self._apply, machine.dump, self._load, self._applied, self._leadership)
        try:
            self._engine = Engine(name, founders, journal, self._transport, callbacks, self._timing)
        except BaseException:  # a snapshot of a newer davfs, for one
            self._transport.destroy()
            store.close()
            raise
        self._journal = journal
        self._transport.held = cautious and self.blank and bool(peers)
        network.set_peers(self._transport.peers)
        network.start(self._transport.deliver)
        self._thread = threading.Thread(target=self._run, name=f"raft-{name}", daemon=True)
        self._thread.start()

    # --- commands ---------------------------------------------------------------------------------------------------

    def submit(self, command: tuple[Any, ...], timeout: float) -> Any:
        """Replicate a command and return what the machine answered, once it is committed and applied here.

        ``command``: plain values (None, bool, int, float, str, bytes, list, dict); sequences inside arrive at the machine
        as lists. It carries a request id and is idempotent by it, for it is sent again while ``timeout`` (seconds) lasts.
        :class:`ConsensusUnavailable`: no leader, no majority or no answer in time; the command may yet be applied, once.
        """
        data = wire.encode_command(command)
        if len(data) > self._timing.max_command:
            raise InvalidInput(
                f"a command of {len(data)} bytes is too large for Raft (at most {self._timing.max_command})"
            )
        return self._replicate(REGULAR, data, timeout)

    def barrier(self, timeout: float) -> None:
        """Wait until the machine here is at least as new as anything committed before the call."""
        self._replicate(NO_OP, b"", timeout)

    def reconfigure(self, before: Members, after: Members, timeout: float) -> bool:
        """As the leader, put ``after`` in the place of the membership ``before``: one voter more or less, or learners.

        False: it was refused (not the leader, the one before it not committed yet, a learner not caught up): look again,
        later. True: it is committed. :class:`ConsensusUnavailable`: unknown.
        """
        if not self.is_leader:
            return False
        attempt = _Attempt()
        self._engine.propose(membership.CONFIG, membership.encode(Change(before, after)), attempt.done)
        attempt.ended.wait(timeout)
        self._check()
        if not attempt.ended.is_set() or attempt.reason == FAIL_REASON.UNKNOWN_OUTCOME:
            raise ConsensusUnavailable(f"Raft did not confirm a change of its members within {timeout:g} s")
        return bool(attempt.reason == FAIL_REASON.SUCCESS)

    @property
    def blank(self) -> bool:
        """Whether this member has never voted nor held an entry of a leader, as far as its disk remembers."""
        return self._journal.snapshot is None and self._journal.last.index <= 1 and self._journal.getCurrentTerm() == 0

    @property
    def held(self) -> bool:
        """Whether this member takes no part yet."""
        return self._transport.held

    def release(self) -> None:
        """Let a cautious member take part from now on."""
        self._transport.held = False

    def hand_over(self) -> None:
        """Ask another member to lead, if this one does and another has everything."""
        self._requests.append(self._engine.hand_over)
        self._transport.wake()

    def _replicate(self, kind: bytes, data: bytes, timeout: float) -> Any:
        deadline = time.monotonic() + timeout
        reason = FAIL_REASON.MISSING_LEADER
        while (left := deadline - time.monotonic()) > 0:
            self._check()
            if self.leader is None:
                time.sleep(min(left, 0.01))
                continue
            attempt = _Attempt()
            self._engine.propose(kind, data, attempt.done)
            attempt.ended.wait(min(left, self._timing.attempt))
            reason = attempt.reason
            if reason == FAIL_REASON.SUCCESS:
                if isinstance(attempt.value, Exception):
                    raise attempt.value
                return attempt.value
            if attempt.ended.is_set():
                time.sleep(min(0.01, max(0.0, deadline - time.monotonic())))
        self._check()
        raise ConsensusUnavailable(
            f"Raft did not confirm a command within {timeout:g} s ({_REASONS.get(reason, reason)}); it may yet be applied."
            " Check that a majority of the voting nodes is up and reachable"
        )

    # --- what is known here -----------------------------------------------------------------------------------------

    @property
    def leader(self) -> str | None:
        """The name of the leader as far as this node knows: possibly deposed already. None: unknown or unreachable."""
        node = self._engine._getLeader()
        if node is None or self._stop.is_set() or self._fatal is not None:
            return None
        leader = str(node.id)
        return leader if leader == self.name or self._transport.connected(leader) else None

    @property
    def is_leader(self) -> bool:
        """Whether this node believes that it leads. Another may have taken over already."""
        if self._stop.is_set() or self._fatal is not None:
            return False
        return bool(self._engine._isLeader())

    @property
    def term(self) -> int:
        return int(self._engine.raftCurrentTerm)

    @property
    def applied_index(self) -> int:
        """The index of the last entry that the machine has applied."""
        return int(self._engine.raftLastApplied)

    @property
    def members(self) -> Members:
        """Voters and learners, as far as this member's log goes."""
        return self._engine.members

    @property
    def connected_peers(self) -> list[str]:
        """The members, other than this, that messages can be sent to right now."""
        return sorted(str(node.id) for node in self._transport.nodes if self._transport.connected(str(node.id)))

    def read(self, look: Callable[[], Result]) -> Result:
        """Look at the machine while no command is being applied. ``look`` must not wait."""
        with self._changed:
            return look()

    def wait_applied(self, predicate: Callable[[], bool], timeout: float) -> bool:
        """Wait until ``predicate()`` holds of the machine here, looking again after each application; False: it did not.

        The predicate runs while no command is being applied and must not wait.
        """
        with self._changed:
            return self._changed.wait_for(predicate, timeout)

    def on_applied(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` after each batch of applied commands, on the tick thread: it must return at once."""
        self._on_applied.append(callback)

    def on_leadership(self, callback: Callable[[int, bool], None]) -> None:
        """Call ``callback(term, leads)`` when this node begins or ceases to lead, on the tick thread: return at once.

        If it leads already, the callback is called now; it may then be told of the same term twice.
        """
        self._on_leadership.append(callback)
        if self.is_leader:
            callback(self.term, True)

    # --- end --------------------------------------------------------------------------------------------------------

    def resign(self, timeout: float = 0.5) -> None:
        """If this node leads, let another do so, and wait at most ``timeout`` seconds for it. The network must still deliver:
        this node has to hear who has everything, and of the election."""
        if not self.is_leader:
            return
        self.hand_over()
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline and self._thread.is_alive() and self.is_leader:
            time.sleep(0.01)

    def close(self) -> None:
        """Stop, as if it had crashed: call :meth:`resign` before, or the others wait for an election."""
        if self._stop.is_set():
            return
        self._stop.set()
        self._transport.wake()
        self._thread.join(timeout=10)
        self._network.close()
        self._engine.close()
        with self._changed:
            self._changed.notify_all()

    # --- tick thread ------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        warned_at = float("-inf")
        while not self._stop.is_set():
            try:
                while self._requests:
                    self._requests.popleft()()
                self._engine.tick()
            except (StorePoisoned, CorruptData) as error:
                log.critical("this node no longer takes part in Raft: %s", error)
                self._fatal = error
                return
            except Exception:  # one message or a full disk must not end the node's part
                if time.monotonic() - warned_at > 10:
                    warned_at = time.monotonic()
                    log.exception("Raft could not do a step and tries again")
                self._stop.wait(self._timing.tick)

    def _apply(self, data: bytes) -> Any:
        with self._changed:
            try:
                return self._machine.apply(wire.decode_command(data))
            except Exception as error:
                log.exception("a command failed in the state machine")
                return InvalidInput(f"the state machine failed on a command: {error!r}")

    def _load(self, data: bytes) -> None:
        with self._changed:
            self._machine.load(data)

    def _applied(self) -> None:
        with self._changed:
            self._changed.notify_all()
        for callback in self._on_applied:
            with self._logged():
                callback()

    def _leadership(self, term: int, leads: bool) -> None:
        log.info("%s %s in term %d", self.name, "leads" if leads else "leads no more", term)
        for callback in self._on_leadership:
            with self._logged():
                callback(term, leads)

    @contextlib.contextmanager
    def _logged(self) -> Any:
        try:
            yield
        except Exception:
            log.exception("a callback of Raft failed")

    def _check(self) -> None:
        if self._fatal is not None:
            raise self._fatal
        if self._stop.is_set():
            raise ConsensusUnavailable("this node is stopping")
