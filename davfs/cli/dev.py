"""``davfs dev``: a cluster of node processes on this machine, for trying davfs and for testing it.

Each node is a `davfs serve` of its own, with configuration, data, log and pid file in ``DIR/node-i``. ``DIR/ready`` is
there while every node has served every volume since the start. This module makes the cluster's files and watches over
the run; ``cli.processes`` starts and stops the nodes.
"""

from __future__ import annotations

import argparse
import contextlib
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from davfs.cli.signals import stop_event
from davfs.core.errors import AlreadyExists, ConfigError, DavfsError, InvalidInput, Unavailable
from davfs.core.model import VolumePolicy
from davfs.node.config import DavConfig, Member, NodeConfig, check_policy, load_config
from davfs.node.init import (
    CONFIG_NAME,
    ClusterPlan,
    NodePlan,
    create_cluster,
    free_ports,
    is_unfinished,
    new_user,
    port_is_free,
    write_config,
)
from davfs.node.pidfile import pid_file

START_LIMIT_S = 60.0
_POLL_S = 0.1


def register(commands: Any) -> None:
    """Add the command."""
    command = commands.add_parser("dev", help="run a whole cluster on this machine", description=__doc__)
    command.add_argument("--nodes", type=int, default=None, metavar="N", help="how many (default 3, or as before)")
    command.add_argument("--port", type=int, default=None, metavar="P", help="WebDAV on P, P+1, ... (default 8080)")
    command.add_argument("--dir", type=Path, required=True, metavar="DIR", help="where everything is kept")
    command.add_argument("--volume", action="append", default=[], metavar="NAME", help="make this volume; repeatable")
    command.add_argument("--user", action="append", default=[], metavar="NAME:PASSWORD", help="let only these in; repeatable")
    command.add_argument("--ttl", type=float, default=None, metavar="S", help="life of a token in seconds (default 5)")
    command.add_argument("--session-idle", type=float, default=None, metavar="S", help="end of a quiet session (default 60)")
    for name, what in (("grace", "unused chunks stay for (default 3600)"), ("quarantine", "and are read after that")):
        command.add_argument(f"--chunk-{name}", type=float, default=None, metavar="S", help=what)
    command.add_argument("--chunk-size", type=int, default=None, metavar="N", help="bytes of a chunk in new volumes")
    command.add_argument("--certificate-days", type=float, default=None, metavar="D", help="life of a node's certificate")
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the cluster until SIGINT or SIGTERM; 0 when it started and was told to stop."""
    from davfs.cli.processes import Nodes

    stop = stop_event()
    directory = arguments.dir.absolute()
    directory.mkdir(parents=True, exist_ok=True)
    ready = directory / "ready"
    with pid_file(directory / "dev.pid"):
        ready.unlink(missing_ok=True)
        configs = prepare(directory, arguments)
        nodes = Nodes(configs)
        nodes.stop()  # left over, or restarted by hand, from an earlier run
        _check_ports(configs)
        try:
            nodes.start()
            volumes = _until_ready(nodes, configs, arguments, stop)
            if volumes is not None:
                ready.write_text("".join(f"{config.member.dav}\n" for config in configs))
                print(welcome(configs, volumes, directory), flush=True)
            while not stop.wait(0.5):
                for text in nodes.ended():
                    print(text, flush=True)
        finally:
            ready.unlink(missing_ok=True)
            print("stopping", flush=True)
            nodes.stop()
    return 0


def prepare(directory: Path, arguments: argparse.Namespace) -> list[NodeConfig]:
    """The nodes' configurations: those of an earlier run, changed where the command line says so, or new ones."""
    found = sorted(directory.glob(f"node-*/{CONFIG_NAME}"), key=lambda path: int(path.parent.name.removeprefix("node-")))
    if not found or is_unfinished(directory):
        found = _create(directory, arguments)
    count = arguments.nodes or len(found)
    if len(found) != count:
        raise ConfigError(f"{directory} holds a cluster of {len(found)} nodes, not {count}; choose another folder")
    configs = [load_config(file) for file in found]
    if len(configs[0].cluster.nodes) != len(found):
        raise ConfigError(f"{directory} holds {len(found)} of {len(configs[0].cluster.nodes)} nodes; choose another folder")
    changed = _changed(configs, arguments)
    for old, new in zip(configs, changed, strict=True):
        if old != new:
            write_config(new)
    return changed


def _create(directory: Path, arguments: argparse.Namespace) -> list[Path]:
    count, port = arguments.nodes or 3, arguments.port or 8080
    if not 1 <= count <= 7 or count % 2 == 0:
        raise ConfigError(f"--nodes {count}: 1, 3, 5 or 7 nodes can vote")
    public = range(port, port + count)
    private = free_ports(2 * count, avoid=public)
    plans = [NodePlan(f"node-{i + 1}", "127.0.0.1", public[i], private[2 * i], private[2 * i + 1]) for i in range(count)]
    few = min(3, count)
    policy = VolumePolicy(copies=few, write_quorum=few // 2 + 1, replicas=few)
    days = 90.0 if arguments.certificate_days is None else arguments.certificate_days
    return create_cluster(directory, ClusterPlan(tuple(plans), defaults=policy, certificate_days=days))


def _changed(configs: Sequence[NodeConfig], arguments: argparse.Namespace) -> list[NodeConfig]:
    """What the command line says now goes before what the files say."""
    cluster = configs[0].cluster
    members: tuple[Member, ...] = cluster.nodes
    if arguments.port:
        members = tuple(replace(m, dav=f"http://127.0.0.1:{arguments.port + i}") for i, m in enumerate(members))
    changes = {} if arguments.chunk_size is None else {"chunk_size": arguments.chunk_size}
    cluster = replace(
        cluster,
        nodes=members,
        token_ttl=arguments.ttl or cluster.token_ttl,
        session_idle=arguments.session_idle or cluster.session_idle,
        certificate_days=arguments.certificate_days or cluster.certificate_days,
        chunk_grace=arguments.chunk_grace or cluster.chunk_grace,
        chunk_quarantine=arguments.chunk_quarantine or cluster.chunk_quarantine,
        defaults=check_policy(cluster, changes),
    )
    users = tuple(new_user(text) for text in arguments.user)
    changed = []
    for i, config in enumerate(configs):
        dav: DavConfig = config.dav
        if users:
            dav = replace(dav, users=users, anonymous=False)
        if arguments.port:
            dav = replace(dav, listen=("127.0.0.1", arguments.port + i))
        changed.append(replace(config, cluster=cluster, dav=dav))
    return changed


def _check_ports(configs: Sequence[NodeConfig]) -> None:
    for config in configs:
        for address in (config.dav.listen, config.rpc.listen, config.forward.listen):
            if not port_is_free(address[1]):
                raise ConfigError(f"port {address[1]}, for {config.name}, is in use by another program; see {config.file}")


def _until_ready(
    nodes: Any, configs: Sequence[NodeConfig], arguments: argparse.Namespace, stop: threading.Event
) -> list[str] | None:
    """Wait until every node serves every volume, making those that were asked for: their names, None when told to stop.

    :class:`ConfigError` when a node ends or the limit passes first.
    """
    from davfs.cli.remote import Remote

    limit = time.monotonic() + START_LIMIT_S
    missing = list(dict.fromkeys(arguments.volume))
    login = tuple(arguments.user[0].split(":", 1)) if arguments.user else None
    trouble = "nothing answers yet"
    remote = Remote(configs[0])
    try:
        while not stop.is_set():
            if ended := nodes.ended():
                raise ConfigError("; ".join(ended))
            if time.monotonic() > limit:
                raise ConfigError(f"the cluster did not start within {START_LIMIT_S:.0f} s: {trouble}")
            try:
                volumes = _make_volumes(remote, missing)
                # A visit would claim an exclusive volume, and shut its people out for a while.
                trouble = _unserved(configs, [name for name, mode in volumes.items() if mode == "shared"], login)
                if not trouble:
                    return list(volumes)
            except InvalidInput:
                raise
            except DavfsError as error:
                trouble = error.message
            stop.wait(_POLL_S)
        return None
    finally:
        remote.close()


def _make_volumes(remote: Any, missing: list[str]) -> dict[str, str]:
    """Make what is missing (and take it off the list); all volumes with their modes, once every node knows them."""
    names = [member.name for member in remote.config.cluster.nodes]
    for name in names:
        remote.ask_node(name, "node.status", {}, timeout=2.0)
    while missing:
        with contextlib.suppress(AlreadyExists):
            remote.ask("admin.volume_create", {"name": missing[0]})
        missing.pop(0)
    volumes = {str(volume["name"]): str(volume["mode"]) for volume in remote.ask("admin.volume_list", {})}
    for name in names:
        known = remote.ask_node(name, "node.status", {}, timeout=2.0)["volumes"]
        if set(known) != set(volumes):
            raise Unavailable(f"{name} knows the volumes {known} so far")
    return volumes


def _unserved(configs: Sequence[NodeConfig], volumes: Sequence[str], login: Any) -> str:
    """The first volume that a node does not serve, with what it said; "" when all do."""
    from davfs.rpc.probe import HELD, LOGIN_WANTED, SERVED, probe

    accepted = (SERVED, HELD) if login or configs[0].dav.anonymous else (SERVED, HELD, LOGIN_WANTED)
    for config in configs:
        for volume in volumes or [""]:
            url = f"{config.member.dav}/{quote(volume)}" + ("/" if volume else "")
            status = probe(url, login)
            if status not in accepted:
                return f"{config.name} answers {status or 'nothing'} for {url}"
    return ""


def welcome(configs: Sequence[NodeConfig], volumes: Sequence[str], directory: Path) -> str:
    """What a person needs to begin."""
    lines = ["", f"davfs runs: {len(configs)} nodes, data in {directory}", ""]
    for volume in volumes:
        lines += [f"  volume {volume}:"]
        lines += [f"    {config.member.dav}/{quote(volume)}/   ({config.name})" for config in configs]
    volume = volumes[0] if volumes else "VOLUME"
    host = configs[0].member.dav.removeprefix("http://")
    lines += [
        "",
        f"  Windows   net use * http://{host}/{volume}/    (or Explorer: Map network drive)",
        f"  macOS     Finder, Go, Connect to Server: http://{host}/{volume}/",
        f"  Linux     dav://{host}/{volume}/ in Files, or: mount -t davfs http://{host}/{volume}/ /mnt",
        f"  rclone    rclone lsf --webdav-url http://{host}/ --webdav-vendor owncloud :webdav:{volume}",
        "",
        "Ctrl-C stops it; the files stay.",
    ]
    return "\n".join(lines)
