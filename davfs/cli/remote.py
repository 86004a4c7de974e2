"""How the command line asks the nodes: node-to-node HTTP with the certificate of the node it is given the file of.

The configuration's own node is asked first, then the others: any node answers for the cluster. Imports rpc.
"""

from __future__ import annotations

import argparse
import secrets
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from davfs.core.errors import DavfsError, Unavailable
from davfs.node.config import NodeConfig, load_config, parse_address
from davfs.node.renewal import load_own
from davfs.rpc.client import RpcClient

TIMEOUT = 8.0
STATUS_TIMEOUT = 2.0


def add_config(command: argparse.ArgumentParser) -> None:
    """The --config option of commands that talk to the cluster."""
    command.add_argument("--config", type=Path, required=True, metavar="FILE", help="the davfs.toml of any node")


class Remote:
    """The cluster as one node's configuration shows it."""

    def __init__(self, config: NodeConfig) -> None:
        self.config = config
        self._addresses = {member.name: member.rpc for member in config.cluster.nodes}
        self._client = RpcClient(load_own(config), self._addresses.__getitem__)

    @property
    def nodes(self) -> list[str]:
        """The names of the nodes that are known: the file's, and those learned since."""
        return list(self._addresses)

    def learn(self, nodes: Sequence[Mapping[str, Any]]) -> None:
        """Take over the nodes and addresses of ``admin.status``: others than the file's may have joined or gone."""
        known = {str(node["name"]): parse_address(node["rpc"]) for node in nodes if node.get("rpc")}
        for name in self._addresses.keys() - {str(node["name"]) for node in nodes}:
            del self._addresses[name]
        for name, address in known.items():
            self._addresses.setdefault(name, address)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def ask_node(self, node: str, method: str, args: Mapping[str, Any], timeout: float = TIMEOUT) -> Any:
        """One node's answer."""
        value, _ = self._client.call(node, method, dict(args), timeout=timeout)
        return value

    def exchange(self, node: str, method: str, args: Mapping[str, Any], blob: bytes, timeout: float) -> tuple[Any, bytes]:
        """The same with bytes both ways."""
        return self._client.call(node, method, dict(args), blob, timeout)

    def ask(self, method: str, args: Mapping[str, Any], timeout: float = TIMEOUT) -> Any:
        """The answer of the first node that can give one, the configuration's own first.

        A refusal is an answer. The error, when no node answers, names what each said.
        """
        names = sorted(self.nodes, key=lambda name: name != self.config.name)
        args = {"request_id": secrets.token_hex(16), **args}  # a change that two nodes are asked for happens once
        troubles = []
        for name in names:
            try:
                return self.ask_node(name, method, args, timeout)
            except Unavailable as error:
                troubles.append(f"{name}: {error.message}")
        raise Unavailable("no node could answer. " + "; ".join(troubles))

    def ask_all(self, method: str, timeout: float = STATUS_TIMEOUT) -> dict[str, Any]:
        """Every node's answer to a question without arguments, or None where there was none."""

        def one(name: str) -> Any:
            try:
                return self.ask_node(name, method, {}, timeout)
            except DavfsError:
                return None

        names = self.nodes
        with ThreadPoolExecutor(len(names)) as pool:
            return dict(zip(names, pool.map(one, names), strict=True))


@contextmanager
def connect(file: Path) -> Iterator[Remote]:
    """The cluster of a configuration file."""
    remote = Remote(load_config(file))
    try:
        yield remote
    finally:
        remote.close()


def chosen(remote: Remote, name: str | None) -> list[dict[str, Any]]:
    """The volume of that name, or all without one; an unknown one is refused in the nodes' own words."""
    volumes = [volume for volume in remote.ask("admin.volume_list", {}) if name in (None, volume["name"])]
    if not volumes and name is not None:
        remote.ask("admin.volume_show", {"name": name})
    return volumes
