"""Latency and throughput of calls and of the forwarder over loopback, server in a process of its own.

Run: python -m tests.unit.rpc.measure
"""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from collections.abc import Callable, Iterable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from davfs.dav.server import DavServer
from davfs.rpc import certs
from davfs.rpc.client import RpcClient
from davfs.rpc.forward import Forwarder
from davfs.rpc.identity import NodeIdentity, load_identity, peer_name
from davfs.rpc.server import RpcServer

SIZE = 4 * 1024 * 1024


def _identity(root: Path, name: str) -> NodeIdentity:
    cert, key = root / name / certs.NODE_CERT, root / name / certs.NODE_KEY
    return load_identity(root / certs.AUTHORITY_CERT, cert, key)


def _serve(root: Path, pipe: Connection) -> None:
    block = bytes(SIZE)
    handlers: dict[str, Callable[[str, dict[str, Any], bytes], tuple[Any, bytes]]] = {
        "echo": lambda peer, args, blob: (args, b""),
        "take": lambda peer, args, blob: (len(blob), b""),
        "give": lambda peer, args, blob: (None, block),
    }
    server = RpcServer("127.0.0.1", 0, _identity(root, "b"), handlers)
    server.start()
    pipe.send(server.port)
    pipe.recv()
    server.stop()


def _application(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
    while environ["wsgi.input"].read(1024 * 1024):
        pass
    blocks = 256 if environ["REQUEST_METHOD"] == "GET" else 0
    start("200 OK", [("Content-Length", str(blocks * 1024 * 1024))])
    return (bytes(1024 * 1024) for _ in range(blocks))


def _serve_wsgi(root: Path, pipe: Connection) -> None:
    identity = _identity(root, "b")
    server = DavServer("127.0.0.1", 0, _application, identity.server, threads=4, peer_name=peer_name)
    server.start()
    pipe.send(server.port)
    pipe.recv()
    server.stop()


def _start(serve: Callable[[Path, Connection], None], root: Path) -> tuple[int, Callable[[], None]]:
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(root, theirs))
    process.start()

    def stop() -> None:
        ours.send(None)
        process.join(10)

    return ours.recv(), stop


def _measure_forwarding(root: Path) -> None:
    port, stop = _start(_serve_wsgi, root)
    forwarder = Forwarder(_identity(root, "a"), lambda node: ("127.0.0.1", port))
    small = _timed(1000, lambda: b"".join(forwarder.open("b", "PUT", "/f", [], lambda n: b"x" * n, 1000)))
    print(f"forwarded PUT of 1 KB: p50 {small[500] * 1e6:.0f} us, p99 {small[990] * 1e6:.0f} us")
    total, block = 256 * 1024 * 1024, bytes(256 * 1024)
    put = _timed(5, lambda: b"".join(forwarder.open("b", "PUT", "/f", [], lambda n: block[:n], total)))
    get = _timed(5, lambda: sum(map(len, forwarder.open("b", "GET", "/f", []))))
    for name, times in (("PUT", put), ("GET", get)):
        print(f"forwarded {name} of 256 MiB: {total / times[2] / 1e6:.0f} MB/s (median)")
    forwarder.close()
    stop()


def _timed(rounds: int, work: Callable[[], object]) -> list[float]:
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return sorted(times)


def main() -> None:
    """Print the figures."""
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        certs.create_authority(root)
        for name in "ab":
            certs.issue(root, name, [])
        port, stop = _start(_serve, root)
        client = RpcClient(_identity(root, "a"), lambda node: ("127.0.0.1", port))
        args = {"volume": "v" * 22, "epoch": [1, 42], "token": b"x" * 32, "path": "some/where"}
        small = _timed(3000, lambda: client.call("b", "echo", args))
        print(f"small call: p50 {small[1500] * 1e6:.0f} us, p99 {small[2970] * 1e6:.0f} us")
        blob = bytes(SIZE)
        for method, sent in (("take", blob), ("give", b"")):
            times = _timed(60, lambda method=method, sent=sent: client.call("b", method, {}, sent))  # type: ignore[misc]
            print(f"{method} 4 MiB: {SIZE / times[30] / 1e6:.0f} MB/s (median), {times[30] * 1e3:.2f} ms")
        client.close()
        stop()
        _measure_forwarding(root)


if __name__ == "__main__":
    main()
