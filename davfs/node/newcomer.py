"""The folder of a machine that joins a cluster: ask with the token, then write certificate, configuration and data folder.

The node's key is made here and never leaves. Started with `davfs serve`, the node follows Raft until it has caught up and
then votes (``voters.py``). Imports config and rpc.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from davfs.core.errors import ConfigError, DavfsError
from davfs.core.model import VolumePolicy
from davfs.node.config import (
    Address,
    ClusterConfig,
    DavConfig,
    ForwardConfig,
    Member,
    NodeConfig,
    RpcConfig,
    User,
    format_address,
    is_loopback,
    parse_address,
)
from davfs.node.init import CONFIG_NAME, free_ports, port_is_free, write_config
from davfs.rpc import admission, certs
from davfs.rpc.client import RpcClient

JOIN_TIMEOUT = 15.0


@dataclass(frozen=True, slots=True)
class Newcomer:
    """What a machine says of itself. ``host`` "": its address on the way to the cluster; ports 0: free ones on loopback,
    8090 and 8091 elsewhere."""

    name: str
    dav_port: int
    host: str = ""
    rpc_port: int = 0
    forward_port: int = 0
    zone: str = ""
    plain_http: bool = False
    cert: Path | None = None
    key: Path | None = None


def join(directory: Path, address: Address, token_text: str, plan: Newcomer) -> Path:
    """Join the cluster that a node at ``address`` belongs to; the path of the new configuration file.

    Nothing is written before the cluster has said yes. :class:`ConfigError`, or the cluster's refusal.
    """
    directory = directory.absolute()
    file = directory / CONFIG_NAME
    if directory.exists() and any(directory.iterdir()):
        raise ConfigError(f"{directory} is not empty; choose another folder")
    identity = admission.read_token(token_text).identity()
    seed, here = admission.who_is_at(identity, *address)
    member = _member(plan, plan.host or here, address)
    key, request = admission.new_request(plan.name)
    asked = {
        "name": member.name, "dav": member.dav, "zone": member.zone, "weight": member.weight,
        "rpc": format_address(member.rpc), "forward": format_address(member.forward),
        "request": request, "request_id": secrets.token_hex(16),
    }  # fmt: skip
    client = RpcClient(identity, lambda _name: address)
    try:
        answer, _ = client.call(seed, "node.join", asked, timeout=JOIN_TIMEOUT)
    finally:
        client.close()
    try:
        config = _config(file, plan, member, answer)
        admission.write_identity(directory / "tls", answer["authority"], answer["cert"], key)
        config.data.mkdir(mode=0o700, exist_ok=True)
        write_config(config)
    except (DavfsError, OSError) as error:
        raise ConfigError(
            f"the cluster let {plan.name} in, but its folder could not be written: {error}. "
            f"Run `davfs node remove {plan.name}` there, then join anew under another name"
        ) from error
    return file


def _member(plan: Newcomer, host: str, seed: Address) -> Member:
    rpc_port, forward_port = plan.rpc_port or 8090, plan.forward_port or 8091
    if is_loopback(host):
        free = free_ports(2, avoid=(plan.dav_port, plan.rpc_port, plan.forward_port, seed[1]))
        rpc_port, forward_port = plan.rpc_port or free[0], plan.forward_port or free[1]
        for port in (plan.dav_port, rpc_port, forward_port):
            if not port_is_free(port):
                raise ConfigError(f"port {port} is in use by another program; choose another")
    scheme = "http" if plan.cert is None else "https"
    dav = f"{scheme}://{format_address((host, plan.dav_port))}"
    return Member(plan.name, (host, rpc_port), (host, forward_port), dav, plan.zone)


def _config(file: Path, plan: Newcomer, member: Member, answer: Any) -> NodeConfig:
    settings, tls, host = answer["settings"], file.parent / "tls", member.rpc[0]
    others = tuple(
        Member(n["name"], parse_address(n["rpc"]), parse_address(n["forward"]), n["dav"], n["zone"], n["weight"])
        for n in answer["nodes"]
    )
    users = tuple(User(name, password) for name, password in settings["users"])
    return NodeConfig(
        file,
        member.name,
        file.parent / "data",
        ClusterConfig(
            settings["id"],
            (*others, member),
            settings["token_ttl"],
            VolumePolicy(**settings["defaults"]),
            settings["session_idle"],
            settings["certificate_days"],
            settings["chunk_grace"],
            settings["chunk_quarantine"],
        ),
        DavConfig(
            (host, plan.dav_port),
            anonymous=settings["anonymous"] and is_loopback(host),
            users=users,
            plain_http=plan.plain_http,
            cert=plan.cert,
            key=plan.key,
        ),
        RpcConfig((host, member.rpc[1]), tls / certs.NODE_CERT, tls / certs.NODE_KEY, tls / certs.AUTHORITY_CERT),
        ForwardConfig((host, member.forward[1])),
        joined=True,
    )
