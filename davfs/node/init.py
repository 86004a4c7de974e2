"""Making a new cluster: a certificate authority, and for each node a folder with certificate, configuration and data.

A node's folder (``DIR/<name>``) is whole in itself and may be copied to its machine; ``DIR/authority`` holds the key
that admits nodes and stays at home. Imports config and rpc's certificates only.
"""

from __future__ import annotations

import datetime
import os
import random
import secrets
import socket
import tomllib
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from davfs.core.errors import ConfigError
from davfs.core.model import VolumePolicy
from davfs.core.passwords import hash_password
from davfs.node.config import (
    AUTHORITY,
    ClusterConfig,
    DavConfig,
    ForwardConfig,
    Member,
    NodeConfig,
    RpcConfig,
    User,
    is_loopback,
    parse_config,
)
from davfs.node.render import render
from davfs.rpc import certs
from davfs.storage.files import make_directory, sync_directory, write_durably

CONFIG_NAME = "davfs.toml"
TLS = "tls"
UNFINISHED = ".unfinished"
"""A file in a cluster's folder while it is being made. What an attempt left that was cut short is made anew."""

PUBLIC_AUTHORITY = "davfs-ca.crt"
"""A copy of the authority's certificate, for people's machines: it is no secret."""

# Below the range that Linux gives to outgoing connections: a port chosen there could be taken when a node returns.
_FREE_PORTS = range(20000, 32000)


@dataclass(frozen=True, slots=True)
class NodePlan:
    """A node of a new cluster: its name and the host and ports that others reach it under."""

    name: str
    host: str
    dav_port: int
    rpc_port: int
    forward_port: int


@dataclass(frozen=True, slots=True)
class ClusterPlan:
    """A new cluster. ``dav_cert`` and ``dav_key``: PEM files on each node's machine, for https; ``dav_tls``: its own
    authority makes them instead, for each node's host and for ``dav_names``."""

    nodes: tuple[NodePlan, ...]
    token_ttl: float = 5.0
    defaults: VolumePolicy = field(default_factory=VolumePolicy)
    users: tuple[User, ...] = ()
    plain_http: bool = False
    dav_cert: Path | None = None
    dav_key: Path | None = None
    dav_tls: bool = False
    dav_names: tuple[str, ...] = ()
    certificate_days: float = 90.0


def create_cluster(directory: Path, plan: ClusterPlan) -> list[Path]:
    """Write everything under ``directory``, durably; the nodes' configuration files, in the plan's order.

    :class:`ConfigError` if there is a cluster already, or if a node would refuse to start with what is planned.
    """
    directory = directory.absolute()
    files = [directory / node.name / CONFIG_NAME for node in plan.nodes]
    unfinished = is_unfinished(directory)
    if not unfinished and (existing := [str(file) for file in files if file.exists()]):
        raise ConfigError(f"there is a cluster already: {existing[0]}; choose another folder")
    cluster_id = secrets.token_hex(8)
    configs = [_node_config(file, node, plan, cluster_id) for node, file in zip(plan.nodes, files, strict=True)]
    for config in configs:  # before anything is written: would the node take it?
        parse_config(tomllib.loads(render(config)), config.file)
    certs.make_folder(directory)
    write_durably(directory / UNFINISHED, b"")
    for file in directory.glob(f"*/{CONFIG_NAME}") if unfinished else ():
        file.unlink()
    authority = directory / AUTHORITY
    if not (authority / certs.AUTHORITY_CERT).exists():
        certs.create_authority(authority)
    for node, config in zip(plan.nodes, configs, strict=True):
        life = datetime.timedelta(days=plan.certificate_days)
        certs.issue(authority, node.name, [node.host], config.file.parent / TLS, life)
        if plan.dav_tls:
            certs.issue_public(authority, [node.host, *plan.dav_names], config.file.parent / TLS)
        make_directory(config.data)
        write_config(config)
    if plan.dav_tls:
        write_durably(directory / PUBLIC_AUTHORITY, (authority / certs.AUTHORITY_CERT).read_bytes())
        (directory / PUBLIC_AUTHORITY).chmod(0o644)
    (directory / UNFINISHED).unlink()
    sync_directory(directory)
    return files


def is_unfinished(directory: Path) -> bool:
    """Whether a cluster's folder is what an attempt to make it has left that was cut short."""
    return (directory / UNFINISHED).exists()


def _node_config(file: Path, node: NodePlan, plan: ClusterPlan, cluster_id: str) -> NodeConfig:
    tls = file.parent / TLS
    cert, key = (tls / certs.PUBLIC_CERT, tls / certs.PUBLIC_KEY) if plan.dav_tls else (plan.dav_cert, plan.dav_key)
    scheme = "http" if cert is None else "https"
    members = tuple(
        Member(n.name, (n.host, n.rpc_port), (n.host, n.forward_port), f"{scheme}://{_in_url(n.host)}:{n.dav_port}")
        for n in plan.nodes
    )
    return NodeConfig(
        file,
        node.name,
        file.parent / "data",
        ClusterConfig(cluster_id, members, plan.token_ttl, plan.defaults, certificate_days=plan.certificate_days),
        DavConfig(
            (node.host, node.dav_port),
            anonymous=not plan.users and is_loopback(node.host),
            users=plan.users,
            plain_http=plan.plain_http,
            cert=cert,
            key=key,
        ),
        RpcConfig((node.host, node.rpc_port), tls / certs.NODE_CERT, tls / certs.NODE_KEY, tls / certs.AUTHORITY_CERT),
        ForwardConfig((node.host, node.forward_port)),
    )


def write_config(config: NodeConfig) -> None:
    """Write (or replace) a node's file, whole or not at all, durably; readable by its owner only: it holds password hashes.

    :class:`ConfigError`, and nothing is written, if the node would refuse it.
    """
    text = render(config)
    parse_config(tomllib.loads(text), config.file)
    certs.make_folder(config.file.parent)
    temporary = config.file.with_name(config.file.name + ".new")
    temporary.unlink(missing_ok=True)
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(config.file)
    sync_directory(config.file.parent)


def new_user(text: str) -> User:
    """An account from ``NAME:PASSWORD``."""
    name, colon, password = text.partition(":")
    if not name or not colon or not password:
        raise ConfigError(f"a user is given as NAME:PASSWORD, not {text!r}")
    return User(name, hash_password(password, secrets.token_bytes(16)))


def free_ports(count: int, avoid: Collection[int] = ()) -> list[int]:
    """Loopback ports that nobody listens on now, all different and none of ``avoid``."""
    found: list[int] = []
    candidates: Sequence[int] = random.SystemRandom().sample(_FREE_PORTS, len(_FREE_PORTS))
    for port in candidates:
        if len(found) == count:
            return found
        if port not in avoid and port_is_free(port):
            found.append(port)
    raise ConfigError("there are not enough free ports on 127.0.0.1")


def port_is_free(port: int) -> bool:
    """Whether a server could listen on this loopback port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host
