"""A machine that joins a :class:`~tests.support.cluster.DevCluster` from outside, with a token."""

from __future__ import annotations

import subprocess
import tomllib
from typing import Any

from compat.client import DavClient
from tests.support.cluster import DAVFS, DevCluster
from tests.support.ports import free_run


class Newcomer:
    """A machine beside the cluster's, with a folder of its own."""

    def __init__(self, cluster: DevCluster, name: str) -> None:
        self.cluster, self.name = cluster, name
        self.folder = cluster.directory.parent / name
        self.port = free_run(1)
        self.process: subprocess.Popen[bytes] | None = None

    def join(self, token: str, seed: int = 1) -> subprocess.CompletedProcess[str]:
        address = tomllib.loads(self.cluster.config(seed).read_text())["rpc"]["listen"]
        words = ["node", "join", address, "--token", "-", "--dir", str(self.folder), "--name", self.name]
        return subprocess.run(
            [str(DAVFS), *words, "--dav-port", str(self.port)],
            input=token, capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip

    def serve(self) -> None:
        self.process = self.cluster.serve_file(self.folder / "davfs.toml", f"node-{self.name}")

    def client(self, volume: str) -> DavClient:
        return DavClient(f"http://127.0.0.1:{self.port}/{volume}/", timeout=30)

    def chunks(self) -> int:
        return sum(file.is_file() for file in (self.folder / "data" / "chunks").rglob("*"))

    def state(self) -> dict[str, Any]:
        """What ``davfs status`` says of it."""
        nodes = self.cluster.status()["nodes"]
        return next((node for node in nodes if node["name"] == self.name), {"up": False, "votes": False})


def token_of(cluster: DevCluster) -> str:
    done = cluster.command("node", "token", number=2)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def admitted(cluster: DevCluster, name: str, token: str, seed: int) -> Newcomer:
    node = Newcomer(cluster, name)
    done = node.join(token, seed)
    assert done.returncode == 0, cluster.story(done.stderr)
    assert "davfs serve" in done.stdout
    assert not node.state()["started"]
    node.serve()
    took = cluster.until(f"{name} to vote", lambda: node.state()["up"] and node.state()["votes"], 30)
    print(f"{name} votes {took:.1f} s after its start")
    return node
