"""The configuration of a node: TOML in, frozen dataclasses out. Nothing else in davfs reads it.

Paths in the file are relative to the file's folder. An unknown key or a wrong value is a :class:`ConfigError` that
names file, key and what is allowed. The ``[cluster]`` table must be the same on every node, but that a node which joined
later lists those that it knew then: nodes that meet exchange it, and ``difference`` says what differs. Imports core, and of
dav what its own settings may be.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from davfs.core.errors import ConfigError, InvalidInput
from davfs.core.model import AVAILABLE, MIB, STRICT, NodeInfo, VolumePolicy
from davfs.core.passwords import check_hash
from davfs.dav.proxies import FAMILIES, X_FORWARDED, parse_networks
from davfs.dav.target import parse_prefix
from davfs.node.tables import Table

FORMAT = 1
"""The version of the file's format: ``version = 1`` at its top."""

AUTHORITY = "authority"
"""The folder beside the nodes' folders that holds the key of the cluster's authority."""

NODE_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
"""One DNS label: it stands in the node's certificate as a DNS name too."""

SHORTEST_CERTIFICATE = 0.0001
"""Days that a node's certificate is made for, at least: nine seconds, which is for trying out how they are renewed."""

Address: TypeAlias = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Member:
    """A node as every node's file lists it."""

    name: str
    rpc: Address
    forward: Address
    dav: str
    zone: str = ""
    weight: float = 1.0

    def info(self, incarnation: str = "") -> NodeInfo:
        """As the cluster knows it. ``incarnation``: of its data directory."""
        addresses = format_address(self.rpc), format_address(self.forward)
        return NodeInfo(self.name, self.dav, self.zone, self.weight, incarnation, *addresses)


@dataclass(frozen=True, slots=True)
class ClusterConfig:
    """What every node must agree on. ``token_ttl`` in seconds; ``defaults``: the policy of new volumes; a session ends
    ``session_idle`` seconds after its last request; a node's certificate is made for ``certificate_days``; a chunk that
    nothing names is kept for ``chunk_grace`` seconds after it was last promised, and read for ``chunk_quarantine`` more."""

    id: str
    nodes: tuple[Member, ...]
    token_ttl: float = 5.0
    defaults: VolumePolicy = field(default_factory=VolumePolicy)
    session_idle: float = 60.0
    certificate_days: float = 90.0
    chunk_grace: float = 3600.0
    chunk_quarantine: float = 86_400.0


@dataclass(frozen=True, slots=True)
class User:
    """An account: name and password hash (``core.passwords``)."""

    name: str
    password: str


@dataclass(frozen=True, slots=True)
class DavConfig:
    """The public WebDAV listener. What proxies in front of it say is taken from ``trusted_proxies`` alone, in the fields that
    ``proxy_headers`` names; ``prefix``: the path under which they show the drive, if they pass it on."""

    listen: Address
    anonymous: bool = False
    users: tuple[User, ...] = ()
    plain_http: bool = False
    cert: Path | None = None
    key: Path | None = None
    external_names: tuple[str, ...] = ()
    trusted_proxies: tuple[str, ...] = ()
    proxy_headers: str = X_FORWARDED
    prefix: str = ""


@dataclass(frozen=True, slots=True)
class RpcConfig:
    """The node-to-node listener and this node's certificate, used by the forward listener and as a client too.

    ``authority``: a folder with the key of the cluster's authority, for a node that lets others join.
    """

    listen: Address
    cert: Path
    key: Path
    ca: Path
    authority: Path | None = None


@dataclass(frozen=True, slots=True)
class ForwardConfig:
    """The listener for DAV requests that another node forwards."""

    listen: Address


@dataclass(frozen=True, slots=True)
class Limits:
    """What bounds threads and memory of a node."""

    dav_threads: int = 640
    rpc_threads: int = 32
    forward_threads: int = 640
    working_requests: int = 16
    upload_window: int = 3  # chunks of one upload that may wait for their write quorum at once
    document_cache: int = 64  # documents of a volume kept loaded
    log_thousands: int = 200  # records, in thousands, and
    log_mib: int = 256  # their size, that are kept for a volume replica which is away; then it needs a snapshot
    snapshot_mib_per_s: int = 32  # how fast one is made and fetched
    scrub_hours: int = 24  # between two passes that verify every copy
    scrub_mib_per_s: int = 16  # how fast such a pass reads
    collect_minutes: int = 60  # between two runs of the collector of a volume
    deleted_volume_hours: int = 168  # a deleted volume's data stays on this node's disk


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """One node's whole configuration."""

    file: Path
    name: str
    data: Path
    cluster: ClusterConfig
    dav: DavConfig
    rpc: RpcConfig
    forward: ForwardConfig
    limits: Limits = field(default_factory=Limits)
    joined: bool = False  # by `davfs node join`: the nodes of the file are those that it begins with, without a vote

    @property
    def authority(self) -> Path:
        """Where the authority's key is, if this node has it: as the file says, or where `davfs init` puts it."""
        return self.rpc.authority or self.file.parent.parent / AUTHORITY

    @property
    def member(self) -> Member:
        """This node's own line in the list of nodes."""
        return next(m for m in self.cluster.nodes if m.name == self.name)

    @property
    def pid_file(self) -> Path:
        """Where a running node writes its process id: beside the configuration."""
        return self.file.parent / "pid"


def load_config(file: Path) -> NodeConfig:
    """Read and check a node's file; :class:`ConfigError` with file, key and what is allowed."""
    file = file.absolute()
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{file}: no such file; `davfs init` writes the configuration of a new cluster") from None
    except (OSError, ValueError) as error:  # of TOML, of UTF-8, of numbers of thousands of digits
        raise ConfigError(f"{file}: cannot be read: {error}", file=str(file)) from error
    return parse_config(document, file)


def parse_config(document: Mapping[str, Any], file: Path) -> NodeConfig:
    """Check a document that was read from ``file``."""
    top = Table(str(file), "", document)
    version = top.integer("version", low=1)
    if version != FORMAT:
        top.wrong("version", f"this davfs reads version {FORMAT}, the file has {version}")
    node = top.table("node")
    name, data, joined = node.text("name"), file.parent / node.text("data"), node.flag("joined", default=False)
    node.done()
    cluster = _cluster(top.table("cluster"))
    names = [m.name for m in cluster.nodes]
    if name not in names:
        node.wrong("name", f"{name!r} is not among cluster.nodes ({', '.join(names)})")
    config = NodeConfig(
        file,
        name,
        data,
        cluster,
        _dav(top.table("dav"), file.parent),
        _rpc(top.table("rpc"), file.parent),
        _forward(top.table("forward")),
        _limits(top.table("limits", required=False)),
        joined,
    )
    top.done()
    return config


def _cluster(table: Table) -> ClusterConfig:
    members: list[Member] = []
    for item in table.tables("nodes", required=True):
        member = Member(
            item.text("name"),
            _address(item, "rpc"),
            _address(item, "forward"),
            _url(item, "dav"),
            item.text("zone", ""),
            item.number("weight", 1.0, low=0.0, high=1e6),
        )
        item.done()
        if not NODE_NAME.fullmatch(member.name):
            item.wrong("name", f"must be of a-z, 0-9 and '-', at most 63 characters, not {member.name!r}")
        if member.name in [m.name for m in members]:
            item.wrong("name", f"{member.name!r} is listed twice")
        members.append(member)
    if not members:
        table.wrong("nodes", "must list at least one node")
    defaults = _policy(table.table("defaults", required=False), len(members))
    config = ClusterConfig(
        table.text("id"),
        tuple(members),
        table.number("token_ttl", 5.0, low=0.5, high=3600.0),
        defaults,
        table.number("session_idle", 60.0, low=1.0, high=86_400.0),
        table.number("certificate_days", 90.0, low=SHORTEST_CERTIFICATE, high=3650.0),
        table.number("chunk_grace", 3600.0, low=1.0, high=30 * 86_400.0),
        table.number("chunk_quarantine", 86_400.0, low=1.0, high=30 * 86_400.0),
    )
    table.done()
    return config


def _policy(table: Table, nodes: int) -> VolumePolicy:
    """The policy of new volumes; a cluster smaller than three nodes has as many copies as it has nodes."""
    few = min(3, nodes)
    return _read_policy(table, nodes, VolumePolicy(copies=few, write_quorum=few // 2 + 1, replicas=few))


def check_policy(cluster: ClusterConfig, changes: Mapping[str, Any], nodes: int = 0) -> VolumePolicy:
    """The cluster's default policy with some values changed; :class:`ConfigError` names the one that is wrong.

    ``nodes``: how many the cluster has, if they are more than its files list.
    """
    return _read_policy(Table("policy", "", changes), max(nodes, len(cluster.nodes)), cluster.defaults)


def _read_policy(table: Table, nodes: int, usual: VolumePolicy) -> VolumePolicy:
    copies = table.integer("copies", usual.copies, low=1, high=16)
    quorum = usual.write_quorum if copies == usual.copies else copies // 2 + 1
    policy = VolumePolicy(
        chunk_size=table.integer("chunk_size", usual.chunk_size, low=4096, high=8 * MIB),
        copies=copies,
        write_quorum=table.integer("write_quorum", quorum, low=1, high=copies),
        read_quorum=table.integer("read_quorum", min(usual.read_quorum, copies), low=1, high=copies),
        replicas=table.integer("replicas", usual.replicas, low=1, high=15),
        consistency=table.text("consistency", usual.consistency, (STRICT, AVAILABLE)),
        mode=table.text("mode", usual.mode, ("shared", "exclusive")),
        reads=table.text("reads", usual.reads, ("lease", "confirmed")),
        trash_days=table.integer("trash_days", usual.trash_days, low=0, high=3650),
        quota=table.integer("quota", usual.quota, low=0),
    )
    table.done()
    for key in ("copies", "replicas"):
        if getattr(policy, key) > nodes:
            table.wrong(key, f"is {getattr(policy, key)}, but the cluster has only {nodes} nodes")
    return policy


def _dav(table: Table, folder: Path) -> DavConfig:
    users: list[User] = []
    for item in table.tables("user"):
        user = User(item.text("name"), item.text("password"))
        item.done()
        if ":" in user.name:
            item.wrong("name", "must not have a colon (RFC 7617)")
        if user.name in [u.name for u in users]:
            item.wrong("name", f"{user.name!r} is listed twice")
        try:
            check_hash(user.password)
        except InvalidInput as error:
            item.wrong("password", error.message)
        users.append(user)
    config = DavConfig(
        _address(table, "listen"),
        table.flag("anonymous", default=False),
        tuple(users),
        table.flag("plain_http", default=False),
        _optional_path(table, "cert", folder),
        _optional_path(table, "key", folder),
        table.texts("external_names"),
        table.texts("trusted_proxies"),
        table.text("proxy_headers", X_FORWARDED, FAMILIES),
        table.text("prefix", ""),
    )
    table.done()
    for key, check in (("trusted_proxies", parse_networks), ("prefix", parse_prefix)):
        try:
            check(getattr(config, key))
        except InvalidInput as error:
            table.wrong(key, error.message)
    local = is_loopback(config.listen[0])
    if (config.cert is None) != (config.key is None):
        table.wrong("key" if config.key is None else "cert", "is missing: TLS needs both dav.cert and dav.key")
    if config.anonymous and not local:
        table.wrong("anonymous", f"true is only for loopback, and dav.listen is {config.listen[0]}; make accounts")
    if config.cert is None and not local and not config.plain_http:
        table.wrong(
            "plain_http",
            "passwords would cross the network in the clear: give dav.cert and dav.key, or say plain_http = true "
            "because a proxy in front ends TLS",
        )
    return config


def _rpc(table: Table, folder: Path) -> RpcConfig:
    config = RpcConfig(
        _address(table, "listen"), folder / table.text("cert"), folder / table.text("key"), folder / table.text("ca"),
        _optional_path(table, "authority", folder),
    )  # fmt: skip
    table.done()
    return config


def _forward(table: Table) -> ForwardConfig:
    config = ForwardConfig(_address(table, "listen"))
    table.done()
    return config


def _limits(table: Table) -> Limits:
    limits = Limits(**{f.name: table.integer(f.name, f.default, low=1, high=4096) for f in fields(Limits)})
    table.done()
    return limits


def _optional_path(table: Table, key: str, folder: Path) -> Path | None:
    text = table.text(key, "")
    return folder / text if text else None


def _address(table: Table, key: str) -> Address:
    try:
        return parse_address(table.text(key))
    except InvalidInput as error:
        table.wrong(key, error.message)


def parse_address(text: str) -> Address:
    """(host, port) of ``HOST:PORT``; :class:`InvalidInput`."""
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or len(port) > 5 or not 1 <= int(port) <= 65535:
        raise InvalidInput(f"must be HOST:PORT with a port from 1 to 65535, not {text!r}")
    return host.strip("[]"), int(port)


def _url(table: Table, key: str) -> str:
    text = table.text(key)
    try:
        parts = urlsplit(text)
    except ValueError as error:
        table.wrong(key, f"is no address: {error}")
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/") or parts.query:
        table.wrong(key, f"must be http://HOST:PORT or https://HOST:PORT, not {text!r}")
    return text.rstrip("/")


def is_loopback(host: str) -> bool:
    """Whether a listener on this host can be reached from this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


NODES = "cluster.nodes"


def cluster_settings(config: NodeConfig) -> dict[str, Any]:
    """What every node must agree on, flat: key as in the file -> plain value."""
    cluster = config.cluster
    settings: dict[str, Any] = {"version": FORMAT, "cluster.id": cluster.id, "cluster.token_ttl": cluster.token_ttl}
    for key in ("session_idle", "certificate_days", "chunk_grace", "chunk_quarantine"):
        settings[f"cluster.{key}"] = getattr(cluster, key)
    for item in fields(VolumePolicy):
        settings[f"cluster.defaults.{item.name}"] = getattr(cluster.defaults, item.name)
    if config.joined:
        return settings
    settings[NODES] = ", ".join(sorted(m.name for m in cluster.nodes))
    for member in cluster.nodes:
        for key, value in (
            ("rpc", format_address(member.rpc)),
            ("forward", format_address(member.forward)),
            ("dav", member.dav),
            ("zone", member.zone),
            ("weight", member.weight),
        ):
            settings[f"cluster.nodes.{member.name}.{key}"] = value
    return settings


def cluster_fingerprint(config: NodeConfig) -> str:
    """A digest of :func:`cluster_settings` without the nodes, who come and go."""
    settings = {key: value for key, value in cluster_settings(config).items() if not key.startswith(NODES)}
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:32]


def difference(mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> str:
    """What differs between two nodes' :func:`cluster_settings`, for a person; "" when nothing does.

    The lists of nodes are compared if both give one: the cluster begins with it, and whoever joined knows it from Raft.
    """
    compared = mine.keys() | theirs.keys()
    if NODES not in mine or NODES not in theirs:
        compared = {key for key in compared if not key.startswith(NODES)}
    keys = [key for key in sorted(compared) if mine.get(key) != theirs.get(key)]
    return "; ".join(f"{key} is {mine.get(key)!r} here and {theirs.get(key)!r} there" for key in keys)


def format_address(address: Address) -> str:
    """``HOST:PORT``, IPv6 in brackets."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
