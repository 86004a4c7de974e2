"""What a merge writes: the edits that make ordinary entries of what ``merge.py`` says, for the neighbourhood of a change.

Pure: may import only core.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from davfs.core import keys, values
from davfs.core.facts import MergeView, Node, load
from davfs.core.merge import LOST, Place, Tree, written
from davfs.core.model import DIRECTORY, ROOT, ROOTS, TRASH
from davfs.core.values import NameEntry


class Words(NamedTuple):
    """What one record puts (key, value) and deletes (key)."""

    puts: Sequence[tuple[str, str]]
    deletes: Sequence[str]


def settle(view: MergeView, records: Sequence[Words], version: str, new_inode: str) -> Words:
    """The edits that bring concurrent records into a committed state.

    ``version`` and ``new_inode`` are for the directory ``lost+found``, if one must be made.
    """
    lost = _find_lost(view)
    settlement = Settlement(view, records, lost or new_inode)
    settlement.close()
    if settlement.needs_lost() and lost is None:
        made = (keys.make(keys.NAME, new_inode, version), values.encode_name(ROOT, LOST, DIRECTORY, 0))
        settlement = Settlement(view, [*records, Words([made], [])], new_inode)
        settlement.close()
    return settlement.words()


def _find_lost(view: MergeView) -> str | None:
    for inode in sorted(view.claimants(ROOT, LOST)):
        stored = view.stored_name(inode)
        if stored is not None and stored[1].kind == DIRECTORY and stored[1][:2] == (ROOT, LOST):
            return inode
    return None


class Settlement:
    """One merge: what changed, all whose place may follow from it, and what is to be written for them."""

    def __init__(self, view: MergeView, records: Sequence[Words], lost: str) -> None:
        self._view = view
        self._tree = tree = Tree(view, lost)
        self._done: set[str] = set()
        self._segments = [put for words in records for put in words.puts if keys.parse(put[0]).kind == keys.SEGMENT]
        touched: dict[str, Node] = {}
        for words in records:
            touched.update(written(tree, words.puts, words.deletes))
        for node in touched.values():
            tree.changed(node)
        self._touched = touched
        self._todo = list(touched)
        if any(_is_directory(node) for node in touched.values()):
            self._todo.extend(view.displaced())  # whatever a merge put elsewhere may go back

    def close(self) -> None:
        """Look at all whose place may have changed, until there are no more."""
        while self._todo:
            while self._todo:
                inode = self._todo.pop()
                if inode not in self._done and inode not in ROOTS:
                    self._done.add(inode)
                    self._todo.extend(one for one in self._affected(inode) if one not in self._done)
            self._tree.look_again()
            self._todo = [one for inode in self._done for one in self._affected(inode) if one not in self._done]

    def _affected(self, inode: str) -> Iterable[str]:
        tree, node = self._tree, self._tree.node(inode)
        yield from node.copies.values()
        yield from self._view.copies(inode)
        claim = tree.claim(inode)
        before = None if node.stored is None else node.stored[1]
        places: set[Place] = set() if claim is None else {(claim.parent, claim.name)}
        if before is not None:
            places |= {(before.parent, before.name), before.claim or (before.parent, before.name)}
        for parent, name in places:
            if parent != TRASH:
                yield from tree.candidates(self._merged(parent), name)
        place = tree.place(inode)
        if place is not None and place[0] != TRASH:
            yield from tree.candidates([place[0]], place[1])
        if _is_directory(node):
            yield from self._below(inode, before)

    def _merged(self, parent: str) -> set[str]:
        """A directory, and those that it is or was merged with."""
        found = {parent, *self._tree.twins(parent)}
        for one in [*found]:
            stored = self._tree.node(one).stored
            if stored is not None and stored[1].origin:
                found.add(stored[1].origin)
        return found

    def _below(self, inode: str, before: NameEntry | None) -> Iterable[str]:
        tree = self._tree
        if inode in self._touched:
            yield from tree.above(inode)  # one of them may be taken out of a cycle
            if (deleted := tree.deleted_above(inode)) is not None:
                yield from self._unseen(inode, deleted)
        shown_in = inode if before is None else before.origin or inode
        if tree.claim(inode) is not None and tree.canon(inode) != shown_in:
            yield from self._view.members(inode)

    def _unseen(self, top: str, deleted: str) -> Iterable[str]:
        """What those who deleted a directory did not know of in it, or in one that is in it now."""
        by_whom = self._tree.node(deleted).deletions()
        todo, known = [*self._view.members(top)], {top}
        while todo:
            inode = todo.pop()
            stored = self._view.stored_name(inode)
            if stored is None or inode in known:
                continue
            known.add(inode)
            # What a conflict copy shows is a content of its file too.
            contents = map(self._view.stored_content, (inode, *self._view.copies(inode)))
            versions = [stored[0], *(content[0] for content in contents if content is not None)]
            if by_whom and not any(all(self._view.seen(v, by) for v in versions) for by in by_whom):
                yield inode
            if stored[1].kind == DIRECTORY:
                todo.extend(self._view.members(inode))

    def needs_lost(self) -> bool:
        """Whether something goes to the directory of what was found."""
        lost = self._tree.lost
        return any((place := self._tree.place(inode)) is not None and place[0] == lost for inode in self._done)

    # --- what to write ----------------------------------------------------------------------------------------------

    def words(self) -> Words:
        """The edits; deletes come before puts."""
        puts, deletes = list(self._segments), list[str]()
        for inode in sorted(self._done):
            node = self._tree.node(inode)
            if self._tree.place(inode) is None:
                node.names.clear()
                node.contents.clear()
                node.properties.clear()
            wanted = self._wanted(node)
            stored = _stored(self._view, node)
            puts.extend((key, value) for key, value in wanted.items() if stored.get(key) != value)
            deletes.extend(key for key in stored if key not in wanted)
        return Words(puts, deletes)

    def _wanted(self, node: Node) -> dict[str, str]:
        """All keys of an inode as they are to be."""
        wanted: dict[str, str] = {}
        chosen, place, claim = node.chosen(), self._tree.place(node.inode), self._tree.claim(node.inode)
        if chosen is None or place is None or claim is None:
            return wanted
        entry = node.names[chosen.version]
        raw, claimed = (entry.parent, entry.name), (claim.parent, claim.name)
        canon = self._tree.canon(node.inode) if entry.kind == DIRECTORY else node.inode
        shown = NameEntry(
            *place,
            entry.kind,
            entry.created_ns,
            entry.mtime_ns,
            raw if raw != place else None,
            claimed if claimed != place else None,
            entry.deleted,
            entry.was,
            node.origin or (canon if canon != node.inode else ""),
            entry.trashed,
        )
        wanted[keys.make(keys.NAME, node.inode, chosen.version)] = values.encode_entry(shown)
        for version, other in node.names.items():
            if version != chosen.version:
                wanted[keys.make(keys.SHADOW, node.inode, version, keys.NAME)] = values.encode_entry(other)
        contents = node.shown_contents()
        if contents:
            wanted[keys.make(keys.MANIFEST, node.inode, contents[-1])] = node.contents[contents[-1]]
        for version in sorted(node.contents.keys() - contents):
            wanted[keys.make(keys.SHADOW, node.inode, version, keys.MANIFEST)] = node.contents[version]
        for part, versions in node.properties.items():
            for version, text in versions.items():
                if version == max(versions):
                    wanted[keys.make(keys.PROPERTY, node.inode, version, part)] = text
                else:
                    wanted[keys.make(keys.SHADOW, node.inode, version, f"{keys.PROPERTY}/{part}")] = text
        return wanted


def _stored(view: MergeView, node: Node) -> dict[str, str]:
    """All keys of an inode as they are."""
    plain = load(view, node.inode)
    stored: dict[str, str] = dict(plain.stored_shadows)
    if plain.stored is not None:
        stored[keys.make(keys.NAME, node.inode, plain.stored[0])] = values.encode_entry(plain.stored[1])
    if plain.stored_content is not None:
        stored[keys.make(keys.MANIFEST, node.inode, plain.stored_content[0])] = plain.stored_content[1]
    for part, (version, text) in plain.stored_properties.items():
        stored[keys.make(keys.PROPERTY, node.inode, version, part)] = text
    return stored


def _is_directory(node: Node) -> bool:
    entries = [*node.names.values(), *([node.stored[1]] if node.stored is not None else ())]
    return any(entry.kind == DIRECTORY for entry in entries)
