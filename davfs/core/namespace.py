"""Changes of a volume's tree as edits of its documents: create, rename, delete, write a manifest, set properties.

An ``Edits`` collects what one record does, grouped by document. Nothing here checks that an operation makes sense; the
flows in ``cluster`` do, under the gate of the paths they change.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from davfs.core import keys, values
from davfs.core.chunking import segmented
from davfs.core.model import FILE, TRASH, ChunkRef, Entry, Manifest, Path, Position
from davfs.core.values import NameEntry

Segment: TypeAlias = tuple[int, tuple[ChunkRef, ...]]
"""A segment of a large file: its number and its chunks."""


@dataclass(slots=True)
class DocumentEdits:
    """Puts (key, value) and deletes (key) of one document, in order."""

    puts: list[tuple[str, str]] = field(default_factory=list)
    deletes: list[str] = field(default_factory=list)


class Edits:
    """What the record at ``at`` does to the volume's documents."""

    def __init__(self, at: Position) -> None:
        self.at = at
        self.version = keys.version_of(at)
        self.documents: dict[str, DocumentEdits] = {}
        self.size = 0  # bytes of keys and values, roughly what the record will carry
        self.answers = True  # whether the record completes its request; one written ahead does not
        self.who = ""  # the account that asks
        self._inodes = 0

    def new_inode(self) -> str:
        self._inodes += 1
        return keys.make_inode(self.at, self._inodes - 1)

    def put(self, kind: str, inode: str, value: str, part: str = "", old_version: str | None = None) -> None:
        """Write an entry at this record's version, and delete the version that it replaces."""
        document = self._document(keys.document_of(inode, kind, part))
        if old_version is not None and old_version != self.version:
            document.deletes.append(keys.make(kind, inode, old_version, part))
        key = keys.make(kind, inode, self.version, part)
        document.puts.append((key, value))
        self.size += len(key) + len(value) + 64

    def delete(self, kind: str, inode: str, version: str, part: str = "") -> None:
        key = keys.make(kind, inode, version, part)
        self._document(keys.document_of(inode, kind, part)).deletes.append(key)
        self.size += len(key) + 64

    def take(self, puts: Iterable[tuple[str, str]], deletes: Iterable[str]) -> None:
        """Put and delete keys as they are, of whatever version: what a merge says."""
        for text in deletes:
            key = keys.parse(text)
            self.delete(key.kind, key.inode, key.version, key.part)
        for text, value in puts:
            key = keys.parse(text)
            self._document(keys.document_of(key.inode, key.kind, key.part)).puts.append((text, value))
            self.size += len(text) + len(value) + 64

    def _document(self, name: str) -> DocumentEdits:
        return self.documents.setdefault(name, DocumentEdits())

    # --- entries ----------------------------------------------------------------------------------------------------

    def create(self, parent: str, name: str, kind: str, created_ns: int, mtime_ns: int | None = None) -> str:
        """A new file or directory; its inode. ``mtime_ns``: a directory's, if not that of the record."""
        inode = self.new_inode()
        self.put(keys.NAME, inode, values.encode_name(parent, name, kind, created_ns, mtime_ns))
        return inode

    def rename(self, entry: Entry, parent: str, name: str, mtime_ns: int | None = None) -> None:
        """Move an entry, with all that is below it if it is a directory; ``mtime_ns`` sets a directory's time."""
        was = (entry.parent, entry.name) if entry.is_directory and parent != entry.parent else None  # for core/merge.py
        self._place(entry, NameEntry(parent, name, entry.kind, entry.created_ns, mtime_ns, was=was))

    def trash(self, entry: Entry, content: str, path: Path = ()) -> None:
        """Delete: the top inode moves under the trash inode, one edit however big the tree. ``content``: the version of a
        file's manifest, so that a merge can tell what was deleted from what was written by someone else ("": none).
        ``path``: where it was; without one nobody finds it in the trash."""
        deleted = (entry.parent, entry.name, content)
        trashed = ("/".join(path), self.who, "") if path else None
        self._place(entry, NameEntry(TRASH, entry.inode, entry.kind, entry.created_ns, deleted=deleted, trashed=trashed))

    def keep(self, entry: Entry, manifest: Manifest, path: Path) -> None:
        """Put what a file holds into the trash, as an entry of its own there, before it is overwritten."""
        inode = self.new_inode()
        deleted = (entry.parent, entry.name, self.version)  # its own content's: to a merge this is trash and no deletion
        trashed = ("/".join(path), self.who, entry.inode)
        value = NameEntry(TRASH, inode, FILE, entry.created_ns, deleted=deleted, trashed=trashed)
        self.put(keys.NAME, inode, values.encode_entry(value))
        self.write(inode, manifest, None)

    def restore(self, entry: Entry, parent: str, name: str) -> None:
        """Take a top of the trash out of it, with all that is below it."""
        self._place(entry, NameEntry(parent, name, entry.kind, entry.created_ns))

    def _place(self, entry: Entry, to: NameEntry) -> None:
        self.put(keys.NAME, entry.inode, values.encode_entry(to), old_version=entry.version)

    def write(self, inode: str, manifest: Manifest, old_version: str | None) -> None:
        """Give a file its content. ``old_version``: of the manifest that it replaces."""
        self.put(keys.MANIFEST, inode, values.encode_manifest(manifest), old_version=old_version)

    def write_segments(self, content: str, segments: Iterable[Segment]) -> None:
        for number, chunks in segments:
            self.put(keys.SEGMENT, content, values.encode_segment(chunks), part=str(number))

    def set_properties(
        self, inode: str, sets: Mapping[str, str], removes: Iterable[str], old: Mapping[str, tuple[str, str]]
    ) -> None:
        """Set and remove dead properties. ``old``: Clark name -> (version, XML) as they are."""
        for name, xml in sets.items():
            self.put(keys.PROPERTY, inode, xml, name, old[name][0] if name in old else None)
        for name in removes:
            if name in old and name not in sets:
                self.delete(keys.PROPERTY, inode, old[name][0], name)


def make_manifest(
    chunks: tuple[ChunkRef, ...], chunk_size: int, mtime_ns: int, etag: str, content: str
) -> tuple[Manifest, list[Segment]]:
    """A manifest for a chunk list, and the segments to write ahead of it (none for all but large files)."""
    size = sum(chunk.size for chunk in chunks)
    segments = [(number, tuple(run)) for number, run in enumerate(segmented(chunks))]
    if not segments:
        return Manifest(size, mtime_ns, etag, chunk_size, chunks), []
    return Manifest(size, mtime_ns, etag, chunk_size, (), len(segments), content), segments
