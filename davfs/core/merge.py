"""Merging: from all live versions of names, contents and properties to one tree, by the table of the design (section 5).

The result follows from the set of versions alone, so replicas that know the same changes show the same tree, in whatever
order the changes came. Only the neighbourhood of what changed is looked at; what shows elsewhere than it was written keeps
both places (``values.NameEntry``), so that a change that comes later is merged with what was written, not with what shows.
Rules: docs/decisions/0018-merging.md. Pure: may import only core.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from davfs.core import keys, values
from davfs.core.canonical import canonical
from davfs.core.conflict_names import conflict_name, label_of
from davfs.core.facts import Chosen, MergeView, Node, copy_inode, load
from davfs.core.model import DIRECTORY, FILE, ROOTS, TRASH
from davfs.core.values import NameEntry

LOST = "lost+found"
"""The directory at the root where things go whose own directory is gone."""

Place = tuple[str, str]


class Claim(NamedTuple):
    """The place that an inode would have were it alone there. ``tie`` decides between two: the greater keeps the name."""

    parent: str
    name: str
    kind: str
    tie: str


class Tree:
    """The tree that follows from the versions, inode by inode, worked out when it is asked for."""

    def __init__(self, view: MergeView, lost: str) -> None:
        self.view = view
        self.lost = lost  # the inode of the directory LOST
        self.nodes: dict[str, Node] = {}
        self._places: dict[Place, set[str]] = {}  # of the nodes, as far as they may not be stored there
        self._detached: dict[str, Place] = {}  # directories taken out of a cycle: where they are put instead
        self._rooted: set[str] = set()  # directories known to stand in no cycle
        self._claims: dict[str, Claim | None] = {}
        self._canons: dict[str, str] = {}

    # --- nodes ------------------------------------------------------------------------------------------------------

    def node(self, inode: str) -> Node:
        """All that is known of an inode. A conflict copy comes from the file that its content was written to."""
        found = self.nodes.get(inode)
        if found is not None:
            return found
        found = load(self.view, inode)
        origin = found.stored[1].origin if found.stored is not None else ""
        if origin and self._follows(found, origin):
            self.node(origin)
            if inode in self.nodes:
                return self.nodes[inode]
            found.names.clear()  # its content is gone
        self.nodes[inode] = found
        for copy in self.view.copies(inode):
            self._gather(found, copy)
        self._derive(found)
        self._index(found)
        return found

    def _follows(self, copy: Node, origin: str) -> bool:
        """Whether a copy is as the merge made it: nobody changed it, nor wrote to its file after having seen it."""
        if copy.stored is None or copy.stored_content is None or copy.stored[0] != copy.stored_content[0]:
            return False
        at = copy.stored[0]
        if copy_inode(at, origin) != copy.inode:
            return False
        content = self.view.stored_content(origin)
        return content is None or not self.view.seen(at, content[0])

    def _gather(self, node: Node, copy: str) -> None:
        other = load(self.view, copy)
        if other.stored_content is not None and self._follows(other, node.inode):
            node.contents.setdefault(*other.stored_content)

    def _derive(self, node: Node) -> None:
        """The conflict copies of a file: nodes of their own that follow it."""
        for inode in node.copies.values():
            self.nodes.pop(inode, None)
        node.copies.clear()
        chosen = node.chosen()
        if chosen is None or chosen.entry.kind != FILE:
            return
        for version in node.shown_contents()[:-1]:
            inode = copy_inode(version, node.inode)
            name = inode if chosen.entry.parent == TRASH else conflict_name(chosen.entry.name, label_of(version, node.inode))
            copy = load(self.view, inode)
            copy.origin = node.inode
            copy.names = {version: NameEntry(chosen.entry.parent, name, FILE, chosen.entry.created_ns)}
            copy.contents = {version: node.contents[version]}
            node.copies[version] = inode
            self.nodes[inode] = copy
            self._index(copy)

    def changed(self, node: Node) -> None:
        """To be called after the versions of a node were changed, before anything is asked."""
        if not node.names and node.contents:  # purged here and written there: it survives without a place
            at = max(node.contents)
            created, name = (0, node.inode) if node.stored is None else (node.stored[1].created_ns, node.stored[1].name)
            node.names[at] = NameEntry(self.lost, name, FILE, created)
        self._derive(node)
        self._index(node)

    def _index(self, node: Node) -> None:
        for entry in node.names.values():
            places = [(entry.parent, entry.name)]
            if entry.was is not None:
                places.append(entry.was)
            if entry.deleted is not None:
                places.append(entry.deleted[:2])
            for parent, name in places:
                for directory in (parent, self.lost):
                    self._places.setdefault((directory, canonical(name)), set()).add(node.inode)

    def look_again(self) -> None:
        """Forget who shares a place with whom: nodes that were not known then may share it too."""
        self._canons.clear()

    # --- where an inode claims to be --------------------------------------------------------------------------------

    def claim(self, inode: str) -> Claim | None:
        """Its place by the names, deletions and moves, whoever else claims that place; None if it does not exist."""
        if inode not in self._claims:
            self._claims[inode] = self._claim(inode)
        return self._claims[inode]

    def _claim(self, inode: str) -> Claim | None:
        node = self.node(inode)
        chosen = node.chosen()
        if chosen is None:
            return None
        entry = chosen.entry
        parent, name = self._parent(inode, chosen)
        if parent == TRASH:
            return Claim(TRASH, inode, entry.kind, chosen.tie)
        if self._is_lost(inode, parent):
            return Claim(self.lost, name, entry.kind, chosen.tie)
        return Claim(parent, name, entry.kind, chosen.tie)

    def _parent(self, inode: str, chosen: Chosen | None = None) -> Place:
        """Where a node was put, or was before that if it would stand in a cycle: the later move is undone."""
        chosen = chosen or self.node(inode).chosen()
        if chosen is None:
            return self.lost, inode
        if chosen.entry.kind == DIRECTORY:
            self._break_cycle(inode)
        return self._detached.get(inode, (chosen.entry.parent, chosen.entry.name))

    def _break_cycle(self, inode: str) -> None:
        while True:
            trail: list[str] = []
            at = inode
            while at not in ROOTS and at != self.lost and at not in self._rooted and at not in trail:
                trail.append(at)
                chosen = self.node(at).chosen()
                if chosen is None:
                    break
                at = self._detached[at][0] if at in self._detached else chosen.entry.parent
            if at not in trail or self.node(at).chosen() is None:
                self._rooted.update(trail)
                return
            self._detach(trail[trail.index(at) :])

    def _detach(self, cycle: Sequence[str]) -> None:
        moves = {inode: chosen for inode in cycle if (chosen := self.node(inode).chosen()) is not None}
        candidates = [inode for inode in moves if inode not in self._detached] or [*moves]
        last = max(candidates, key=lambda inode: (moves[inode].version, inode))
        entry = moves[last].entry
        back = entry.was if last not in self._detached else None
        self._detached[last] = back or (self.lost, entry.name)

    def _is_lost(self, inode: str, parent: str) -> bool:
        """Whether its directory is gone: never there, or deleted by someone who had not seen this (and it is the topmost)."""
        path = [inode]
        while parent not in ROOTS and parent != self.lost:
            node = self.node(parent)
            if node.chosen() is None:
                return len(path) == 1  # an orphan; below one all is in order
            above = self._parent(parent)[0]
            if above == TRASH:
                for below in reversed(path):
                    if not self._deleted_with(node, below):
                        return below == inode
                return False
            path.append(parent)
            parent = above
        return False

    def above(self, inode: str) -> list[str]:
        """The directories above an inode as they were written, cycles or not."""
        path = [inode]
        while (chosen := self.node(path[-1]).chosen()) is not None and chosen.entry.parent not in (*ROOTS, self.lost, *path):
            path.append(chosen.entry.parent)
        return path

    def deleted_above(self, inode: str) -> str | None:
        """The deleted directory that a directory is in, or is itself."""
        at = inode
        while at not in ROOTS and at != self.lost and self.node(at).chosen() is not None:
            above = self._parent(at)[0]
            if above == TRASH:
                return at
            at = above
        return None

    def _deleted_with(self, directory: Node, inode: str) -> bool:
        """Whether one of those who deleted a directory had all of this before him; or it was hidden rather than deleted (a
        copy that is being made)."""
        node = self.node(inode)
        chosen = node.chosen()
        if chosen is None:
            return True
        versions = [chosen.version, *(node.shown_contents() if chosen.entry.kind == FILE else ())]
        deletions = directory.deletions()
        return not deletions or any(all(self.view.seen(v, by) for v in versions) for by in deletions)

    # --- who shares a place -----------------------------------------------------------------------------------------

    def canon(self, inode: str) -> str:
        """The directory that a directory is merged into: the latest of those that claim its place; often itself."""
        if inode in ROOTS or inode == self.lost:
            return inode
        if inode not in self._canons:
            twins = self.twins(inode)
            self._canons[inode] = max(twins, key=lambda twin: (twin == self.lost, self._tie(twin), twin), default=inode)
        return self._canons[inode]

    def _tie(self, inode: str) -> str:
        claim = self.claim(inode)
        return "" if claim is None else claim.tie

    def twins(self, inode: str) -> list[str]:
        claim = self.claim(inode)
        if claim is None or claim.parent == TRASH or claim.kind != DIRECTORY:
            return [inode]
        group = self.group(self.canon(claim.parent), claim.name)
        return [twin for twin in group if (other := self.claim(twin)) is not None and other.kind == DIRECTORY]

    def group(self, parent: str, name: str) -> set[str]:
        """All inodes that claim a name in a directory, or in one that is merged with it."""
        aliases = {parent} if parent in ROOTS else {parent, *self.twins(parent)}
        found = set()
        for inode in self.candidates(aliases, name):
            claim = self.claim(inode)
            if claim is not None and claim.parent in aliases and canonical(claim.name) == canonical(name):
                found.add(inode)
        return found

    def candidates(self, parents: Iterable[str], name: str) -> set[str]:
        """Inodes that may claim a name in one of these directories."""
        found: set[str] = set()
        for parent in parents:
            found.update(self.view.claimants(parent, name))
            found.update(self._places.get((parent, canonical(name)), ()))
        return found

    def place(self, inode: str) -> Place | None:
        """Where an inode shows: (parent, name); None if it does not exist."""
        claim = self.claim(inode)
        if claim is None:
            return None
        if claim.parent == TRASH:
            return TRASH, inode
        if claim.kind == DIRECTORY and self.canon(inode) != inode:
            return TRASH, inode  # all that is in it shows in the one that it is merged into
        parent = self.canon(claim.parent)
        group = self.group(parent, claim.name)
        if claim.kind == DIRECTORY or inode == self._keeper(group):
            return parent, claim.name
        return parent, self._spare_name(inode, parent, claim)

    def _spare_name(self, inode: str, parent: str, claim: Claim) -> str:
        """A conflict name that nothing else claims."""
        name, attempt = claim.name, 1
        origin = self.node(inode).origin
        if origin and (chosen := self.node(origin).chosen()) is not None:
            name, attempt = chosen.entry.name, 2  # the first is what it claims itself
        label = label_of(claim.tie, inode)
        while self.group(parent, spare := conflict_name(name, label, attempt)) - {inode}:
            attempt += 1
        return spare

    def _keeper(self, group: set[str]) -> str:
        """Who keeps the name: a directory, else the latest."""
        claims = {inode: claim for inode in group if (claim := self.claim(inode)) is not None}
        return max(
            group, key=lambda one: (claims[one].kind == DIRECTORY, not self.node(one).origin, claims[one].tie, one)
        )


def written(tree: Tree, puts: Iterable[tuple[str, str]], deletes: Iterable[str]) -> dict[str, Node]:
    """Take the versions of one record into the nodes that it touches (segments are nobody's version)."""
    touched: dict[str, Node] = {}
    for key in map(keys.parse, deletes):
        if (versions := _versions(tree, touched, key)) is not None:
            versions.pop(key.version, None)
    for text, value in puts:
        key = keys.parse(text)
        versions = _versions(tree, touched, key)
        if versions is not None:
            versions[key.version] = values.decode_name(value) if key.kind == keys.NAME else value
    return touched


def _versions(tree: Tree, touched: dict[str, Node], key: keys.Key) -> dict[str, object] | None:
    if key.kind not in (keys.NAME, keys.MANIFEST, keys.PROPERTY):
        return None
    node = touched.setdefault(key.inode, tree.node(key.inode))
    if key.kind == keys.NAME:
        return node.names  # type: ignore[return-value]
    if key.kind == keys.MANIFEST:
        return node.contents  # type: ignore[return-value]
    return node.properties.setdefault(key.part, {})  # type: ignore[return-value]
