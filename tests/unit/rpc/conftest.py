"""A cluster authority and node identities, made once; servers that are stopped whatever happens."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from davfs.rpc import certs
from davfs.rpc.client import RpcClient
from davfs.rpc.identity import NodeIdentity, load_identity
from davfs.rpc.server import Handler, RpcServer


class Nodes:
    """Identities by node name, and addresses of what was started."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.addresses: dict[str, tuple[str, int]] = {}
        self._identities: dict[str, NodeIdentity] = {}
        self._undo: list[Callable[[], None]] = []
        certs.create_authority(root)

    def identity(self, name: str) -> NodeIdentity:
        if name not in self._identities:
            cert, key = certs.issue(self.root, name, ["localhost"])
            self._identities[name] = load_identity(self.root / certs.AUTHORITY_CERT, cert, key)
        return self._identities[name]

    def resolve(self, node: str) -> tuple[str, int]:
        return self.addresses[node]

    def serve(self, name: str, handlers: dict[str, Handler], port: int = 0, **options: Any) -> RpcServer:
        server = RpcServer("127.0.0.1", port, self.identity(name), handlers, **options)
        server.start()
        self.addresses[name] = ("127.0.0.1", server.port)
        self._undo.append(server.stop)
        return server

    def client(self, name: str = "a") -> RpcClient:
        client = RpcClient(self.identity(name), self.resolve)
        self._undo.append(client.close)
        return client

    def later(self, undo: Callable[[], None]) -> None:
        self._undo.append(undo)

    def undo(self) -> None:
        while self._undo:
            self._undo.pop()()
        self.addresses.clear()


@pytest.fixture(scope="session")
def _cluster(tmp_path_factory: pytest.TempPathFactory) -> Nodes:
    return Nodes(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def nodes(_cluster: Nodes) -> Iterator[Nodes]:
    before = set(threading.enumerate())
    yield _cluster
    _cluster.undo()
    for thread in set(threading.enumerate()) - before:
        thread.join(3)
    left = [thread.name for thread in set(threading.enumerate()) - before if thread.is_alive()]
    assert not left, f"threads left behind: {left}"


@pytest.fixture(scope="session")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Nodes:
    """Another cluster: same node names, another authority."""
    return Nodes(tmp_path_factory.mktemp("foreign"))
