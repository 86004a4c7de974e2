"""What changed, and when: marks in the index that collection etags and sync-collection are made of. May import only core.

``entry.changed`` is the seq of the last record that touched an entry itself, ``entry.moved`` that of a directory's last
rename, a directory's ``etag`` carries the seq of the last record that touched anything below it, and ``gone`` keeps names
that nothing has any more. A record costs one update for each collection above what it touches, once for many records that
are entered together. All of it follows from the records alone, however they are cut into transactions.
"""

from __future__ import annotations

import sqlite3

from davfs.core.model import DIRECTORY, ROOT, ROOTS

GONE_KEPT = 200_000
"""Names that are remembered after they went; a client that is further behind reads everything anew."""

PRUNE_EVERY = 1024  # records

_STAMP = (
    f"UPDATE entry SET etag = inode || '.' || printf('%x', ?) WHERE inode = ? AND kind = '{DIRECTORY}' RETURNING parent"
)
_BOUND = "SELECT seq FROM gone ORDER BY seq DESC LIMIT 1 OFFSET ?"


class ChangeMarks:
    """Used for one transaction. ``root``: seq of the last change below the root, the caller's to store."""

    def __init__(self, db: sqlite3.Connection, root: int) -> None:
        self._db = db
        self.root = root
        self.seq = 0  # of the record that is being entered
        self._touched: dict[str, int] = {}

    def below(self, directory: str) -> None:
        """Something in a directory changed."""
        self._touched[directory] = self.seq

    def entry(self, inode: str) -> None:
        """An entry's content or properties changed."""
        if inode == ROOT:
            self.below(ROOT)
            return
        rows = self._db.execute("UPDATE entry SET changed = ? WHERE inode = ? RETURNING parent, kind", (self.seq, inode))
        for parent, kind in rows.fetchall():
            self.below(inode if kind == DIRECTORY else parent)

    def gone(self, parent: str, name: str, directory: str) -> None:
        """A name was taken from a directory; nothing is remembered of what nobody could see. ``directory``: the inode that had
        it, "" if that was a file."""
        self.below(parent)
        if self._visible(parent):
            self._db.execute("INSERT OR IGNORE INTO gone VALUES (?, ?, ?, ?)", (self.seq, parent, name, directory))

    def _visible(self, directory: str) -> bool:
        seen: set[str] = set()
        while directory not in ROOTS and directory not in seen:
            seen.add(directory)
            row = self._db.execute("SELECT parent FROM entry WHERE inode = ?", (directory,)).fetchone()
            if row is None:
                return False
            directory = row[0]
        return directory == ROOT

    def prune(self) -> None:
        """Forget the oldest names beyond the bound; for after each record, so that all replicas forget the same."""
        if self.seq % PRUNE_EVERY == 0:
            bound = self._db.execute(_BOUND, (GONE_KEPT,)).fetchone()
            if bound is not None:
                self._db.execute("DELETE FROM gone WHERE seq <= ?", bound)
                self._db.execute("UPDATE state SET gone_floor = ?", bound)

    def finish(self) -> None:
        """Give every collection above what was touched its new etag."""
        stamped: set[str] = set()
        for inode, seq in sorted(self._touched.items(), key=lambda item: -item[1]):
            directory = inode
            while directory not in stamped and directory not in ROOTS[1:]:
                stamped.add(directory)
                if directory == ROOT:
                    self.root = seq
                    break
                parents = self._db.execute(_STAMP, (seq, directory)).fetchall()
                if not parents:
                    break
                directory = parents[0][0]
        self._touched.clear()
