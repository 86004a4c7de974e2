"""Asking before an election (pre-vote; Ongaro's dissertation, 9.6): who cannot win does not disturb who leads.

PySyncObj raises its term as soon as it misses a leader, and a higher term deposes the leader whatever the log. A member that
was paused or cut off on one side would do so again and again. Here it first asks the others; only when a majority has not
heard of a leader either, and finds its log complete enough, it goes on. A gate before Raft's own election, never a part of
it: losing or repeating these messages costs time, not safety. Pure.
"""

from __future__ import annotations


class Canvass:
    """The rounds of one member among ``voters`` (itself included)."""

    def __init__(self, voters: int) -> None:
        self._voters = voters
        self._round = 0
        self._for: set[str] = set()

    def begin(self) -> int:
        """Start a round; its number goes out with the question and comes back with the answers."""
        self._round += 1
        self._for = set()
        return self._round

    def approve(self, peer: str, number: int) -> bool:
        """Count a peer's approval of a round; true once, when a majority is reached."""
        if number != self._round or peer in self._for:
            return False
        self._for.add(peer)
        # One more than those who approved: this member itself.
        return len(self._for) + 1 == self._voters // 2 + 1


def approves(own: tuple[int, int], asking: tuple[int, int], *, leads: bool, silent_for: float, patience: float) -> bool:
    """Whether a member would vote. ``own``, ``asking``: (term, index) of the last entries; times in seconds.

    ``silent_for``: since a leader was last heard; below ``patience`` there still is one.
    """
    return not leads and silent_for >= patience and asking >= own
