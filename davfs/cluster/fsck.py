"""Does a replica hold together? Everything that must be so in one committed state of it, looked at step by step.

The database's own checks are in ``storage/audit.py``; here the documents are read and compared with the index, and a digest
of the whole state is made, by which replicas at one position are compared. Changes nothing. A plain generator: whoever
drives it may stop between two steps.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from blake3 import blake3

from davfs.core import keys, values
from davfs.core.errors import CorruptData
from davfs.core.keys import Key
from davfs.core.model import Position
from davfs.core.ports import Audit, Document, Documents, Problem, StoredDocument

DOCUMENTS = 20
"""Documents that are read at once."""

_NO_ACTOR = bytes(16)


class Step(NamedTuple):
    """What was looked at: how many things so far, and what is wrong with the last of them."""

    phase: str
    done: int
    problems: list[Problem]


class Examination:
    """One look at one state. ``digest`` is there when all steps are done."""

    def __init__(self, audit: Audit, documents: Documents, volume: str) -> None:
        self._audit = audit
        self._documents = documents
        self._volume = volume
        self._found: Counter[str] = Counter()
        self.digest = ""

    def steps(self) -> Iterator[Step]:
        """All of it, the cheapest first."""
        audit = self._audit
        yield Step("database", 1, audit.database())
        for done, problems in enumerate(audit.tree(), 1):
            yield Step("tree", done, problems)
        yield Step("usage", 1, audit.usage())
        for done, problems in audit.manifests():
            yield Step("manifests", done, problems)
        for done, problems in audit.log(self._volume):
            yield Step("log", done, problems)
        yield from self._read_documents()
        yield from self._make_digest()

    def _read_documents(self) -> Iterator[Step]:
        done, after = 0, ""
        while page := self._audit.documents(after, DOCUMENTS):
            problems = [problem for name, stored in page for problem in self._document(name, stored)]
            done += len(page)
            after = page[-1][0]
            yield Step("documents", done, problems)
        shown = self._audit.counts()
        yield Step("documents", done, [
            Problem("index", f"{shown[kind]} rows of kind {kind} are shown, the documents have {self._found[kind]}")
            for kind in shown if shown[kind] != self._found[kind]
        ])  # fmt: skip

    def _document(self, name: str, stored: StoredDocument) -> Iterator[Problem]:
        try:
            document = self._documents.load(stored.snapshot, stored.changes, _NO_ACTOR)
            for key, text in _newest(document):
                self._found[key.kind] += 1
                if keys.document_of(key.inode, key.kind, key.part) != name:
                    yield Problem("document", f"{name} has an entry of another document: {key}")
                yield from self._compare(key, text)
        except (CorruptData, ValueError) as error:
            yield Problem("document", f"{name}: {error}")

    def _compare(self, key: Key, text: str) -> Iterator[Problem]:
        shown, said = self._audit.value(key), keys.make(key.kind, key.inode, key.version, key.part)
        if key.kind == keys.NAME:
            text = values.encode_name(*values.decode_name(text)[:4])  # what the index shows of it
        if shown is None:
            yield Problem("index", f"{said} is in the documents and is not shown")
        elif shown != (key.version, text):
            differs = f"{shown[1][:200]!r} of version {shown[0]}, the documents say {text[:200]!r}"
            yield Problem("index", f"{said} is shown as {differs}")
        elif self._is_newer(keys.parse_version(key.version)):
            yield Problem("version", f"{said} is newer than the state")

    def _is_newer(self, at: Position) -> bool:
        """Whether nothing in the state can have been written at a position; what was merged has that of a late record."""
        index = self._audit.index
        return at.seq > index.committed.seq and not index.is_settled(at)

    def _make_digest(self) -> Iterator[Step]:
        digest = blake3()
        for done, rows in enumerate(self._audit.rows(), 1):
            digest.update(rows)
            yield Step("digest", done, [])
        self.digest = digest.hexdigest()


def page(audit: Audit, documents: Documents, volume: str, after: str) -> tuple[str | None, list[Problem]]:
    """Compare the next documents with what the index shows of them: where the next page begins (None: there is none), and
    what is wrong. A flipped bit in a value is found so: documents carry checksums, rows of the index are in documents."""
    stored = audit.documents(after, DOCUMENTS)
    examination = Examination(audit, documents, volume)
    problems = [problem for name, document in stored for problem in examination._document(name, document)]
    return (stored[-1][0] if len(stored) == DOCUMENTS else None), problems


def _newest(document: Document) -> Iterator[tuple[Key, str]]:
    """The entries of a document, of each its newest version: keys sort by entry, then by version."""
    before: Key | None = None
    for key in map(keys.parse, sorted(document.keys(), key=lambda text: text.rpartition("@")[::2])):
        if before is not None and before[:3] != key[:3]:
            yield before, _value(document, before)
        before = key
    if before is not None:
        yield before, _value(document, before)


def _value(document: Document, key: Key) -> str:
    text = document.get(keys.make(key.kind, key.inode, key.version, key.part))
    if text is None:
        raise CorruptData(f"{key} has no value")
    return text
