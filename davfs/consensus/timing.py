"""Raft's timing, in seconds, and its sizes. Pure values."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RaftTiming:
    """Defaults: commits in about a millisecond and a fail-over in about half a second on a local network, half a percent
    of a core when idle. On links with more than 50 ms, raise heartbeat, elections and silence together."""

    tick: float = 0.08
    """The longest wait between two looks at the clock; work wakes the tick thread at once."""
    heartbeat: float = 0.15
    election_min: float = 0.5
    election_max: float = 0.9
    step_down: float = 1.0
    """A leader that hears no majority for so long stops being one."""
    silence: float = 1.0
    """A peer that sends nothing for so long is taken as disconnected."""
    reconnect: float = 0.2
    attempt: float = 2.0
    """How long a submit waits for one try before it sends the command again (same request id)."""
    compact_entries: int = 2000
    """Entries in the log that start a compaction."""
    compact_seconds: float = 300.0
    """Or so long after the last one."""
    max_command: int = 512 * 1024
    """Bytes of one encoded command."""
    max_append: int = 1024 * 1024
    """Bytes of entries in one message."""
