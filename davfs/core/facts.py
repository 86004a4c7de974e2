"""What is written about one inode: its live names, contents and properties, each under the version that wrote it.

Concurrent histories leave several live versions of one thing; a set of versions is the same in whatever order they came.
``merge.py`` decides which one shows. Pure: may import only core.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol
from zlib import crc32

from davfs.core import keys
from davfs.core.model import TRASH
from davfs.core.values import NameEntry, decode_name

COPY_NUMBERS = 1 << 32
"""Inodes of conflict copies have numbers from here on, which no record's own inodes reach."""


class MergeView(Protocol):
    """Reads of one committed state that merging needs. Versions are texts (``keys.version_of``)."""

    def stored_name(self, inode: str) -> tuple[str, NameEntry] | None:
        """(version, entry) of an inode, with all that is known of it."""
        ...

    def stored_content(self, inode: str) -> tuple[str, str] | None:
        """(version, value) of a file's manifest."""
        ...

    def properties(self, inode: str) -> Mapping[str, tuple[str, str]]: ...

    def shadows(self, inode: str) -> Sequence[tuple[str, str]]:
        """(key, value) of the concurrent values that do not show."""
        ...

    def copies(self, inode: str) -> Sequence[str]:
        """Inodes whose ``origin`` is this one."""
        ...

    def claimants(self, parent: str, name: str) -> Iterable[str]:
        """Inodes that stand at a place or claim it; names are the same if they are so in NFC."""
        ...

    def members(self, parent: str) -> Iterable[str]:
        """Inodes that stand in a directory, claim a place in it or were written there."""
        ...

    def displaced(self) -> Iterable[str]:
        """Inodes that stand elsewhere than they claim."""
        ...

    def seen(self, version: str, by: str) -> bool:
        """Whether whoever wrote ``by`` had ``version`` before him."""
        ...


class Chosen(NamedTuple):
    """The name that shows of several, and the version that decides who keeps it."""

    version: str
    tie: str
    entry: NameEntry


@dataclass(slots=True)
class Node:
    """All live versions of one inode, and how it is stored."""

    inode: str
    stored: tuple[str, NameEntry] | None = None
    stored_content: tuple[str, str] | None = None
    stored_properties: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    stored_shadows: Sequence[tuple[str, str]] = ()
    names: dict[str, NameEntry] = field(default_factory=dict)
    contents: dict[str, str] = field(default_factory=dict)
    properties: dict[str, dict[str, str]] = field(default_factory=dict)
    origin: str = ""  # of a conflict copy that follows the file it was written to
    copies: dict[str, str] = field(default_factory=dict)  # version of a content -> inode that shows it

    def deletions(self) -> list[str]:
        """Versions of the names that say: deleted."""
        return [version for version, entry in self.names.items() if entry.parent == TRASH and entry.deleted is not None]

    def chosen(self) -> Chosen | None:
        """Of several names the latest; a name beats a deletion, and so does a content that the deletion had not seen."""
        if not self.names:
            return None
        kept = [version for version, entry in self.names.items() if entry.parent != TRASH]
        if kept:
            return Chosen(max(kept), max(kept), self.names[max(kept)])
        last = max(self.names)
        fresh = self.fresh()
        known = [version for version, entry in self.names.items() if entry.deleted is not None]
        if not fresh or not known:
            return Chosen(last, last, self.names[last])
        entry = self.names[max(known)]
        parent, name, _ = entry.deleted or ("", "", "")
        return Chosen(max(known), max(fresh), NameEntry(parent, name, entry.kind, entry.created_ns))

    def fresh(self) -> list[str]:
        """Contents that no deletion of the file had seen."""
        seen = {entry.deleted[2] for entry in self.names.values() if entry.deleted is not None}
        return [version for version in self.contents if version not in seen]

    def shown_contents(self) -> list[str]:
        """Versions of the contents that people must find, the latest last: not those that were deleted, if there is one that
        was not."""
        return sorted(self.fresh() or self.contents)


def copy_inode(version: str, inode: str) -> str:
    """The inode of the conflict copy that shows a version of a file's content."""
    return keys.make_inode(keys.parse_version(version), COPY_NUMBERS + crc32(inode.encode()))


def load(view: MergeView, inode: str) -> Node:
    """What is stored about an inode; nothing at all is no error."""
    node = Node(
        inode, view.stored_name(inode), view.stored_content(inode), view.properties(inode), view.shadows(inode)
    )
    version = ""
    if node.stored is not None:
        version, entry = node.stored
        node.names[version] = _as_written(entry)
    if node.stored_content is not None:
        node.contents[node.stored_content[0]] = node.stored_content[1]
    for part, (at, text) in node.stored_properties.items():
        node.properties[part] = {at: text}
    for key, text in node.stored_shadows:
        _add_shadow(view, node, keys.parse(key), text, version)
    return node


def _add_shadow(view: MergeView, node: Node, key: keys.Key, text: str, version: str) -> None:
    """A shadow counts until someone who had it before him changes what shows."""
    kind, _, part = key.part.partition("/")
    if kind == keys.NAME:
        if not (version and view.seen(key.version, version)):
            node.names[key.version] = decode_name(text)
    elif kind == keys.MANIFEST:
        shown = max(node.contents, default="")
        if not (shown and view.seen(key.version, shown)):
            node.contents[key.version] = text
    elif kind == keys.PROPERTY:
        shown = max(node.properties.get(part, {}), default="")
        if shown and not view.seen(key.version, shown):
            node.properties[part][key.version] = text


def _as_written(entry: NameEntry) -> NameEntry:
    """The entry without what a merge made of it."""
    parent, name = entry.raw or (entry.parent, entry.name)
    return NameEntry(
        parent, name, entry.kind, entry.created_ns, entry.mtime_ns,
        deleted=entry.deleted, was=entry.was, trashed=entry.trashed,
    )  # fmt: skip
