"""``davfs cert ...``: a folder with which a program reaches the cluster (see docs/client.md); a node's https certificate."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from davfs.node.config import load_config
from davfs.node.init import TLS

_TEXT = """Issue a certificate for a program and write it, with the addresses of the nodes, into a folder of its own.
The key of the cluster's authority is needed: it lies where `davfs init` or `davfs dev` made the cluster."""

_WEBDAV_TEXT = """Issue a certificate for a node's WebDAV listener with the key of the cluster's authority: for the host in
the node's URL, for what the certificate before it was for, and for what --name adds. Restart the node to use it."""


def register(commands: Any) -> None:
    """Add the command group."""
    group = commands.add_parser("cert", help="certificates for programs and for https", description=__doc__)
    actions = group.add_subparsers(title="actions", metavar="ACTION", required=True)
    program = actions.add_parser("program", help="let a program in", description=_TEXT)
    program.add_argument("name", metavar="NAME", help="what others see as the holder (a-z, 0-9, '-')")
    program.add_argument("--config", type=Path, required=True, metavar="FILE", help="the davfs.toml of any node")
    program.add_argument("--out", type=Path, required=True, metavar="DIR", help="the program's folder")
    program.add_argument(
        "--authority", type=Path, metavar="DIR", help="the authority's folder (default: beside the node's folder)"
    )
    program.set_defaults(run=_program)
    webdav = actions.add_parser("webdav", help="make or renew a node's https certificate", description=_WEBDAV_TEXT)
    webdav.add_argument("--config", type=Path, required=True, metavar="FILE", help="the node's davfs.toml")
    webdav.add_argument("--name", action="append", default=[], metavar="HOST", help="a name for it; repeatable")
    webdav.add_argument(
        "--authority", type=Path, metavar="DIR", help="the authority's folder (default: beside the node's folder)"
    )
    webdav.set_defaults(run=_webdav)


def _program(arguments: argparse.Namespace) -> int:
    from davfs.client.profile import create_profile

    config = load_config(arguments.config)
    authority = arguments.authority or config.authority
    nodes = {member.name: member.rpc for member in config.cluster.nodes}
    create_profile(authority, arguments.name, nodes, arguments.out)
    print(f"program:{arguments.name} may reach the cluster with {arguments.out}; keep it from others")
    return 0


def _webdav(arguments: argparse.Namespace) -> int:
    from davfs.rpc import certs

    config = load_config(arguments.config)
    folder = config.file.parent
    authority = arguments.authority or config.authority
    cert = folder / TLS / certs.PUBLIC_CERT
    hosts = [urlsplit(config.member.dav).hostname or "", *(certs.hosts_of(cert) if cert.exists() else []), *arguments.name]
    cert, key = certs.issue_public(authority, list(dict.fromkeys(hosts)), folder / TLS)
    print(f"{cert} is for {', '.join(certs.hosts_of(cert))}, for {certs.PUBLIC_YEARS} years; restart {config.name} to use it")
    if config.dav.cert != cert:
        here = cert.relative_to(folder), key.relative_to(folder)
        print(f'{config.file} does not name it yet. Under [dav]: cert = "{here[0]}", key = "{here[1]}"')
    return 0
