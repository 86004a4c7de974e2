"""Parsers of what is on disk and of what nodes replicate: records, values, documents, chunk files, Raft, files of people."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import tempfile
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import msgpack
from blake3 import blake3

from davfs.cli.archive import Reader
from davfs.consensus import membership, snapshots, wire
from davfs.core import keys, record, values
from davfs.core.cluster_state import ClusterState
from davfs.core.errors import ChunkMissing, CorruptData, DavfsError
from davfs.crdt.documents import AutomergeDocuments
from davfs.node.config import load_config
from davfs.node.init import ClusterPlan, NodePlan, create_cluster, new_user
from davfs.storage import age_clock, data_dir
from davfs.storage.chunk_store import DiskChunkStore
from davfs.storage.files import write_all
from tests.fuzz.bodies import MSGPACK_TOKENS, packed
from tests.fuzz.runner import Parser
from tests.golden import vectors
from tests.golden.history import VOLUME

JSON_TOKENS = (b'"p":', b'"n":', b'"c":', b'"N":', b'"e":', b'"s":', b"[[", b"]]", b"{{", b"\\ud800", b"\\u0000",
    b"1e400", b"-0", b"[" * 3000)


def _golden(*names: str) -> tuple[bytes, ...]:
    return tuple(path.read_bytes() for name in names for path in sorted(vectors.FOLDER.glob(f"{name}-[0-9]*.bin")))


# --- records ----------------------------------------------------------------------------------------------------------


def _record(data: bytes) -> None:
    """As it came, and, for it rarely gets past the checksum, again with a right one."""
    with suppress(DavfsError):
        record.decode(data, VOLUME)
    body = data[19:]
    whole = data[:3] + blake3(body).digest(16) + body
    found = record.decode(whole, VOLUME)
    numbers = (*found.position.epoch, found.position.seq, found.at_ns)
    assert all(type(number) is int and -(1 << 63) <= number < 1 << 63 for number in numbers), numbers
    assert all(type(text) is str for text in (found.kind, found.request_id, found.who)), found
    for change in found.changes:
        for key in change.keys:
            try:
                keys.document_of(keys.parse(key).inode, keys.parse(key).kind, keys.parse(key).part)
            except ValueError:
                continue


def _values(data: bytes) -> None:
    text = data.decode("utf-8", "surrogatepass" if len(data) % 2 else "replace")
    both: tuple[tuple[Callable[[str], Any], Callable[[Any], str]], ...] = (
        (values.decode_name, values.encode_entry),
        (values.decode_manifest, values.encode_manifest),
        (values.decode_segment, values.encode_segment),
    )
    for decode, encode in both:
        try:
            found = decode(text)
        except ValueError:
            continue
        assert decode(encode(found)) == found


def _document(stack: ExitStack) -> Callable[[bytes], object]:
    good = AutomergeDocuments().load(None, [], bytes(range(16)))
    base = good.change([("n/1@1", "a"), ("n/2@1", "b")], [])
    heads = good.heads()
    change = good.change([("n/1@2", "c")], ["n/1@1"])
    after = good.heads()

    def attempt(data: bytes) -> None:
        documents = AutomergeDocuments()
        for load in (lambda: documents.load(data, (), bytes(16)), lambda: documents.load(base, (data,), bytes(16))):
            try:
                load().keys()
            except CorruptData:
                continue
        document = documents.load(None, [base], bytes(16))
        try:
            document.apply(data, after)
        except CorruptData:
            fresh = documents.load(None, [base], bytes(16))
            assert fresh.heads() == heads
            fresh.apply(change, after)  # nobody else's document is harmed
            raise
        assert document.heads() == after

    return attempt


# --- Raft -------------------------------------------------------------------------------------------------------------


def _frame(data: bytes) -> None:
    with suppress(ValueError):
        wire.decode_frame(data)
    for decode in (wire.decode_message, lambda body: snapshots.Assembly().add("node-2", (body, True, True, 0))):
        with suppress(ValueError):
            decode(data[30:])
    wire.decode_message(data)


def _raft_snapshot(data: bytes) -> None:
    with suppress(ValueError):
        membership.decode(membership.CONFIG + data)
    try:
        _, body = data[:1], data[40:]
        parcel = packed([snapshots.FORMAT, hashlib.sha256(body).digest(), body])
        snapshots.unpack(parcel)
    except ValueError:
        pass
    snapshots.unpack(data)


COMMANDS: tuple[tuple[Any, ...], ...] = (
    ("node_set", "node-1", "http://a", "", 1.0, ""),
    ("volume_create", VOLUME, "demo", {}, ["node-1", "node-2", "node-3"]),
    ("assign", VOLUME, "1" * 64, "node-1", 5.0),
    ("lock", VOLUME, [1, 1], ["a"], {"token": "t", "path": ["a"], "infinite": False, "exclusive": True, "owner": "",
    "principal": "", "timeout_s": 5}),
    ("unlock", VOLUME, [1, 1], "t", "", False),
    ("account_add", "anna", "", "none", {}),
    ("account_set", "anna", {"default": "read"}),
    ("app_password_add", "anna", "a1", "1" * 64, "label", 5),
    ("cert_issue", "1f", "node-1", 5, ""),
    ("expire", VOLUME, [1, 1], 0),
    ("replica_admit", VOLUME, "node-1", "b" * 32),
    ("free", VOLUME, [1, 1], "1" * 64),
)  # fmt: skip


def make_command(random: Random) -> bytes:
    """A command with another verb, or other arguments, than it should have."""
    state = _verbs()
    command = list(random.choice(COMMANDS))
    if random.random() < 0.4:
        command[0] = random.choice(state)
    while random.random() < 0.6:
        at = random.randrange(1, len(command) + 1)
        command[at : at + random.getrandbits(1)] = [
            random.choice((None, "", VOLUME, "node-1", [1, 1], [1], [], {}, {"a": 1}, 5, -1, 1 << 62, 1.5, float("inf"),
                True, b"\0", ["a", 1], [["a"]]))
        ]
    return packed([f"r{random.random()}", *command])


@cache
def _verbs() -> list[str]:
    return sorted(ClusterState()._verbs)


def _commands(stack: ExitStack) -> Callable[[bytes], object]:
    """Whatever a member of Raft proposes: commands never raise, and what they leave can be dumped and loaded."""
    states: list[ClusterState] = []
    count = 0

    def attempt(data: bytes) -> None:
        nonlocal count
        try:
            command = wire.decode_command(data)
        except (ValueError, TypeError, msgpack.UnpackException) as error:
            raise CorruptData(str(error)) from error
        if not states:
            states.append(ClusterState())
            for number, known in enumerate(COMMANDS[:3]):
                states[0].apply((f"s{number}", *known))
        result = states[0].apply(command)
        assert result[0] in ("ok", "error"), result
        count += 1
        if count % 50 == 0:
            again = ClusterState()
            again.load(states[0].dump())
            states.clear()

    return attempt


# --- files ------------------------------------------------------------------------------------------------------------


def _folder(stack: ExitStack) -> Path:
    return Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="davfs-fuzz-")))


def _put(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        write_all(file.fileno(), data)


def _chunk(stack: ExitStack) -> Callable[[bytes], object]:
    root = _folder(stack)
    store = DiskChunkStore(root)
    path = root / VOLUME / vectors.DIGEST[:2] / vectors.DIGEST
    path.parent.mkdir(parents=True)

    def attempt(data: bytes) -> None:
        _put(path, data)
        assert store.get(VOLUME, vectors.DIGEST) == b"chunk"

    return attempt


def _small_files(stack: ExitStack) -> Callable[[bytes], object]:
    root = _folder(stack)

    def attempt(data: bytes) -> None:
        _put(root / "AGE", data)
        with suppress(DavfsError):
            age_clock.AgeClock(root / "AGE", lambda: 5.0).now_ns()
        _put(root / "DAVFS", data)
        data_dir._read_marker(root / "DAVFS")

    return attempt


def _config_text() -> bytes:
    with tempfile.TemporaryDirectory() as name:
        nodes = tuple(NodePlan(f"node-{number}", "127.0.0.1", 8000 + number, 8100 + number, 8200 + number) for number
            in (1, 2, 3))
        create_cluster(Path(name) / "c", ClusterPlan(nodes, users=(new_user("anna:secret"),)))
        return (Path(name) / "c" / "node-1" / "davfs.toml").read_bytes()


def _config(stack: ExitStack) -> Callable[[bytes], object]:
    file = _folder(stack) / "davfs.toml"

    def attempt(data: bytes) -> None:
        _put(file, data)
        load_config(file)

    return attempt


def make_archive(random: Random) -> bytes:
    """A small tar archive, perhaps compressed, with the headers that an export writes."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=random.choice(("w", "w", "w:gz", "w:bz2", "w:xz")),
        format=tarfile.PAX_FORMAT) as tar:
        tar.pax_headers = {"DAVFS.volume": json.dumps({"format": 1, "entries": 2})} if random.random() < 0.5 else {}
        for number in range(random.randint(0, 3)):
            info = tarfile.TarInfo(random.choice(("a", "a/b", "../x", "/y", "é" * 100, "c" * 300)) + str(number))
            info.type = random.choice((tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.GNUTYPE_SPARSE,
                tarfile.LNKTYPE))
            info.size = random.choice((0, 5, 600)) if info.isreg() else 0
            info.pax_headers = random.choice(
                ({}, {"mtime": "1.5"}, {"DAVFS.properties": "[" * 9000}, {"DAVFS.properties": '{"a":"<a/>"}'},
                {"size": "-5"}, {"mtime": "x"})
            )
            tar.addfile(info, io.BytesIO(bytes(info.size)))
    return buffer.getvalue()


def _archive(data: bytes) -> None:
    reader = Reader(io.BytesIO(data))
    for member, read in reader.members():
        if not isinstance(member, str):
            while read(1 << 16):
                pass


ARCHIVE_TOKENS = (b"ustar\x0000", b"30 mtime=1.000000001\n", b"0 a=b\n", b"99999999999 a=b\n", b"x", b"L", b"K", b"S",
    b"g", b"\x80\0\0\0\xff\xff\xff\xff", b"\xff" * 12)


def _plain(name: str, attempt: Callable[[bytes], object], good: Any, *allowed: type[BaseException], **more: Any) -> Parser:
    return Parser(name, lambda stack: attempt, good, (DavfsError, *allowed), **more)


def parsers() -> tuple[Parser, ...]:
    """All of them; some of what they begin with has to be made."""
    change = _golden("change")
    return (
        _plain("record", _record, _golden("record", "start-record"), tokens=MSGPACK_TOKENS),
        _plain(
            "values",
            _values,
            [line for data in _golden("values", "given-values") for line in data.splitlines()],
            ValueError,
            tokens=JSON_TOKENS,
        ),
        Parser("document", _document, (*change, *_golden("document")), (CorruptData,), share=0.2),
        _plain("raft-message", _frame, (*_golden("raft-hello", "raft-data"), *_messages()), ValueError,
            tokens=MSGPACK_TOKENS),
        _plain(
            "raft-snapshot",
            _raft_snapshot,
            (*_golden("raft-parcel", "raft-members"), packed([1, [[["node-1"], []], [["node-1"], ["node-2"]]]])),
            ValueError,
            tokens=MSGPACK_TOKENS,
        ),
        Parser("raft-command", _commands, make_command, (CorruptData,), tokens=MSGPACK_TOKENS),
        Parser("chunk-file", _chunk, _golden("chunk"), (CorruptData, ChunkMissing), share=0.3),
        Parser("data-files", _small_files, (*_golden("marker"), b'{"format": 1, "ns": 5}\n'), (DavfsError,), JSON_TOKENS,
            share=0.3),
        Parser("configuration", _config, (_config_text(),), (DavfsError,), (b"[[cluster.nodes]]\n", b"[dav]\n", b"= 1\n",
            b"'''"), share=0.1),
        Parser("archive", lambda stack: _archive, make_archive, (DavfsError,), ARCHIVE_TOKENS, share=0.1),
    )


def _messages() -> list[bytes]:
    return [
        wire.encode_message(message)
        for message in (
            vectors.APPEND,
            {"type": "request_vote", "term": 3, "last_log_index": 9, "last_log_term": 2},
            {"type": "next_node_idx", "term": 1, "next_node_idx": 5, "reset": False, "success": True},
            {"type": "append_entries", "term": 1, "commit_index": 5, "serialized": [b"x", True, True, 0]},
        )
    ]


