"""A stand-in for consensus that keeps its promises and uses every freedom they leave.

One linearizable log of commands. Each node applies it with a lag of its own into a state machine of its own; a command
gets in only through a leader that reaches a majority; its answer may be lost, it may get in long after its sender gave
up, and it may get in twice. Members come and go one at a time, by the rules of ``consensus/membership.py``; a member that
is far behind gets a snapshot. ``tests/conformance/test_raft.py`` runs one suite over this and the real one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgpack

from davfs.consensus.membership import Change, Members, objection
from davfs.core.cluster_state import ClusterState
from davfs.core.errors import ConsensusUnavailable
from davfs.core.quorum import is_majority
from davfs.sim.loop import Done, Loop, Process
from davfs.sim.network import Network

ELECTION_S = 0.5
RETRY_S = 0.05


class SimRaft:
    """The log, the leader, and each node's member. ``late`` and ``twice`` are probabilities for each command; ``state`` is
    what all members will come to, ``on_append(verb)`` is told of each command that got in. ``snapshots``: one is made after
    so many commands (0: never), and loaded by whoever lacks more than that."""

    def __init__(
        self, loop: Loop, network: Network, voters: Sequence[str], machine: Callable[[], Any] = ClusterState, snapshots: int = 0
    ) -> None:
        self.log: list[bytes] = []
        self.leader = voters[0]
        self.term = 1
        self.late = 0.0
        self.twice = 0.0
        self.lag = 0.005
        self.machine = machine
        self.state: Any = machine()
        self.snapshots = snapshots
        self.snapshot: tuple[int, bytes] = (0, b"")  # up to which command, and the machine's dump
        self.members = Members(tuple(voters))
        self.on_append: Callable[[str], None] = lambda verb: None
        self._loop = loop
        self._network = network
        self._members: dict[str, Member] = {}
        self._shut_out: set[str] = set()  # nodes that the membership does not name (any more)
        loop.at(ELECTION_S, self._watch)

    def join(self, process: Process) -> Member:
        """A member for one life of a node; its machine begins empty and applies the log anew."""
        member = Member(self, self._loop, process)
        self._members[process.node] = member
        member.catch_up()
        return member

    def reaches_majority(self, node: str) -> bool:
        """Whether a node and those it reaches are a majority."""
        return node in self.voters and self._reaches(node, self.voters)

    def _reaches(self, node: str, voters: Sequence[str]) -> bool:
        network = self._network
        reached = [n for n in voters if network.up(n) and (n == node or network.reaches(node, n))]
        return network.up(node) and is_majority(reached, voters)

    @property
    def voters(self) -> tuple[str, ...]:
        return self.members.voters

    def expel(self, node: str) -> None:
        """A node votes no longer; the others are asked before (``leads_without``)."""
        self.members = Members(tuple(name for name in self.voters if name != node))
        self._members.pop(node, None)

    def enlist(self, node: str) -> None:
        """A node that has the whole log votes from now on."""
        if node not in self.voters:
            self.members = Members((*self.voters, node))

    def has_all(self, node: str) -> bool:
        """Whether a node is up and has applied the whole log."""
        member = self._members.get(node)
        return self._network.up(node) and member is not None and member.applied == len(self.log)

    def leads_without(self, node: str) -> bool:
        """Whether a change that expels a node can be committed now, by both the old voters and the new."""
        rest = [name for name in self.voters if name != node]
        reached = [n for n in rest if self._network.up(n) and self._network.reaches(self.leader, n)]
        return self.leader != node and self.reaches_majority(self.leader) and is_majority(reached, rest)

    def shut_out(self, node: str) -> None:
        """A node gets nothing until the membership names it."""
        self._shut_out.add(node)

    def reconfigure(self, node: str, before: Members, after: Members) -> bool:
        """What ``consensus.raft.RaftNode.reconfigure`` does when ``node`` asks: whether the change is committed."""
        behind = {name: len(self.log) - member.applied for name, member in self._members.items()}
        if node != self.leader or objection(Change(before, after), self.members, node, behind):
            return False
        if not self.reaches_majority(node) or not self._reaches(node, after.voters):
            return False
        self.members = after
        self._shut_out = (self._shut_out | set(before.everyone)) - set(after.everyone)
        self._loop.note(f"raft: {', '.join(after.voters)} vote; {', '.join(after.learners) or 'nobody'} learns")
        return True

    def hand_over(self, node: str) -> None:
        """Another member leads instead of ``node``, if there is one that can."""
        able = [name for name in self.voters if name != node and self.reaches_majority(name)]
        if node == self.leader and able:
            self._lead(self._loop.random.choice(able))

    def _lead(self, node: str) -> None:
        self.leader = node
        self.term += 1
        self._loop.note(f"raft: {node} leads term {self.term}")

    def _watch(self) -> None:
        """Elect another leader when this one cannot lead; now and then for no reason at all."""
        random = self._loop.random
        if not self.reaches_majority(self.leader) or random.random() < 0.01:
            able = [node for node in self.voters if self.reaches_majority(node)]
            if able:
                self._lead(random.choice(able))
        self._loop.at(random.uniform(0.5, 1.5) * ELECTION_S, self._watch)

    def can_append(self, node: str) -> bool:
        """Whether a command that comes in at ``node`` gets into the log now."""
        direct = node == self.leader or (self._network.up(node) and self._network.reaches(node, self.leader))
        return direct and node not in self._shut_out and self.reaches_majority(self.leader)

    def append(self, command: bytes) -> int:
        """Put a command in the log; its index, from 1."""
        self.log.append(command)
        decoded = tuple(msgpack.unpackb(command, raw=False, strict_map_key=False))
        self.state.apply(decoded)
        if self.snapshots and len(self.log) % self.snapshots == 0:
            self.snapshot = len(self.log), self.state.dump()
        self.on_append(decoded[1])
        for member in list(self._members.values()):
            member.catch_up()
        return len(self.log)


class Member:
    """One node's part, in one of its lives."""

    def __init__(self, raft: SimRaft, loop: Loop, process: Process) -> None:
        self.state = raft.machine()
        self.applied = 0
        self.on_applied: Callable[[], None] = lambda: None
        self._raft = raft
        self._loop = loop
        self._process = process
        self._results: dict[int, Any] = {}
        self._waiting: dict[int, list[Done]] = {}
        self._applying = False
        self._believed: tuple[int, bool] = (0, False)

    @property
    def is_leader(self) -> bool:
        """Whether this node believes that it leads; one that is cut off learns of its successor only later."""
        node = self._process.node
        if self._raft.leader == node or self._raft.reaches_majority(node):
            self._believed = (self._raft.term, self._raft.leader == node)
        return self._believed[1]

    @property
    def members(self) -> Members:
        return self._raft.members

    def hand_over(self) -> None:
        """Ask another member to lead."""
        self._raft.hand_over(self._process.node)

    def reconfigure(self, before: Members, after: Members, done: Done) -> None:
        """Change the membership; the answer may be lost."""
        random, name = self._loop.random, self._process.node

        def change() -> None:
            changed = self._raft.reconfigure(name, before, after)
            if changed and random.random() < self._raft.late:
                done(None, ConsensusUnavailable("Raft did not confirm a change of its members"))
            else:
                done(changed, None)

        self._process.at(random.uniform(0.0, 0.003), change)

    @property
    def term(self) -> int:
        return self._raft.term if self._raft.leader == self._process.node else self._believed[0]

    def catch_up(self) -> None:
        """Apply what is new, with this node's lag."""
        if not self._applying and self.applied < len(self._raft.log):
            self._applying = True
            slow = self._loop.random.random() < 0.05
            longest = min(1.5, self._raft.lag * 50) if slow else self._raft.lag
            self._process.at(self._loop.random.uniform(0.0, longest), self._apply_some)

    def _apply_some(self) -> None:
        self._applying = False
        raft, node = self._raft, self._process.node
        if node != raft.leader and not raft.can_append(node):  # nothing comes from the leader right now
            self._process.at(RETRY_S, self.catch_up)
            return
        if raft.snapshots and self.applied + raft.snapshots < raft.snapshot[0]:
            self.applied = raft.snapshot[0]
            self.state.load(raft.snapshot[1])
            for index in [index for index in self._waiting if index <= self.applied]:
                del self._waiting[index]  # who waits is told nothing
        behind = len(raft.log) - self.applied
        for _ in range(self._loop.random.randint(1, behind) if behind else 0):
            command = msgpack.unpackb(raft.log[self.applied], raw=False, strict_map_key=False)
            self.applied += 1
            result = self.state.apply(tuple(command))
            for done in self._waiting.pop(self.applied, []):
                done(result, None)
        self.on_applied()
        self.catch_up()

    def submit(self, command: tuple[Any, ...], timeout: float, done: Done) -> None:
        """Try to get a command into the log until time is up; the answer comes once it is applied here."""
        random, loop, process = self._loop.random, self._loop, self._process
        data = bytes(msgpack.packb(command, use_bin_type=True))
        ended = False

        def finish(value: Any, error: BaseException | None) -> None:
            nonlocal ended
            if not ended:
                ended = True
                done(value, error)

        def attempt() -> None:
            if ended:
                return
            if not self._raft.can_append(process.node):
                process.at(RETRY_S, attempt)
                return
            index = self._raft.append(data)
            loop.note(f"raft {index}: {process.node} {command[1]}")
            if random.random() < self._raft.twice:
                self._raft.append(data)
            self._waiting.setdefault(index, []).append(finish)

        def stray() -> None:
            """The command was on its way for long, and gets in although nobody waits for it any more."""
            if self._raft.reaches_majority(self._raft.leader):
                loop.note(f"raft {self._raft.append(data)}: stray {process.node} {command[1]}")

        def give_up() -> None:
            finish(None, ConsensusUnavailable(f"Raft did not confirm {command[1]} in time; it may yet be applied"))

        process.at(timeout, give_up)
        if random.random() < self._raft.late:
            loop.at(random.uniform(0.0, 2 * timeout), stray)
        else:
            process.at(random.uniform(0.0, 0.003), attempt)
