"""Quorum arithmetic: majorities of the configured set, and how far a majority has got.

While a set of replicas changes, two sets decide, and what is asked is a majority of each (``replica_set.py``): such a
*joint* majority meets every majority of either set.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping


def majority(configured: int) -> int:
    """How many of ``configured`` members are a majority (for even numbers too)."""
    return configured // 2 + 1


def is_majority(members: Iterable[str], configured: Iterable[str]) -> bool:
    """Whether the members that are configured are a majority of the configured set."""
    wanted = set(configured)
    return len(wanted.intersection(members)) >= majority(len(wanted))


def reached_by_majority(progress: Mapping[str, int], configured: Iterable[str]) -> int:
    """The highest number that a majority of the configured set has reached; members without progress count as 0."""
    marks = sorted((progress.get(member, 0) for member in set(configured)), reverse=True)
    return marks[majority(len(marks)) - 1] if marks else 0


def is_joint_majority(members: Iterable[str], sets: Iterable[Iterable[str]]) -> bool:
    """Whether the members are a majority of every one of the sets."""
    found = set(members)
    return all(is_majority(found, configured) for configured in sets)


def reached_jointly(progress: Mapping[str, int], sets: Iterable[Iterable[str]]) -> int:
    """The highest number that majorities of all sets have reached; 0 without any set."""
    return min((reached_by_majority(progress, configured) for configured in sets), default=0)
