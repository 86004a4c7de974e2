"""The wires of production for :class:`tests.integration.consensus.cluster.Cluster`: frames over HTTP and mutual TLS."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from davfs.rpc.certs import create_authority, issue
from davfs.rpc.frames import HttpFrameNetwork
from davfs.rpc.identity import load_identity
from davfs.rpc.server import RpcServer


class HttpWires:
    """Makes one network a member. Ports are chosen anew at each start; everybody looks them up here."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._authority = create_authority(directory)
        self.ports: dict[str, int] = {}

    def port(self, name: str) -> HttpPort:
        return HttpPort(self, name)

    def resolve(self, name: str) -> tuple[str, int]:
        return "127.0.0.1", self.ports.get(name, 1)


class HttpPort:
    """One member's server and :class:`HttpFrameNetwork`, closed together."""

    def __init__(self, wires: HttpWires, name: str) -> None:
        identity = load_identity(wires._authority, *issue(wires._directory, name, ["127.0.0.1"]))
        self._network = HttpFrameNetwork(identity, wires.resolve)
        self._server = RpcServer("127.0.0.1", 0, identity, {}, self._network.deliver, max_threads=8)
        self._server.start()
        wires.ports[name] = self._server.port
        self.start: Callable[[Callable[[str, bytes], None]], None] = self._network.start
        self.send: Callable[[str, bytes], bool] = self._network.send

    def set_peers(self, peers: Iterable[str]) -> None:
        self._network.set_peers(peers)

    def close(self) -> None:
        self._network.close()
        self._server.stop(1.0)
