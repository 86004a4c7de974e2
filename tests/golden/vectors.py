"""Every format on disk and on the wire: how its golden vector is made, and what is in it.

``vectors/NAME-FORMAT.bin`` holds what the davfs that first had that format wrote; such a file never changes. A format's
number goes up when its bytes do, and ``python -m tests.golden.make NAME`` then writes the new file beside the old one.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from blake3 import blake3

from davfs.client import profile
from davfs.consensus import membership, snapshots, wire
from davfs.consensus.membership import Change, Members
from davfs.consensus.snapshots import Parcel
from davfs.consensus.wire import DATA, HELLO, Frame
from davfs.core import cluster_state, keys, record, values
from davfs.core.cluster_state import ClusterState
from davfs.core.errors import VolumeHeld
from davfs.core.model import DIRECTORY, FILE, ROOT, ChunkRef, Epoch, Manifest, Position
from davfs.core.raft_log import LogEntry, LogSnapshot
from davfs.core.record import OPERATION, START, DocumentChange, Record
from davfs.crdt.documents import AutomergeDocuments
from davfs.rpc import certs, codec, frame_stream
from davfs.storage import data_dir
from davfs.storage.chunk_store import DiskChunkStore
from tests.golden.history import NFD, VOLUME

FOLDER = Path(__file__).parent / "vectors"
DIGEST = blake3(b"chunk").hexdigest()
SECRET = blake3(b"token").hexdigest()


class Vector(NamedTuple):
    """``make``: the bytes as this davfs writes them; ``read``: the value in bytes of this or an older format."""

    format: int
    make: Callable[[], bytes]
    read: Callable[[bytes], Any]
    value: Any


# --- records and documents ----------------------------------------------------------------------------------------------

_HEAD = blake3(b"head").digest()
_NAME_KEY = keys.make(keys.NAME, "2.1.1.0", keys.version_of(Position(Epoch(1, 1), 2)))
OPERATION_RECORD = Record(
    VOLUME,
    Position(Epoch(1, 7), 0x1234),
    OPERATION,
    "request-1",
    (DocumentChange("b/12", b"a change", (_HEAD,), ((_NAME_KEY, "a value"),), ("p/root/{x:}y@0001.00000001.000000000003",)),),
    None,
    ["etag-1", True, None],
    1_700_000_000_123_456_789,
    "anna",
)
OPERATION_RECORD_1 = replace(
    OPERATION_RECORD, changes=(DocumentChange("b/12", b"a change", (_HEAD,), unvalued=(_NAME_KEY,)),), who=""
)
START_RECORD = Record(VOLUME, Position(Epoch(2, 1), 9), START, "", (), Position(Epoch(1, 7), 8), None, 5)

MANIFEST = Manifest(
    150, 1_700_000_000_123_456_789, "etag-1", 100,
    (ChunkRef(DIGEST, 100, ("node-1", "node-2")), ChunkRef(blake3(b"second").hexdigest(), 50, ("node-2", "node-1"))),
)  # fmt: skip
LARGE = Manifest(30_000, 5, "etag-2", 100, (), 2, "content-1")


def _record(value: Record) -> Callable[[], bytes]:
    return lambda: record.encode(value)


def _read_record(data: bytes) -> Record:
    return record.decode(data, VOLUME)


def _read_operation(data: bytes) -> Record:
    """A record of format 1 has no values and no account: if it is read as it should be, they are put in."""
    found = _read_record(data)
    return OPERATION_RECORD if data[2] == 1 and found == OPERATION_RECORD_1 else found


def _values() -> bytes:
    """A name, a manifest, one with segments, a segment: a line each."""
    lines = [
        values.encode_name(ROOT, NFD, FILE, 1_700_000_000_123_456_789),
        values.encode_manifest(MANIFEST),
        values.encode_manifest(LARGE),
        values.encode_segment(MANIFEST.chunks),
    ]
    return "".join(f"{line}\n" for line in lines).encode()


def _read_values(data: bytes) -> list[Any]:
    name, manifest, large, segment = data.decode().splitlines()
    return [
        tuple(values.decode_name(name))[:5],
        values.decode_manifest(manifest),
        values.decode_manifest(large),
        values.decode_segment(segment),
    ]


ANNOUNCED = replace(MANIFEST, digests=(("ADLER32", "084b021f"), ("MD5", "b1946ac92492d2347c6235b4d2611184")))


def _given() -> bytes:
    """What clients may add: a directory's modification time, a file's checksums."""
    lines = [values.encode_name(ROOT, "a", DIRECTORY, 1, 2), values.encode_manifest(ANNOUNCED)]
    return "".join(f"{line}\n" for line in lines).encode()


def _read_given(data: bytes) -> list[Any]:
    name, manifest = data.decode().splitlines()
    return [tuple(values.decode_name(name))[:5], values.decode_manifest(manifest)]


KEYS = [
    ("n", "2.1.1.0", "", "0001.00000001.000000000002"),
    ("m", "2.1.1-0", "", "0001.00000001.000000000003"),
    ("s", "content-1", "17", "ffff.ffffffff.ffffffffffff"),
    ("p", "root", "{http://a/}b@c", "0001.00000001.000000000004"),
]


def _keys() -> bytes:
    return "".join(f"{keys.make(kind, inode, at, part)}\n" for kind, inode, part, at in KEYS).encode()


DOCUMENT = {_NAME_KEY: values.encode_name(ROOT, "a", FILE, 1), "p/root/{x:}y@0001.00000001.000000000003": "<y/>"}


def _document(change: bool) -> Callable[[], bytes]:
    def make() -> bytes:
        document = AutomergeDocuments().load(None, [], bytes(range(16)))
        made = document.change(list(DOCUMENT.items()), [])
        return made if change else document.save()

    return make


def _read_change(data: bytes) -> dict[str, str | None]:
    document = AutomergeDocuments().load(None, [data], bytes(16))
    return {key: document.get(key) for key in document.keys()}  # noqa: SIM118 - not a dict


def _read_snapshot(data: bytes) -> dict[str, str | None]:
    document = AutomergeDocuments().load(data, [], bytes(16))
    return {key: document.get(key) for key in document.keys()}  # noqa: SIM118 - not a dict


# --- a node's disk ------------------------------------------------------------------------------------------------------


def _chunk() -> bytes:
    with tempfile.TemporaryDirectory() as name:
        DiskChunkStore(Path(name)).put(VOLUME, DIGEST, b"chunk")
        return (Path(name) / VOLUME / DIGEST[:2] / DIGEST).read_bytes()


def _read_chunk(data: bytes) -> bytes:
    with tempfile.TemporaryDirectory() as name:
        file = Path(name) / VOLUME / DIGEST[:2] / DIGEST
        file.parent.mkdir(parents=True)
        file.write_bytes(data)
        return DiskChunkStore(Path(name)).get(VOLUME, DIGEST)


def _marker() -> bytes:
    with tempfile.TemporaryDirectory() as name:
        with data_dir.DataDirectory(Path(name) / "d", "node-1") as directory:
            made = (directory.path / "DAVFS").read_bytes()
            return made.replace(directory.incarnation.encode(), b"5a" * 16)


def _read_marker(data: bytes) -> tuple[str, str]:
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "DAVFS").write_bytes(data)
        with data_dir.DataDirectory(Path(name), "node-1") as directory:
            return directory.incarnation, "node-1"


# --- Raft ---------------------------------------------------------------------------------------------------------------

CHANGE = Change(Members(("node-1", "node-2")), Members(("node-1", "node-2"), ("node-3",)))
ENTRIES = (LogEntry(b"before", 6, 2), LogEntry(b"last", 7, 2))
PARCEL = Parcel(LogSnapshot(7, b"state"), *ENTRIES)
GREETING = Frame(HELLO, 3, 1, 0, 0)
APPEND = {
    "type": "append_entries", "term": 2, "commit_index": 7, "prevLogIdx": 7, "prevLogTerm": 2,
    "entries": [[b"command", 8, 2]],
}  # fmt: skip
COMMAND = ("request-1", "assign", VOLUME, SECRET, "node-1", 5.0)


def _state() -> bytes:
    """The state after a few commands of each kind of thing that it holds."""
    state = ClusterState()
    policy = {"chunk_size": 4096, "copies": 3, "write_quorum": 2, "read_quorum": 1, "replicas": 3,
              "consistency": "strict", "mode": "exclusive", "reads": "lease"}  # fmt: skip
    commands: list[tuple[Any, ...]] = [
        ("node_set", "node-1", "http://127.0.0.1:8080", "", 1.0, "a" * 32),
        ("volume_create", VOLUME, "demo", policy, ["node-1", "node-2", "node-3"]),
        ("replica_admit", VOLUME, "node-1", "b" * 32),
        ("assign", VOLUME, SECRET, "node-1", 5.0),
        ("assign", VOLUME, "1" * 64, "node-2", 5.0),
    ]
    for number, command in enumerate(commands):
        state.apply((f"request-{number}", *command))
    return state.dump()


def _read_state(data: bytes) -> Any:
    state = ClusterState()
    state.load(data)
    again = ClusterState()
    again.load(state.dump())
    assert again.dump() == state.dump()
    volume = again.volume_named("demo")
    refused = again.apply(("request-4", "assign", VOLUME, "1" * 64, "node-2", 5.0))
    return {
        "incarnation": again.incarnation,
        "nodes": [(node.name, node.dav, node.incarnation) for node in again.nodes.values()],
        "volume": (volume.id, volume.policy.chunk_size, volume.policy.mode, tuple(volume.replicas)),
        "epoch": tuple(volume.tenure.last),
        "holder": volume.tenure.grant.address if volume.tenure.grant else None,
        "refused": refused[1],
    }


STATE = {
    "incarnation": 1,
    "nodes": [("node-1", "http://127.0.0.1:8080", "a" * 32)],
    "volume": (VOLUME, 4096, "exclusive", ("node-1", "node-2", "node-3")),
    "epoch": (1, 1),
    "holder": "node-1",
    "refused": "volume-held",
}


# --- calls and profiles -------------------------------------------------------------------------------------------------


def _call() -> bytes:
    return codec.pack_header({"volume": VOLUME, "epoch": [1, 7], "records": [4], "chunks": []}) + b"blob"


def _read_call(data: bytes) -> Any:
    size = codec.header_size(data[: codec.PREFIX], len(data))
    end = codec.PREFIX + size
    return codec.unpack_header(data[codec.PREFIX : end]), data[end:]


def _read_error(data: bytes) -> Any:
    error = codec.unpack_error(codec.unpack_header(data[codec.PREFIX :]), "node-2")
    return type(error), error.message, error.data


NODES = {"node-1": ("127.0.0.1", 7402), "node-2": ("::1", 7402)}


def _make_profile(folder: Path) -> Path:
    certs.create_authority(folder / "ca")
    return profile.create_profile(folder / "ca", "indexer", NODES, folder / "p")


def _profile() -> bytes:
    with tempfile.TemporaryDirectory() as name:
        return _make_profile(Path(name)).read_bytes()


def _read_profile(data: bytes) -> Any:
    with tempfile.TemporaryDirectory() as name:
        file = _make_profile(Path(name))
        file.write_bytes(data)
        return profile.load_profile(file.parent).nodes


VECTORS: dict[str, Vector] = {
    "record": Vector(record.FORMAT, _record(OPERATION_RECORD), _read_operation, OPERATION_RECORD),
    "start-record": Vector(record.FORMAT, _record(START_RECORD), _read_record, START_RECORD),
    "keys": Vector(1, _keys, lambda data: [keys.parse(line) for line in data.decode().splitlines()],
                   [keys.Key(kind, inode, part, at) for kind, inode, part, at in KEYS]),
    "values": Vector(1, _values, _read_values,
                     [(ROOT, NFD, FILE, 1_700_000_000_123_456_789, None), MANIFEST, LARGE, MANIFEST.chunks]),
    "given-values": Vector(1, _given, _read_given, [(ROOT, "a", DIRECTORY, 1, 2), ANNOUNCED]),
    "change": Vector(1, _document(change=True), _read_change, DOCUMENT),
    "document": Vector(1, _document(change=False), _read_snapshot, DOCUMENT),
    "chunk": Vector(1, _chunk, _read_chunk, b"chunk"),
    "marker": Vector(data_dir.FORMAT, _marker, _read_marker, ("5a" * 16, "node-1")),
    "raft-members": Vector(membership.FORMAT, lambda: membership.CONFIG + membership.encode(CHANGE), membership.decode, CHANGE),
    "raft-wrapped": Vector(1, lambda: membership.wrap(CHANGE.after, b"state"),
                           lambda data: (membership.known_in(data), membership.state_in(data)), (CHANGE.after, b"state")),
    "raft-parcel": Vector(snapshots.FORMAT, lambda: snapshots.pack(PARCEL), snapshots.unpack, PARCEL),
    "raft-hello": Vector(wire.VERSION, lambda: wire.encode_frame(GREETING), wire.decode_frame, GREETING),
    "raft-data": Vector(wire.VERSION, lambda: wire.encode_frame(Frame(DATA, 3, 1, 9, 4, wire.encode_message(APPEND))),
                        lambda data: wire.decode_message(wire.decode_frame(data).body), APPEND),
    "raft-command": Vector(1, lambda: wire.encode_command(COMMAND), wire.decode_command, COMMAND),
    "raft-frames": Vector(1, lambda: frame_stream.pack_frames([b"one", b"", b"three"]), lambda data: data,
                          b"14\r\n\0\0\0\3one\0\0\0\0\0\0\0\5three\r\n"),
    "cluster-state": Vector(cluster_state.FORMAT, _state, _read_state, STATE),
    "call": Vector(1, _call, _read_call, ({"volume": VOLUME, "epoch": [1, 7], "records": [4], "chunks": []}, b"blob")),
    "call-error": Vector(1, lambda: codec.pack_error(VolumeHeld("held", holder="node-1", epoch=[1, 7])), _read_error,
                         (VolumeHeld, "held", {"holder": "node-1", "epoch": [1, 7]})),
    "profile": Vector(profile.FORMAT, _profile, _read_profile, NODES),
}  # fmt: skip

GROWING = ("cluster-state",)
"""Formats that may get fields without another number: what was not there is read with a default."""


def file_of(name: str, number: int) -> Path:
    return FOLDER / f"{name}-{number}.bin"


