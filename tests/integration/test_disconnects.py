"""A client that goes away in the middle of a PUT changes nothing that a reader can see."""

from __future__ import annotations

import secrets
import socket
import struct
import time

import pytest

from tests.support.cluster import DevCluster

SENT = 6 << 20
"""More than one chunk, so that some of the upload reached the disks."""


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("through", ["holder", "other node"])
def test_a_broken_upload_changes_nothing(drive: DevCluster, framing: str, through: str, reset: bool) -> None:
    holder = drive.holder()
    number = holder if through == "holder" else holder % 3 + 1
    folder = f"broken-{secrets.token_hex(4)}"
    old = secrets.token_bytes(5000)
    with drive.client(number) as client:
        assert client.request("MKCOL", folder).status == 201
        assert client.put(f"{folder}/old.bin", old).status == 201
        etag = client.request("HEAD", f"{folder}/old.bin").headers["etag"]
        for name in ("old.bin", "new.bin"):
            _break_off(drive.port + number - 1, f"/demo/{folder}/{name}", framing, reset)
        time.sleep(0.3)
        for reader in (1, 2, 3):
            with drive.client(reader) as other:
                assert other.members(folder) == ["old.bin"]
                answer = other.get(f"{folder}/old.bin")
                assert answer.body == old
                assert answer.headers["etag"] == etag
                assert other.get(f"{folder}/new.bin").status == 404
        assert client.put(f"{folder}/new.bin", b"whole").status == 201


def test_a_body_shorter_than_announced_is_not_kept(drive: DevCluster) -> None:
    with socket.create_connection(("127.0.0.1", drive.port), timeout=20) as raw:
        raw.sendall(b"PUT /demo/short.bin HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nabc")
        raw.shutdown(socket.SHUT_WR)
        answer = raw.recv(4096)
    assert not answer.startswith(b"HTTP/1.1 2")
    with drive.client(2) as client:
        assert client.get("short.bin").status == 404


def _break_off(port: int, path: str, framing: str, reset: bool) -> None:
    """Announce 20 MB, send some of it, disappear (with a TCP reset when told)."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as raw:
        if reset:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        announced = "Content-Length: 20000000" if framing == "length" else "Transfer-Encoding: chunked"
        raw.sendall(f"PUT {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{announced}\r\n\r\n".encode())
        block = secrets.token_bytes(1 << 16)
        for _ in range(SENT // len(block)):
            raw.sendall(block if framing == "length" else b"%x\r\n%b\r\n" % (len(block), block))
        time.sleep(0.2)
