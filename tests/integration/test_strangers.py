"""Who has no certificate of the cluster reaches nothing of it; a pickle is loaded by nobody, whoever sends it and wherever to.

PySyncObj unpickles what reaches its port before it asks who sent it: the pickles here make a folder when they are loaded.
"""

from __future__ import annotations

import os
import pickle
import socket
import ssl
import struct
import time
import tomllib
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from davfs.consensus import wire
from davfs.rpc import certs
from davfs.rpc.frame_stream import FRAMES_PATH, pack_frames
from tests.support.cluster import DevCluster

NODES = (1, 2, 3)
INNER = ("rpc", "forward")
LIMIT_S = 1.0
REQUESTS = (b"GET /v1/cluster", b"POST /rpc/v1/node.status", b"POST /frames/v1", b"GET /demo/", b"PROPFIND /")


class MakesFolder:
    """Loading its pickle makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.path),)


def pickles(mark: Path) -> list[bytes]:
    """A pickle as it is, in PySyncObj's own envelope, and in ours."""
    plain = pickle.dumps(MakesFolder(mark))
    packed = zlib.compress(plain, 3)
    framed = wire.encode_frame(wire.Frame(wire.DATA, 1, 1, 1, 1, plain))
    return [plain, struct.pack("i", len(packed)) + packed, framed]


def address(drive: DevCluster, number: int, listener: str) -> tuple[str, int]:
    host, _, port = tomllib.loads(drive.config(number).read_text())[listener]["listen"].rpartition(":")
    return host, int(port)


def said(where: tuple[str, int], sent: bytes, context: ssl.SSLContext | None = None) -> bytes:
    """What a listener answers; nothing if it ends the connection."""
    heard = b""
    with suppress(OSError), socket.create_connection(where, timeout=LIMIT_S) as plain:
        stream = context.wrap_socket(plain) if context else plain
        with stream:
            stream.sendall(sent)
            while part := stream.recv(65536):
                heard += part
    return heard


def with_certificate(folder: Path, cert: str = "node.pem", key: str = "node.key") -> ssl.SSLContext:
    context = nameless()
    context.load_cert_chain(folder / cert, folder / key)
    return context


def nameless() -> ssl.SSLContext:
    """Believes every server: what is tried here is what a server believes."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


@pytest.fixture(scope="module")
def impostor(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a node-2 whom another cluster's authority signed."""
    root = tmp_path_factory.mktemp("impostor")
    certs.create_authority(root)
    cert, _ = certs.issue(root, "node-2", ["localhost"])
    return cert.parent


def test_without_a_certificate_of_the_cluster_nothing_is_answered(drive: DevCluster, impostor: Path) -> None:
    strangers = {"nobody": nameless(), "another cluster's node-2": with_certificate(impostor)}
    tail = b" HTTP/1.1\r\nHost: x\r\nX-Davfs-User: root\r\nContent-Length: 0\r\n\r\n"
    for number in NODES:
        for listener in INNER:
            where = address(drive, number, listener)
            for who, context in strangers.items():
                for request in REQUESTS:
                    assert said(where, request + tail, context) == b"", f"{who}: {request!r} at {listener} of node {number}"
            assert not said(where, b"GET /v1/cluster" + tail).startswith(b"HTTP/1.1 2"), "without TLS"
    own = with_certificate(drive.config(2).parent / "tls")
    answer = said(address(drive, 1, "rpc"), b"GET /v1/cluster HTTP/1.1\r\nConnection: close\r\n\r\n", own)
    assert answer.startswith(b"HTTP/1.1 "), "the same words are answered for a node"


def test_no_pickle_is_loaded(drive: DevCluster, impostor: Path, tmp_path: Path) -> None:
    mark = tmp_path / "a pickle was loaded"
    pickle.loads(pickles(mark)[0])
    assert mark.is_dir(), "it would be noticed"
    mark.rmdir()
    pids = [drive.pid(number) for number in NODES]
    leader = str(drive.status()["leader"])
    target, sender = (n for n in NODES if leader != f"node-{n}")  # two that follow: no heartbeat is between them
    node = with_certificate(drive.config(sender).parent / "tls")
    sendings: list[tuple[tuple[str, int], bytes, ssl.SSLContext | None]] = []
    for sent in pickles(mark):
        for listener in ("dav", *INNER):
            where = address(drive, target, listener)
            sendings.append((where, sent, None))
            if listener != "dav":
                for context in (nameless(), with_certificate(impostor), node):
                    sendings += [(where, sent, context), (where, _post("/rpc/v1/node.status", sent), context)]
        frames = f"POST {FRAMES_PATH} HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n".encode() + pack_frames([sent] * 3)
        sendings.append((address(drive, target, "rpc"), frames, node))
    with ThreadPoolExecutor(len(sendings)) as senders:
        heard = list(senders.map(lambda one: said(*one), sendings))
    assert any(b"invalid-input" in answer for answer in heard), "a node's call was read, and refused"
    time.sleep(0.2)
    assert not mark.exists()
    assert [drive.pid(number) for number in NODES] == pids
    for number in NODES:
        with drive.client(number) as client:
            assert client.put("after the pickles.txt", b"x").ok


def _post(path: str, body: bytes) -> bytes:
    return f"POST {path} HTTP/1.1\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
