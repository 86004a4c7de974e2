"""Writes of a part of a file, on a real drive: what they cost on disk, and that no reader sees half of one."""

from __future__ import annotations

import threading
from pathlib import Path

from compat.client import DavClient
from tests.support.cluster import DevCluster

MIB = 1 << 20
SIZE = 24 * MIB  # six chunks
TYPE = "application/x-sabredav-partialupdate"


def _patch(client: DavClient, name: str, where: str, body: bytes) -> int:
    return client.request("PATCH", name, body, {"Content-Type": TYPE, "X-Update-Range": where}).status


def _chunks(directory: Path) -> set[str]:
    return {path.name for path in directory.glob("node-*/data/chunks/*/*/*") if len(path.name) == 64}


def test_only_the_chunks_that_a_part_touches_are_new(drive: DevCluster):
    other = drive.holder() % 3 + 1
    with drive.client(other) as client:
        assert client.put("part.bin", bytes(range(256)) * (SIZE // 256)).status == 201
        before = _chunks(drive.directory)
        assert before, "the chunks are not where this test looks"
        assert _patch(client, "part.bin", f"bytes={9 * MIB}-", b"x" * 1000) == 204
        assert len(_chunks(drive.directory) - before) == 1
        assert _patch(client, "part.bin", f"bytes={12 * MIB - 5}-", b"y" * 10) == 204
        assert len(_chunks(drive.directory) - before) == 3
        got = client.get("part.bin").body
        assert (len(got), got[9 * MIB : 9 * MIB + 1000]) == (SIZE, b"x" * 1000)
        assert got[12 * MIB - 5 : 12 * MIB + 5] == b"y" * 10
        client.request("DELETE", "part.bin")


def test_no_reader_sees_half_of_a_part(drive: DevCluster):
    """A part over three chunks is one version or the other; parts that several clients append all arrive."""
    length = 9 * MIB
    with drive.client(1) as writer:
        assert writer.put("whole.bin", b"0" * SIZE).status == 201
        seen: list[bytes] = []
        stopped = threading.Event()

        def read() -> None:
            with drive.client(3) as reader:
                while not stopped.is_set():
                    seen.append(bytes(set(reader.get("whole.bin").body[MIB : MIB + length])))

        thread = threading.Thread(target=read)
        thread.start()
        for digit in b"123456":
            assert _patch(writer, "whole.bin", f"bytes={MIB}-", bytes([digit]) * length) == 204
        stopped.set()
        thread.join(60)
        assert seen
        assert all(len(digits) == 1 for digits in seen)
        writer.request("DELETE", "whole.bin")

        assert writer.put("log.txt", b"").status == 201
        statuses: list[int] = []

        def append(number: int) -> None:
            with drive.client(number % 3 + 1) as client:
                statuses.extend(_patch(client, "log.txt", "append", b"line %d %02d\n" % (number, n)) for n in range(10))

        threads = [threading.Thread(target=append, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert statuses == [204] * 40
        lines = writer.get("log.txt").body.splitlines()
        assert sorted(lines) == sorted(b"line %d %02d" % (number, n) for number in range(4) for n in range(10))
        writer.request("DELETE", "log.txt")
