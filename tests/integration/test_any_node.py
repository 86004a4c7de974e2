"""Any node serves any volume: every pair of nodes, forwarding, volumes apart."""

from __future__ import annotations

import itertools
import secrets
import threading
from http.client import HTTPConnection

import pytest

from tests.support.cluster import DevCluster

NODES = (1, 2, 3)


@pytest.mark.parametrize("number", NODES)
def test_the_root_lists_the_volumes(drive: DevCluster, number: int) -> None:
    with drive.client(number, "") as client:
        assert {"demo/", "second/"} <= set(client.members())


@pytest.mark.parametrize(("writer", "reader"), [*itertools.product(NODES, NODES)])
@pytest.mark.parametrize("volume", ["demo", "second"])
def test_what_one_node_acknowledged_every_node_reads_at_once(
    drive: DevCluster, writer: int, reader: int, volume: str
) -> None:
    name, data = f"from {writer} to {reader}.txt", secrets.token_bytes(2000)
    with drive.client(writer, volume) as here, drive.client(reader, volume) as there:
        for content in (data, data[::-1]):
            assert here.put(name, content).ok
            assert there.get(name).body == content
            assert name in there.members()
        assert there.request("DELETE", name).ok
        assert here.get(name).status == 404


def test_volumes_share_no_names(drive: DevCluster) -> None:
    with drive.client(1, "demo") as demo, drive.client(2, "second") as second:
        assert demo.put("only in demo.txt", b"demo").ok
        assert second.get("only in demo.txt").status == 404
        assert second.put("only in demo.txt", b"second").ok
        assert demo.get("only in demo.txt").body == b"demo"


def test_namespace_operations_through_every_node(drive: DevCluster) -> None:
    folder = f"ops-{secrets.token_hex(3)}"
    clients = [drive.client(number) for number in NODES]
    assert clients[0].request("MKCOL", folder).status == 201
    assert clients[1].request("MKCOL", f"{folder}/inner").status == 201
    assert clients[2].put(f"{folder}/inner/a.txt", b"a").status == 201
    assert clients[0].move(f"{folder}/inner", f"{folder}/moved").status == 201
    assert clients[1].move(f"{folder}/moved/a.txt", f"{folder}/b.txt", method="COPY").status == 201
    assert clients[2].members(folder) == ["b.txt", "moved/"]
    assert clients[1].get(f"{folder}/moved/a.txt").body == b"a"
    assert clients[2].request("DELETE", folder).status == 204
    for client in clients:
        assert client.request("PROPFIND", folder, headers={"Depth": "0"}).status == 404
        client.close()


def test_a_forwarded_upload_streams(drive: DevCluster) -> None:
    """The second half of a body is made only after the first half went out: a node that collected the whole would still pass,
    one that needs the whole before it asks the holder would time out first."""
    holder = drive.holder()
    other = holder % 3 + 1
    half = secrets.token_bytes(6 << 20)
    first_half_gone = threading.Event()

    def body():
        yield half
        first_half_gone.set()
        yield half

    with drive.client(other) as client:
        answer = client.request("PUT", "streamed.bin", body(), {"Content-Length": str(2 * len(half))})
        assert answer.ok
        assert first_half_gone.is_set()
    for number in NODES:
        with drive.client(number) as client:
            assert client.get("streamed.bin").body == half + half


def test_a_forwarded_download_streams(drive: DevCluster) -> None:
    """The first block of a large file arrives while the rest is not even asked for: the reader stops there and goes away."""
    holder = drive.holder()
    other = holder % 3 + 1
    data = secrets.token_bytes(24 << 20)
    with drive.client(other) as client:
        assert client.put("to stream.bin", data).ok
        response = client.open("GET", "to stream.bin")
        assert response.status == 200
        assert response.read(1 << 16) == data[: 1 << 16]
        client.close()
        assert client.get("to stream.bin", {"Range": "bytes=20000000-20000009"}).body == data[20000000:20000010]


def test_keep_alive_survives_a_forwarded_request(drive: DevCluster) -> None:
    holder = drive.holder()
    other = holder % 3 + 1
    connection = HTTPConnection("127.0.0.1", drive.port + other - 1, timeout=20)
    connection.connect()
    first = connection.sock
    for content in (b"one", b"two"):
        connection.request("PUT", "/demo/kept.txt", content)
        assert connection.getresponse().read() is not None
        connection.request("GET", "/demo/kept.txt")
        assert connection.getresponse().read() == content
    assert connection.sock is first
    connection.close()
