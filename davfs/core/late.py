"""Late records: records of a holder that another followed without having them. What each was, and what became of it.

Pure: may import only core.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import NamedTuple

from davfs.core import keys, values
from davfs.core.facts import copy_inode
from davfs.core.model import FILE, ROOT, TRASH, Manifest, Position
from davfs.core.record import OPERATION, Record
from davfs.core.settling import Words
from davfs.core.values import NameEntry

COPY = "copy"  # a PUT of a strict volume, now a conflict copy
MERGED = "merged"  # brought in by the table
DROPPED = "dropped"  # of no effect: nobody was promised it
NOTHING = "nothing"  # it changed nothing that people see (start records, lists of chunks), or was done anyway

Find = Callable[[str], NameEntry | None]
"""inode -> its name entry."""


class Outcome(NamedTuple):
    """What became of a late record: ``what`` it did and ``who`` asked for it ``at_ns``; ``inode``: of the copy."""

    outcome: str
    what: str
    who: str
    at_ns: int
    inode: str = ""

    def encode(self) -> str:
        """The value of a key ``l``."""
        fields = {"o": self.outcome, "n": self.what, "w": self.who, "t": self.at_ns, "i": self.inode}
        return json.dumps(fields, ensure_ascii=False, separators=(",", ":"), sort_keys=True)


def decode(text: str) -> Outcome:
    """The outcome in a value; ValueError if it is none."""
    value = json.loads(text)
    try:
        return Outcome(value["o"], value["n"], value["w"], value["t"], value["i"])
    except (KeyError, TypeError) as error:
        raise ValueError(f"not what became of a late record: {text[:80]!r}") from error


class WholePut(NamedTuple):
    """A file written whole: to a new name in ``parent``, or (``name`` is "") over what ``inode`` was."""

    inode: str
    parent: str
    name: str
    manifest: Manifest
    text: str


def words_of(record: Record) -> Words:
    """What a record put and deleted."""
    puts = [put for change in record.changes for put in change.puts]
    return Words(puts, [key for change in record.changes for key in change.deletes])


def is_plain(record: Record) -> bool:
    """Whether it says in plain words what it did (format 1 does not; a compaction does nothing)."""
    return not any(change.unvalued for change in record.changes)


def is_sound(record: Record) -> bool:
    """Whether all that it says could be said by a record of now: else nobody can have applied it."""
    decoders: dict[str, Callable[[str], object]] = {
        keys.NAME: values.decode_name, keys.MANIFEST: values.decode_manifest, keys.SEGMENT: values.decode_segment,
    }  # fmt: skip
    words = words_of(record)
    try:
        for key, value in [*words.puts, *((key, None) for key in words.deletes)]:
            parsed = keys.parse(key)
            if parsed.kind == keys.SEGMENT and not 0 <= int(parsed.part) < 1 << 63:
                return False
            keys.document_of(parsed.inode, parsed.kind, parsed.part)
            if value is not None and parsed.kind in decoders:
                decoders[parsed.kind](value)
    except ValueError:
        return False
    return True


def whole_put(record: Record) -> WholePut | None:
    """The one file that a record wrote whole, if that is all it did."""
    words = words_of(record)
    puts = {keys.parse(key): value for key, value in words.puts}
    kept = {key.inode for key, value in puts.items() if key.kind == keys.NAME and _is_kept(value)}
    puts = {key: value for key, value in puts.items() if key.inode not in kept}
    contents = [key for key in puts if key.kind == keys.MANIFEST]
    names = [key for key in puts if key.kind == keys.NAME]
    if record.kind != OPERATION or len(contents) != 1 or len(puts) != 1 + len(names) or len(names) > 1:
        return None
    inode, text = contents[0].inode, puts[contents[0]]
    parent = name = ""
    if names:
        entry = values.decode_name(puts[names[0]])
        moved = any(keys.parse(key).kind == keys.NAME for key in words.deletes)
        if names[0].inode != inode or entry.kind != FILE or moved or entry.parent == TRASH:
            return None
        parent, name = entry.parent, entry.name
    return WholePut(inode, parent, name, values.decode_manifest(text), text)


def _is_kept(value: str) -> bool:
    """Whether a name is of a file's earlier content, which an overwrite keeps in the trash."""
    entry = values.decode_name(value)
    return entry.parent == TRASH and entry.trashed is not None and bool(entry.trashed[2])


def copy_of(put: WholePut, at: Position) -> str:
    """The inode of the conflict copy that shows a late PUT."""
    return copy_inode(keys.version_of(at), put.inode)


def describe(record: Record, find: Find) -> str:
    """What a record did, for people: ``PUT /a/b``."""
    if record.kind != OPERATION:
        return record.kind
    words = words_of(record)
    gone = {keys.parse(key)[:3] for key in words.deletes}
    told = []
    own = {key.inode: values.decode_name(value) for key, value in _parsed(words) if key.kind == keys.NAME}
    look: Find = lambda inode: own.get(inode) or find(inode)  # noqa: E731
    kept = {key.inode for key, value in _parsed(words) if key.kind == keys.NAME and _is_kept(value)}
    for key, _ in _parsed(words):
        if key.inode in kept:
            continue
        if key.kind == keys.NAME:
            entry = own[key.inode]
            if entry.deleted is not None:
                told.append("DELETE " + path_of(find, entry.deleted[0], entry.deleted[1]))
            elif key[:3] in gone:
                told.append("MOVE to " + path_of(look, entry.parent, entry.name))
            elif entry.kind != FILE:
                told.append("MKCOL " + path_of(look, entry.parent, entry.name))
        elif key.kind in (keys.MANIFEST, keys.PROPERTY):
            entry_or_none = look(key.inode)
            where = key.inode if entry_or_none is None else path_of(look, entry_or_none.parent, entry_or_none.name)
            told.append(("PUT " if key.kind == keys.MANIFEST else "PROPPATCH ") + where)
        elif key.kind == keys.SEGMENT:
            told.append("part of a large file")
    return "; ".join(dict.fromkeys(told[:3])) or "a change whose record says no more"


def path_of(find: Find, parent: str, name: str) -> str:
    """The path of a name, as far as its directories are known."""
    path = name
    for _ in range(64):
        if parent == ROOT:
            return "/" + path
        entry = find(parent)
        if entry is None:
            break
        path, parent = f"{entry.name}/{path}", entry.parent
    return ".../" + path


def _parsed(words: Words) -> list[tuple[keys.Key, str]]:
    return [(keys.parse(key), value) for key, value in words.puts]
