"""Latency and throughput of calls and of the forwarder over loopback, server in a process of its own.

Run: python -m tests.unit.rpc.measure
"""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from davfs.rpc import certs
from davfs.rpc.client import RpcClient
from davfs.rpc.server import RpcServer

SIZE = 4 * 1024 * 1024


def _identity(root: Path, name: str) -> certs.NodeIdentity:
    cert, key = root / name / certs.NODE_CERT, root / name / certs.NODE_KEY
    return certs.load_identity(root / certs.AUTHORITY_CERT, cert, key)


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
        ours, theirs = multiprocessing.Pipe()
        process = multiprocessing.get_context("spawn").Process(target=_serve, args=(root, theirs))
        process.start()
        port = ours.recv()
        client = RpcClient(_identity(root, "a"), lambda node: ("127.0.0.1", port))
        args = {"volume": "v" * 22, "epoch": [1, 42], "token": b"x" * 32, "path": "some/where"}
        small = _timed(3000, lambda: client.call("b", "echo", args))
        print(f"small call: p50 {small[1500] * 1e6:.0f} us, p99 {small[2970] * 1e6:.0f} us")
        blob = bytes(SIZE)
        for method, sent in (("take", blob), ("give", b"")):
            times = _timed(60, lambda method=method, sent=sent: client.call("b", method, {}, sent))  # type: ignore[misc]
            print(f"{method} 4 MiB: {SIZE / times[30] / 1e6:.0f} MB/s (median), {times[30] * 1e3:.2f} ms")
        client.close()
        ours.send(None)
        process.join(10)


if __name__ == "__main__":
    main()
