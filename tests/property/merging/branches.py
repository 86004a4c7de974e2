"""Concurrent histories of one small volume: a common one, and branches that leave it somewhere and go on alone.

Each writer works on what it sees, with the edits that the flows use; nothing here knows how a merge ends.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from davfs.core import keys, values
from davfs.core.model import DIRECTORY, FILE, ROOT, TRASH, ChunkRef, Entry, Epoch, Manifest, Position
from davfs.core.namespace import Edits
from davfs.core.settling import Words

NAMES = ("a", "b", "c.txt")
PROPERTIES = ("{x:}p", "{x:}q")


def manifest(text: str) -> Manifest:
    """A file's content in a test: the etag is the content."""
    return Manifest(1, 0, text, 4, (ChunkRef("ab" * 32, 1, ("n",)),))


def words_of(edits: Edits) -> Words:
    puts, deletes = [], []
    for edit in edits.documents.values():
        puts += edit.puts
        deletes += edit.deletes
    return Words(puts, deletes)


def apply(facts: dict[str, str], words: Words) -> None:
    for key in words.deletes:
        facts.pop(key, None)
    facts.update(words.puts)


@dataclass
class Writer:
    """One history: what it has written (``records``), and the live keys that it sees."""

    epoch: Epoch
    seq: int = 0
    facts: dict[str, str] = field(default_factory=dict)
    records: list[Words] = field(default_factory=list)
    positions: list[Position] = field(default_factory=list)
    fork: int = 0

    def branch(self, epoch: Epoch) -> Writer:
        return Writer(epoch, self.seq, dict(self.facts), fork=self.seq)

    def write(self, build) -> Position:
        edits = Edits(Position(self.epoch, self.seq + 1))
        build(edits)
        words = words_of(edits)
        if words.puts or words.deletes:
            self.seq += 1
            apply(self.facts, words)
            self.records.append(words)
            self.positions.append(edits.at)
        return edits.at

    # --- what it sees -----------------------------------------------------------------------------------------------

    def entries(self) -> dict[str, Entry]:
        found = {}
        for text, value in self.facts.items():
            key = keys.parse(text)
            if key.kind == keys.NAME:
                name = values.decode_name(value)
                found[key.inode] = Entry(key.inode, name.parent, name.name, name.kind, key.version, name.created_ns, 0)
        return found

    def alive(self) -> list[Entry]:
        """All that is not in the trash, sorted."""
        entries = self.entries()
        return [entry for _, entry in sorted(entries.items()) if self._top(entries, entry) == ROOT]

    @staticmethod
    def _top(entries: dict[str, Entry], entry: Entry) -> str:
        while entry.parent not in (ROOT, TRASH):
            entry = entries[entry.parent]
        return entry.parent

    def versions(self, kind: str, inode: str) -> dict[str, tuple[str, str]]:
        parsed = [(keys.parse(key), value) for key, value in self.facts.items()]
        return {key.part: (key.version, value) for key, value in parsed if (key.kind, key.inode) == (kind, inode)}

    def at(self, parent: str, name: str) -> Entry | None:
        return next((entry for entry in self.alive() if (entry.parent, entry.name) == (parent, name)), None)

    def find(self, path: str) -> Entry:
        return self.paths()[path]

    def _content(self, entry: Entry) -> str | None:
        held = self.versions(keys.MANIFEST, entry.inode).get("")
        return None if held is None else held[0]

    # --- what it does -----------------------------------------------------------------------------------------------

    def mkdir(self, path: str) -> Position:
        parent, name = self._place(path)
        return self.write(lambda edits: edits.create(parent, name, DIRECTORY, 0))

    def put(self, path: str, text: str) -> Position:
        parent, name = self._place(path)
        old = self.at(parent, name)

        def build(edits: Edits) -> None:
            inode = old.inode if old is not None else edits.create(parent, name, FILE, 0)
            edits.write(inode, manifest(text), None if old is None else self._content(old))

        return self.write(build)

    def move(self, source: str, target: str) -> Position:
        entry = self.find(source)
        parent, name = self._place(target)
        old = self.at(parent, name)

        def build(edits: Edits) -> None:
            if old is not None:
                edits.trash(old, self._content(old) or "")
            edits.rename(entry, parent, name)

        return self.write(build)

    def delete(self, path: str) -> Position:
        entry = self.find(path)
        return self.write(lambda edits: edits.trash(entry, self._content(entry) or ""))

    def proppatch(self, path: str, name: str, xml: str | None) -> Position:
        inode = ROOT if not path else self.find(path).inode
        old = self.versions(keys.PROPERTY, inode)
        sets, removes = ({}, [name]) if xml is None else ({name: xml}, [])
        return self.write(lambda edits: edits.set_properties(inode, sets, removes, old))

    def _place(self, path: str) -> tuple[str, str]:
        parent, _, name = path.rpartition("/")
        return (self.find(parent).inode if parent else ROOT), name

    # --- anything ---------------------------------------------------------------------------------------------------

    def paths(self) -> dict[str, Entry]:
        """path -> entry of all that is there."""
        alive = {entry.inode: entry for entry in self.alive()}

        def path(entry: Entry) -> str:
            return entry.name if entry.parent == ROOT else f"{path(alive[entry.parent])}/{entry.name}"

        return {path(entry): entry for entry in alive.values()}

    def anything(self, chance: random.Random) -> None:
        """One random operation that makes sense here."""
        paths = self.paths()
        folders = ["", *(path for path, entry in paths.items() if entry.is_directory and path.count("/") < 2)]

        def somewhere() -> str:
            folder = chance.choice(folders)
            return f"{folder}/{chance.choice(NAMES)}" if folder else chance.choice(NAMES)

        kind = chance.choice(("mkdir", "mkdir", "put", "put", "put", "move", "move", "move", "delete", "prop"))
        target = somewhere()
        if kind == "mkdir":
            if target not in paths:
                self.mkdir(target)
        elif kind == "put":
            if target not in paths or not paths[target].is_directory:
                self.put(target, f"{self.epoch.counter}.{self.seq + 1}")
        elif paths:
            source = chance.choice(sorted(paths))
            if kind == "delete":
                self.delete(source)
            elif kind == "prop":
                xml = None if chance.random() < 0.3 else f"{self.epoch.counter}.{self.seq + 1}"
                self.proppatch(source, chance.choice(PROPERTIES), xml)
            elif not (target == source or target.startswith(source + "/") or source.startswith(target + "/")):
                self.move(source, target)


@dataclass
class World:
    """A common history and its branches. ``seen`` says who knew what."""

    common: Writer
    branches: list[Writer]

    def __post_init__(self) -> None:
        self._common = {str(at): at for at in self.common.positions}
        self._forks = {branch.epoch: branch.fork for branch in self.branches}

    def seen(self, version: str, by: str) -> bool:
        """Whether whoever wrote ``by`` had ``version`` before him; merges are seen by nobody."""
        if version in self._common and by in self._common:
            return version < by and self._common[version].seq < self._common[by].seq
        later = keys.parse_version(by)
        if version in self._common:
            return self._common[version].seq <= self._forks[later.epoch]
        earlier = keys.parse_version(version)
        return by not in self._common and earlier.epoch == later.epoch and earlier.seq < later.seq


def random_world(chance: random.Random, size: int) -> World:
    """Histories that left each other at random times; the common one need not have the greater epochs."""
    counters = list(range(1, 9))
    first = Writer(Epoch(1, counters.pop(0)))
    for _ in range(chance.randrange(size + 1)):
        first.anything(chance)
    chance.shuffle(counters)
    branches = []
    for _ in range(chance.choice((1, 1, 2, 3))):
        branches.append(first.branch(Epoch(1, counters.pop())))
        if chance.random() < 0.4:
            first.epoch = Epoch(1, max(first.epoch.counter, counters.pop()))
        for _ in range(chance.randrange(size)):
            first.anything(chance)
    for branch in branches:
        for _ in range(1 + chance.randrange(size)):
            branch.anything(chance)
    return World(first, branches)
