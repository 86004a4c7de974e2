"""How to take back records that entered documents and index although not a majority has them (policy ``available``).

While such a record is entered, triggers write for each row that it changes the statement that restores it (SQLite's own
recipe for undo); a holder that followed without these records has them taken back, at once with the cut of the log. What a
majority has (*firm*) is never taken back, and what would undo it is forgotten. May import only core.
"""

from __future__ import annotations

import sqlite3

TABLES = (
    "document", "document_change", "entry", "manifest", "segment", "property", "reply", "gone",
    "name_more", "shadow", "settled",
)  # fmt: skip
_SEAL = ("one", "incarnation", "sealed_incarnation", "sealed_counter")
"""What of table ``state`` no record changes."""

_NOTE = "INSERT INTO undo (seq, statement) VALUES ((SELECT seq FROM undo_seq), {})"


def begin(db: sqlite3.Connection, seq: int) -> None:
    """From now on, note how to undo what the record ``seq`` does."""
    if not _on(db):
        db.execute("PRAGMA recursive_triggers = 1")  # rows that REPLACE removes count too
        db.execute("CREATE TEMP TABLE undo_seq (seq INTEGER NOT NULL)")
        db.execute("INSERT INTO undo_seq VALUES (0)")
        for table in TABLES:
            _watch(db, table)
        columns = [column for column, _ in _columns(db, "state") if column not in _SEAL]
        text = _text(f"UPDATE state SET {_set(columns)}")
        db.execute(f"CREATE TEMP TRIGGER undo_state AFTER UPDATE ON main.state BEGIN {_NOTE.format(text)}; END")
    db.execute("UPDATE undo_seq SET seq = ?", (seq,))


def end(db: sqlite3.Connection) -> None:
    """Note nothing more."""
    if _on(db):
        for (name,) in db.execute("SELECT name FROM temp.sqlite_master WHERE type = 'trigger'").fetchall():
            db.execute(f"DROP TRIGGER temp.{name}")
        db.execute("DROP TABLE temp.undo_seq")


def first(db: sqlite3.Connection) -> int | None:
    """The first seq that can be undone."""
    found: int | None = db.execute("SELECT min(seq) FROM undo").fetchone()[0]
    return found


def forget(db: sqlite3.Connection, seq: int) -> None:
    """Records up to ``seq`` are firm."""
    db.execute("DELETE FROM undo WHERE seq <= ?", (seq,))


def roll_back(db: sqlite3.Connection, to: int) -> None:
    """Undo all records behind ``to``, the newest first."""
    end(db)
    for (statement,) in db.execute("SELECT statement FROM undo WHERE seq > ? ORDER BY n DESC", (to,)).fetchall():
        db.execute(statement)
    db.execute("DELETE FROM undo WHERE seq > ?", (to,))


def _on(db: sqlite3.Connection) -> bool:
    return db.execute("SELECT 1 FROM temp.sqlite_master WHERE name = 'undo_seq'").fetchone() is not None


def _columns(db: sqlite3.Connection, table: str) -> list[tuple[str, bool]]:
    """(name, whether it is part of the primary key) of each column."""
    return [(row[1], row[5] > 0) for row in db.execute(f"PRAGMA main.table_info({table})")]


def _watch(db: sqlite3.Connection, table: str) -> None:
    columns = _columns(db, table)
    names = [name for name, _ in columns]
    key = [name for name, primary in columns if primary]
    here = " AND ".join(f"{name} = {{new.{name}}}" for name in key)
    undone = {
        "INSERT": f"DELETE FROM {table} WHERE {here}",
        "UPDATE": f"UPDATE {table} SET {_set(names)} WHERE {here}",
        "DELETE": f"INSERT INTO {table} ({', '.join(names)}) VALUES ({', '.join(f'{{old.{name}}}' for name in names)})",
    }
    for what, statement in undone.items():
        note = _NOTE.format(_text(statement))
        db.execute(f"CREATE TEMP TRIGGER undo_{table}_{what} AFTER {what} ON main.{table} BEGIN {note}; END")


def _set(names: list[str]) -> str:
    return ", ".join(f"{name} = {{old.{name}}}" for name in names)


def _text(statement: str) -> str:
    """The SQL expression of a statement, in which ``{old.x}`` stands for the value quoted."""
    parts = statement.replace("'", "''").replace("{", "' || quote(").replace("}", ") || '")
    return f"'{parts}'"
