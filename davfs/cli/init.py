"""``davfs init``: the folders of a new cluster, one for each machine."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from davfs.core.errors import ConfigError
from davfs.core.model import VolumePolicy
from davfs.node.config import AUTHORITY, NODE_NAME, is_loopback
from davfs.node.init import PUBLIC_AUTHORITY, ClusterPlan, NodePlan, create_cluster, new_user
from davfs.rpc.certs import PUBLIC_YEARS

_TEXT = """Make a certificate authority and, for each node, a folder with its certificate, configuration and (empty) data.
Copy DIR/NAME to the machine of that name and run `davfs serve --config NAME/davfs.toml` there.
Keep DIR/authority at home: it admits nodes to the cluster."""


_TRUST = """
WebDAV is https. People's machines have to trust this cluster's authority first, once; give them {ca}:
  Windows   certutil -addstore Root davfs-ca.crt      (as administrator)
  macOS     security add-trusted-cert -d -r trustRoot -k /Library/Keychains/System.keychain davfs-ca.crt     (with sudo)
  Debian    copy it to /usr/local/share/ca-certificates, then update-ca-certificates
  rclone    --ca-cert davfs-ca.crt;  davfs2: trust_ca_cert /path/to/davfs-ca.crt in davfs2.conf
The nodes' https certificates end after {years} years: `davfs cert webdav` makes new ones. See docs/ACCESS.md."""


def register(commands: Any) -> None:
    """Add the command."""
    command = commands.add_parser("init", help="make the folders of a new cluster", description=_TEXT)
    command.add_argument("--dir", type=Path, required=True, metavar="DIR", help="where to write the folders")
    command.add_argument("nodes", nargs="+", metavar="NAME=HOST", help="a node and the host or address others reach it under")
    command.add_argument("--dav-port", type=int, default=8080, metavar="P", help="WebDAV (default 8080)")
    command.add_argument("--rpc-port", type=int, default=8090, metavar="P", help="node to node (default 8090)")
    command.add_argument("--forward-port", type=int, default=8091, metavar="P", help="forwarded requests (default 8091)")
    command.add_argument("--user", action="append", default=[], metavar="NAME:PASSWORD", help="an account; repeatable")
    command.add_argument("--cert", type=Path, metavar="FILE", help="each machine's https certificate (PEM)")
    command.add_argument("--key", type=Path, metavar="FILE", help="its key")
    command.add_argument("--dav-tls", action="store_true", help="make https certificates with the cluster's authority")
    command.add_argument("--dav-name", action="append", default=[], metavar="HOST", help="a name for them all; repeatable")
    command.add_argument("--plain-http", action="store_true", help="no TLS for WebDAV: a proxy in front ends it")
    command.add_argument("--certificate-days", type=float, default=90.0, metavar="D", help="life of a node's certificate")
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Write the folders and say what to do with them."""
    plans = []
    for text in arguments.nodes:
        name, _, host = text.partition("=")
        if not NODE_NAME.fullmatch(name) or not host:
            raise ConfigError(f"a node is given as NAME=HOST (name: a-z, 0-9, '-'), not {text!r}")
        plans.append(NodePlan(name, host, arguments.dav_port, arguments.rpc_port, arguments.forward_port))
    if len({plan.name for plan in plans}) != len(plans):
        raise ConfigError("each node needs a name of its own")
    if len({plan.host for plan in plans}) != len(plans):
        raise ConfigError("two nodes on one host would want the same ports; `davfs dev` runs a cluster on one machine")
    if len(plans) % 2 == 0:
        raise ConfigError(f"{len(plans)} nodes survive no more losses than {len(plans) - 1}: give 1, 3, 5 or 7")
    if arguments.dav_tls and (arguments.cert or arguments.key or arguments.plain_http):
        raise ConfigError("--dav-tls makes the certificates itself: leave out --cert, --key and --plain-http")
    if arguments.dav_name and not arguments.dav_tls:
        raise ConfigError("--dav-name names hosts for the certificates of --dav-tls: give that too")
    few = min(3, len(plans))
    cluster = ClusterPlan(
        tuple(plans),
        defaults=VolumePolicy(copies=few, write_quorum=few // 2 + 1, replicas=few),
        users=tuple(new_user(text) for text in arguments.user),
        plain_http=arguments.plain_http,
        dav_cert=arguments.cert and arguments.cert.absolute(),
        dav_key=arguments.key and arguments.key.absolute(),
        dav_tls=arguments.dav_tls,
        dav_names=tuple(arguments.dav_name),
        certificate_days=arguments.certificate_days,
    )
    files = create_cluster(arguments.dir, cluster)
    for plan, file in zip(plans, files, strict=True):
        print(f"{plan.name}: copy {file.parent} to {plan.host}, then there: davfs serve --config {plan.name}/{file.name}")
    print(f"Keep {arguments.dir / AUTHORITY} safe: whoever has it can add a node.")
    if not arguments.user and not all(is_loopback(plan.host) for plan in plans):
        print("Then make accounts: davfs user add NAME --default admin --config FILE")
    if arguments.dav_tls:
        print(_TRUST.format(ca=arguments.dir / PUBLIC_AUTHORITY, years=PUBLIC_YEARS))
    return 0
