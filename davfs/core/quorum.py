"""Quorum arithmetic: majorities of the configured set, and how far a majority has got."""

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
