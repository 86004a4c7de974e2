"""Documents of a volume on automerge's core API (design, section 5). The only module that imports automerge.

One document is a flat map of text to text. Changes travel as automerge's own bytes inside records; they are applied by
a sync message made by hand, since the Python binding has no ``apply_changes``. automerge drops a corrupt change, or one
whose dependencies are missing, without a word: heads are compared after every step. May import nothing of davfs but
core.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from threading import Lock
from typing import TypeVar

from automerge import core as automerge

from davfs.core.errors import CorruptData
from davfs.core.ports import Document

Result = TypeVar("Result")

SPARES = 4
SPARE_BYTES = 64 * 1024
"""So many copies of loaded documents are kept for the next load, of documents that are so large at most."""

COMPACTOR = b"davfs-compaction"
"""The actor of the one change that a document without history consists of."""

_SYNC_MESSAGE_V1 = b"\x42\0\0\0"  # type, then no heads, no needs and no bloom filters; the changes follow
_CHECKSUM = slice(4, 8)  # of a change's bytes: the first four bytes of its hash, so of the head that it becomes


class AutomergeDocument:
    """One document (port: :class:`davfs.core.ports.Document`). Not thread-safe.

    After a :class:`CorruptData` it is unusable, for good: automerge may hold a dropped change, a half-made transaction
    or a lock that a panic left behind. Load it anew from what is stored.
    """

    def __init__(self, document: automerge.Document) -> None:
        self._document = document
        self._broken = ""

    def heads(self) -> tuple[bytes, ...]:
        """The heads of its history, sorted."""
        return self._guard(self._heads)

    def change(self, puts: Sequence[tuple[str, str]], deletes: Sequence[str]) -> bytes:
        """Make one change (deletes, then puts) and give its bytes.

        Deleting an absent key and putting what is there already are no errors, but a change that would do nothing is a
        ValueError: automerge would make none.
        """
        for key, value in puts:
            _check_text(key)
            _check_text(value)
        gone = [key for key in dict.fromkeys(deletes) if self.get(key) is not None]
        new = {key: value for key, value in dict(puts).items() if key in gone or self.get(key) != value}
        if not new and not gone:
            raise ValueError("a change must put or delete something")
        return self._guard(lambda: self._change(new, gone))

    def _change(self, puts: Mapping[str, str], gone: Sequence[str]) -> bytes:
        document = self._document
        before = document.get_heads()
        with document.transaction() as transaction:
            for key in gone:
                transaction.delete(automerge.ROOT, key)
            for key, value in puts.items():
                transaction.put(automerge.ROOT, key, automerge.ScalarType.Str, value)
        made = document.get_changes(before)
        if len(made) != 1:
            raise CorruptData(f"automerge made {len(made)} changes of one transaction")
        return made[0].bytes

    def apply(self, change: bytes, heads: Sequence[bytes]) -> None:
        """Apply a change made elsewhere; :class:`CorruptData` unless the heads are then exactly ``heads``.

        A change that is there already is no error.
        """
        self._guard(lambda: self._apply(change, tuple(sorted(heads))))

    def _apply(self, change: bytes, heads: tuple[bytes, ...]) -> None:
        message = b"".join((_SYNC_MESSAGE_V1, _leb128(1), _leb128(len(change)), change))
        self._document.receive_sync_message(automerge.SyncState(), automerge.Message.decode(message))
        found = self._heads()
        if found != heads:
            raise CorruptData(
                "a document's history is not what its record says: the change is corrupt, or others are missing",
                found=[h.hex() for h in found],
                wanted=[h.hex() for h in heads],
            )

    def get(self, key: str) -> str | None:
        """The value of a key, None when it is absent."""
        _check_text(key)
        return self._guard(lambda: self._get(key))

    def _get(self, key: str) -> str | None:
        found = self._document.get(automerge.ROOT, key)
        if found is None:
            return None
        value = found[0]
        if not isinstance(value, tuple) or not isinstance(value[1], str):
            raise CorruptData(f"the value of {key!r} is no text")
        return value[1]

    def keys(self) -> list[str]:
        """All keys, sorted."""
        return self._guard(lambda: sorted(self._document.keys(automerge.ROOT)))

    def save(self) -> bytes:
        """A snapshot with the whole history. Holds the GIL: 1 ms for some hundred entries."""
        return self._guard(self._document.save)

    def _heads(self) -> tuple[bytes, ...]:
        return tuple(sorted(self._document.get_heads()))

    def _guard(self, step: Callable[[], Result]) -> Result:
        if self._broken:
            raise CorruptData(f"this document is unusable since: {self._broken}; load it anew")
        try:
            return step()
        except CorruptData as error:
            self._broken = error.message
            raise
        except (KeyboardInterrupt, SystemExit, GeneratorExit):
            raise
        except BaseException as error:  # a panic inside automerge is a bare BaseException
            self._broken = f"automerge failed: {error!r}"
            raise CorruptData(self._broken) from error


class AutomergeDocuments:
    """Makes documents (port: :class:`davfs.core.ports.Documents`). Thread-safe.

    A holder needs a document that was cold twice, to make a change and to apply it, and loading is most of what such a
    change costs: so each load leaves a copy behind (20 µs) for the next load of the very same bytes.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._spare: OrderedDict[tuple[bytes, ...], automerge.Document] = OrderedDict()

    def load(self, snapshot: bytes | None, changes: Sequence[bytes], actor: bytes) -> AutomergeDocument:
        """The document of a snapshot and the changes since; :class:`CorruptData` if any of it is damaged or missing.

        ``actor``: 16 bytes, fresh for every grant and every load that will change the document; a (actor, seq) that was
        used before would make later changes invisible.
        """
        if len(actor) != 16:
            raise ValueError(f"an actor id has 16 bytes, not {len(actor)}")
        if snapshot == b"" or b"" in changes:  # automerge would take it for a document in which nothing happened
            raise CorruptData("a stored document has an empty part")
        stored = (snapshot or b"", *changes)
        with self._lock:
            document = self._spare.pop(stored, None)
        try:
            if document is None:
                document = automerge.Document.load(b"".join(stored))
                self._keep(stored, document.fork())
            document.set_actor(actor)
            visible = {head[:4] for head in document.get_heads()}
        except (KeyboardInterrupt, SystemExit, GeneratorExit):
            raise
        except BaseException as error:  # as above
            raise CorruptData(f"a stored document cannot be loaded: {error!r}") from error
        # Each later change builds on the ones before it, so the newest is a head unless something is missing.
        if changes and changes[-1][_CHECKSUM] not in visible:
            raise CorruptData("a stored document lacks changes that its newest change builds on")
        return AutomergeDocument(document)

    def _keep(self, stored: tuple[bytes, ...], document: automerge.Document) -> None:
        if sum(map(len, stored)) > SPARE_BYTES:
            return
        with self._lock:
            self._spare[stored] = document
            while len(self._spare) > SPARES:
                self._spare.popitem(last=False)


    def without_history(self, document: Document) -> bytes:
        """The document made anew in one change, keys sorted, under a fixed actor; b"" for an empty one.

        Nobody makes this alone: a holder does, and all others take its bytes (design, section 5).
        """
        keys = document.keys()
        if not keys:
            return b""
        fresh = automerge.Document()
        fresh.set_actor(COMPACTOR)
        copy = AutomergeDocument(fresh)
        copy.change([(key, document.get(key) or "") for key in keys], ())
        return copy.save()


def _check_text(text: str) -> None:
    text.encode()  # a lone surrogate is a ValueError here and a panic inside automerge


def _leb128(number: int) -> bytes:
    """Unsigned LEB128, as automerge's binary format has it."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)
