"""Programs beside a drive: one in a process of its own, to be killed, and one that knows only the HTTP API."""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import sys
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]

CHILD = """
import sys, time
from davfs.client import connect
with connect(sys.argv[1]) as cluster:
    volume = cluster.assign(sys.argv[2], ttl=2.0)
    file = volume.open("/counter", create=True)
    file.write_at(0, b"child 0")
    print("ready", flush=True)
    for number in range(1, 100000):
        try:
            file.write_at(0, b"child %d" % number)
            print("wrote", number, flush=True)
        except Exception as error:
            print("error", type(error).__name__, flush=True)
            time.sleep(0.05)
        if sys.stdin.readline() == "":
            break
"""


class Child:
    """A program in a process of its own: one write for each line that it is sent."""

    def __init__(self, folder: Path, volume: str, temporary: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(folder), volume],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=ROOT,
            env={**os.environ, "TMPDIR": str(temporary)},  # a killed program leaves its working copy there
        )  # fmt: skip
        assert self.line() == "ready\n"
        assert self.line().startswith("wrote")

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def go_on(self) -> str:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self.line()

    def end(self) -> None:
        self.process.kill()
        self.process.wait(10)
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            stream.close()


class Plain:
    """HTTPS with a program's certificate and nothing of davfs."""

    def __init__(self, folder: Path) -> None:
        nodes = json.loads((folder / "program.json").read_text())["nodes"]
        self.addresses = {name: (host, port) for name, (host, port) in nodes.items()}
        self.context = ssl.create_default_context(cafile=str(folder / "ca.pem"))
        self.context.load_cert_chain(folder / "program.pem", folder / "program.key")
        self.proof: dict[str, str] = {}

    def ask(self, method: str, path: str, body: bytes = b"", node: str = "node-1", **fields: str) -> tuple[int, Any, Any]:
        host, port = self.addresses[node]
        connection = HTTPSConnection(host, port, context=self.context, timeout=10)
        try:
            connection.request(method, path, body, {**self.proof, **fields})
            answer = connection.getresponse()
            data = answer.read()
            is_json = answer.headers["Content-Type"] == "application/json" and data
            return answer.status, json.loads(data) if is_json else data, answer.headers
        finally:
            connection.close()
