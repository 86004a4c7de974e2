"""``davfs serve`` as it is recorded: the real command, with what takes minutes set to happen in seconds.

Raft compacts its log, documents lose their history and SQLite its write-ahead logs as soon as there is a little of them.
``CRASH_BROKEN`` names a way in which davfs is broken on purpose (``broken.py``).
"""

from __future__ import annotations

import os
from functools import partial

from davfs.cli.main import main
from davfs.cluster import site
from davfs.consensus import raft
from davfs.consensus.timing import RaftTiming
from davfs.node import main as node
from davfs.storage import raft_journal, schema
from tests.crash import broken

COMPACT_ENTRIES = 40
COMPACTION_S = 0.4
CHECKPOINT_PAGES = 24
GROWN_BYTES = 64 << 10


def sooner() -> None:
    """Lower the limits; in a process that is recorded only."""
    timing = partial(RaftTiming, compact_entries=COMPACT_ENTRIES, heartbeat=0.05, election_min=0.2, election_max=0.3)
    setattr(raft, "RaftTiming", timing)  # noqa: B010 - whose module does not export it
    setattr(node, "Timing", partial(site.Timing, compaction=COMPACTION_S))  # noqa: B010
    schema._CHECKPOINT_PAGES, schema._GROWN_BYTES = CHECKPOINT_PAGES, GROWN_BYTES
    prepare = raft_journal.RaftJournal._prepare

    def prepared(self: raft_journal.RaftJournal) -> None:
        prepare(self)
        self._db.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}").fetchall()

    raft_journal.RaftJournal._prepare = prepared  # type: ignore[method-assign]


if __name__ == "__main__":
    sooner()
    broken.breaks(os.environ.get("CRASH_BROKEN", ""))
    raise SystemExit(main())
