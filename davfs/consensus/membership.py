"""Who belongs to Raft: voters, and learners that follow the log without a vote. Changed by entries of the log itself.

Single-server changes (Ongaro's dissertation, 4.1 to 4.2): an entry carries the whole new membership, counts from the moment
it is in a member's log (committed or not), and goes when the log is cut. At most one voter comes or goes with each, and none
is begun before the one before it is committed: so any two majorities that can decide have a member in common.
Pure; msgpack only.
"""

from __future__ import annotations

from typing import NamedTuple

import msgpack

CONFIG = b"\4members"
"""How an entry that holds a membership begins. The first bytes of PySyncObj's own kinds end with 3."""

FORMAT = 1
CAUGHT_UP = 200
"""Entries that a learner may be behind the commit index when it becomes a voter: it has them within moments."""

_MAGIC = b"davfs-members-1\0"


class Members(NamedTuple):
    """Names, sorted. Whoever is in neither tuple takes no part."""

    voters: tuple[str, ...]
    learners: tuple[str, ...] = ()

    @property
    def everyone(self) -> tuple[str, ...]:
        return tuple(sorted({*self.voters, *self.learners}))


class Change(NamedTuple):
    """A proposed membership and the one that it was made from."""

    before: Members
    after: Members


def members(voters: object, learners: object = ()) -> Members:
    """A membership in its one form; :class:`ValueError` for names that are no texts or stand in both tuples."""
    if not isinstance(voters, (list, tuple, set, frozenset)) or not isinstance(learners, (list, tuple, set, frozenset)):
        raise ValueError("a membership is two lists of names")
    made = Members(tuple(sorted(set(voters))), tuple(sorted(set(learners))))
    if not all(isinstance(name, str) for name in made.everyone) or len(made.everyone) != len(voters) + len(learners):
        raise ValueError("a membership names a node twice, or by something that is no text")
    return made


def encode(change: Change) -> bytes:
    """The entry's body, behind :data:`CONFIG`."""
    return bytes(msgpack.packb([FORMAT, [list(map(list, change.before)), list(map(list, change.after))]], use_bin_type=True))


def decode(entry: bytes) -> Change | None:
    """The change in an entry, None for an entry of another kind; :class:`ValueError` for a damaged one."""
    if not entry.startswith(CONFIG):
        return None
    try:
        version, (before, after) = msgpack.unpackb(entry[len(CONFIG) :], raw=False)
        if version != FORMAT:
            raise ValueError(f"a membership of format {version} is unknown here (known: {FORMAT})")
        return Change(members(*before), members(*after))
    except (TypeError, ValueError, msgpack.UnpackException) as error:
        raise ValueError(f"not a membership: {error}") from error


def objection(change: Change, now: Members, leader: str, behind: dict[str, int]) -> str:
    """Why a leader must not append a change; "" if it may. ``behind``: entries that a node lacks of what is committed."""
    before, after = change
    if before != now:
        return "the membership has changed since"
    if leader not in after.voters:
        return "a leader does not remove itself: it hands over first"
    if len(set(before.voters) ^ set(after.voters)) > 1:
        return "more than one voter would come or go"
    for name in set(after.voters) - set(before.voters):
        if behind.get(name, CAUGHT_UP + 1) > CAUGHT_UP:
            return f"{name} has not caught up"
    return ""


# --- in snapshots: what the cut-off part of the log said about membership ---------------------------------------------


def wrap(known: Members | None, state: bytes) -> bytes:
    """A snapshot's data: the membership as of it, if the log ever named one, and the machine's state."""
    if known is None:
        return state
    head = bytes(msgpack.packb(list(map(list, known)), use_bin_type=True))
    return _MAGIC + len(head).to_bytes(4, "big") + head + state


def known_in(data: bytes) -> Members | None:
    """The membership in a snapshot's data, None without one."""
    if not data.startswith(_MAGIC):
        return None
    start = len(_MAGIC) + 4
    size = int.from_bytes(data[len(_MAGIC) : start], "big")
    return members(*msgpack.unpackb(data[start : start + size], raw=False))


def state_in(data: bytes) -> bytes:
    """The machine's state in a snapshot's data."""
    if not data.startswith(_MAGIC):
        return data
    start = len(_MAGIC) + 4
    return data[start + int.from_bytes(data[len(_MAGIC) : start], "big") :]
