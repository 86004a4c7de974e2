"""Records: one operation on a volume, as it is replicated, logged and committed (format 2, docs/FORMAT.md).

On disk and on the wire a record is ``b"DR" + version (1 byte) + BLAKE3-128 of the body (16 bytes) + body``; the body is
a msgpack array. The checksum covers everything behind it, the volume's id included: a record of another volume, a cut
or a flipped one is refused before anything is read out of it. Records of format 1, in which values stand only inside the
automerge change, are read too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgpack
from blake3 import blake3

from davfs.core.errors import CorruptData, UnknownFormat
from davfs.core.model import MAX_RECORD, Epoch, Position

FORMAT = 2
_MAGIC = b"DR"
_HEAD = len(_MAGIC) + 1 + 16

_NUMBERS = 1 << 63  # what databases keep as whole numbers
OPERATION = "op"
START = "start"
COMPACT = "compact"
"""Documents without their history: each change's bytes are a whole document, or none for one that is empty and goes."""


@dataclass(frozen=True, slots=True)
class DocumentChange:
    """What a record does to one document: the automerge change, the heads after it, and what the change says.

    ``puts`` (key, value) and ``deletes`` repeat the change in plain words: a late record is understood without the history
    that its change builds on. ``unvalued``: the touched keys of a record of format 1, which has no such words.
    """

    document: str
    change: bytes
    heads: tuple[bytes, ...]
    puts: tuple[tuple[str, str], ...] = ()
    deletes: tuple[str, ...] = ()
    unvalued: tuple[str, ...] = ()

    @property
    def keys(self) -> tuple[str, ...]:
        """All touched keys."""
        return (*(key for key, _ in self.puts), *self.deletes, *self.unvalued)


@dataclass(frozen=True, slots=True)
class Record:
    """One operation. ``base`` is what a start record adopted; ``reply`` is what a re-sent request is answered with;
    ``who``: the account that asked for it."""

    volume: str
    position: Position
    kind: str
    request_id: str
    changes: tuple[DocumentChange, ...] = ()
    base: Position | None = None
    reply: Any = None
    at_ns: int = 0
    who: str = ""


def encode(record: Record) -> bytes:
    """The bytes of a record; ValueError if it is larger than a record may be."""
    body = msgpack.packb(
        [
            record.volume,
            [*record.position.epoch, record.position.seq],
            record.kind,
            record.request_id,
            [[c.document, c.change, [list(put) for put in c.puts], list(c.deletes), list(c.heads)] for c in record.changes],
            None if record.base is None else [*record.base.epoch, record.base.seq],
            record.reply,
            record.at_ns,
            record.who,
        ],
        use_bin_type=True,
    )
    if len(body) + _HEAD > MAX_RECORD:
        raise ValueError(f"a record of {len(body)} bytes is larger than {MAX_RECORD}")
    return _MAGIC + bytes([FORMAT]) + blake3(body).digest(16) + bytes(body)


def decode(data: bytes, volume: str) -> Record:
    """The record in ``data``; :class:`CorruptData` for anything that is not a whole record of ``volume``."""
    if data[: len(_MAGIC)] != _MAGIC or len(data) < _HEAD:
        raise CorruptData("this is not a record")
    if not 1 <= data[2] <= FORMAT:
        raise UnknownFormat(f"record format {data[2]} is unknown here (known: 1 to {FORMAT})")
    body = data[_HEAD:]
    if blake3(body).digest(16) != data[3:_HEAD]:
        raise CorruptData("a record's checksum does not match")
    try:
        vol, at, kind, request_id, changes, base, reply, at_ns, *rest = msgpack.unpackb(body, raw=False, strict_map_key=False)
        (who,) = rest if data[2] > 1 else ("",)
        record = Record(
            vol,
            _position(at),
            kind,
            request_id,
            tuple(map(_change if data[2] > 1 else _change_1, changes)),
            None if base is None else _position(base),
            reply,
            at_ns,
            who,
        )
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise CorruptData(f"a record's body is malformed: {error}") from error
    if not _well_formed(record):
        raise CorruptData("a record's body is malformed: a field is of another type than it must be")
    if record.volume != volume:
        raise CorruptData(f"a record of volume {record.volume} came for volume {volume}")
    return record


def _well_formed(record: Record) -> bool:
    """Whether every field is what it must be: whoever holds a volume may write anything behind a right checksum."""
    texts = [record.volume, record.kind, record.request_id, record.who]
    numbers = [*record.position.epoch, record.position.seq]
    if record.base is not None:
        numbers += [*record.base.epoch, record.base.seq]
    heads: list[Any] = []
    for change in record.changes:
        texts += [change.document, *change.keys, *(text for _, text in change.puts)]
        heads += [change.change, *change.heads]
    return (
        all(type(text) is str for text in texts)
        and all(type(head) is bytes for head in heads)
        and all(type(number) is int and 0 <= number < _NUMBERS for number in numbers)
        and type(record.at_ns) is int
        and -_NUMBERS <= record.at_ns < _NUMBERS
    )


def _change(value: list[Any]) -> DocumentChange:
    document, change, puts, deletes, heads = value
    return DocumentChange(document, change, tuple(heads), tuple((key, text) for key, text in puts), tuple(deletes))


def _change_1(value: list[Any]) -> DocumentChange:
    document, change, touched, heads = value
    return DocumentChange(document, change, tuple(heads), unvalued=tuple(touched))


def _position(value: list[int]) -> Position:
    incarnation, counter, seq = value
    return Position(Epoch(incarnation, counter), seq)
