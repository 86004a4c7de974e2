"""``davfs cert ...``: certificates of nodes and programs, listed, renewed and revoked; a program's folder (docs/client.md);
a node's https certificate."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from davfs.cli.remote import add_config, connect
from davfs.cli.status import columns
from davfs.core.errors import ConfigError
from davfs.node.config import load_config
from davfs.node.init import TLS
from davfs.node.renewal import renew_by_hand, renew_by_token, when

RENEW_TIMEOUT = 30.0

_TEXT = """Issue a certificate for a program and write it, with the addresses of the nodes, into a folder of its own.
The key of the cluster's authority is needed: it lies where `davfs init` or `davfs dev` made the cluster."""

_WEBDAV_TEXT = """Issue a certificate for a node's WebDAV listener with the key of the cluster's authority: for the host in
the node's URL, for what the certificate before it was for, and for what --name adds. A running node uses it within seconds."""


_RENEW_TEXT = """Get a node a new certificate with a new key. Nodes renew theirs by themselves: this is for one whose key may
have leaked (then revoke the old one), or whose certificate has ended. Without further options the node, which must run, does it
now and goes on without a restart. With --authority it is signed here, asking nobody; with --token (`davfs node token
--renew`) another node signs. With --program a program's folder gets a new one, which its certificate, if it is good still,
or --authority is enough for."""

_REVOKE_TEXT = """Withdraw a certificate, by its serial number (`davfs cert list`), or all that were made for a node or program
until now, by its name (node-2, program:backup). It opens nothing from then on, on connections that are open neither. A node
whose own certificate is revoked ends; `davfs node token --renew` lets it come back."""


def register(commands: Any) -> None:
    """Add the command group."""
    group = commands.add_parser("cert", help="certificates for programs and for https", description=__doc__)
    actions = group.add_subparsers(title="actions", metavar="ACTION", required=True)
    listed = actions.add_parser("list", help="show the certificates that are known", description="The certificates known.")
    add_config(listed)
    listed.add_argument("--json", action="store_true", help="for programs")
    listed.set_defaults(run=_list)
    renew = actions.add_parser("renew", help="get a node or program a new certificate", description=_RENEW_TEXT)
    renew.add_argument("name", nargs="?", default="", metavar="NODE", help="the node (default: the one of --config)")
    renew.add_argument("--config", type=Path, metavar="FILE", help="the davfs.toml of a node")
    renew.add_argument("--authority", type=Path, metavar="DIR", help="sign with the authority's key in this folder")
    renew.add_argument("--token", metavar="T", help="what `davfs node token --renew` printed; - reads it from stdin")
    renew.add_argument("--program", type=Path, metavar="DIR", help="a program's folder")
    renew.set_defaults(run=_renew)
    revoke = actions.add_parser("revoke", help="withdraw certificates", description=_REVOKE_TEXT)
    revoke.add_argument("what", metavar="SERIAL|NAME")
    add_config(revoke)
    revoke.set_defaults(run=_revoke)
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


def _list(arguments: argparse.Namespace) -> int:
    with connect(arguments.config) as remote:
        found = remote.ask("admin.cert_list", {})
    if arguments.json:
        print(json.dumps(found, indent=2))
        return 0
    rows = [["NAME", "SERIAL", "ENDS", "STATE"]]
    rows += [[c["name"] or "-", c["serial"], when(c["ends"]) if c["ends"] else "-", c["state"]] for c in found]
    print("\n".join(columns(rows)))
    return 0


def _revoke(arguments: argparse.Namespace) -> int:
    with connect(arguments.config) as remote:
        answer = remote.ask("admin.cert_revoke", {"what": arguments.what.lower()})
    for serial in answer["serials"]:
        print(f"{serial} is revoked")
    if arguments.what.lower() not in answer["serials"]:
        print(f"whatever else was made for {answer['what']} until now opens nothing any more")
    return 0


def _renew(arguments: argparse.Namespace) -> int:
    if (arguments.program is None) == (arguments.config is None):
        raise ConfigError("give --config, the file of a node, or --program, the folder of a program")
    if arguments.program is not None:
        return _renew_program(arguments)
    config = load_config(arguments.config)
    if arguments.authority is None and arguments.token is None:
        with connect(arguments.config) as remote:
            node = arguments.name or config.name
            if node not in remote.nodes:
                remote.learn(remote.ask("admin.status", {})["nodes"])
            if node not in remote.nodes:
                raise ConfigError(f"there is no node {node!r}")
            made = remote.ask_node(node, "admin.cert_renew", {}, timeout=RENEW_TIMEOUT)
            print(f"{node} uses the certificate {made['serial']}, which ends on {when(made['ends'])}")
        return 0
    if arguments.name not in ("", config.name):
        raise ConfigError(f"{arguments.config} is the file of {config.name}, not of {arguments.name}")
    if arguments.authority is not None:
        own = renew_by_hand(config, arguments.authority).own
    else:
        own = renew_by_token(config, sys.stdin.read() if arguments.token == "-" else arguments.token).own  # noqa: S105
    print(f"{config.rpc.cert} is the certificate {own.serial}, which ends on {when(own.ends)}")
    return 0


def _renew_program(arguments: argparse.Namespace) -> int:
    from davfs.client.profile import renew_profile

    if arguments.token is not None or arguments.name:
        raise ConfigError("a token is for nodes; give --program DIR alone, or with --authority")
    own = renew_profile(arguments.program, arguments.authority)
    print(f"{own.name} has the certificate {own.serial}, which ends on {when(own.ends)}")
    return 0


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
    print(f"{cert} is for {', '.join(certs.hosts_of(cert))}, for {certs.PUBLIC_YEARS} years")
    if config.dav.cert != cert:
        here = cert.relative_to(folder), key.relative_to(folder)
        print(f'{config.file} does not name it yet. Under [dav]: cert = "{here[0]}", key = "{here[1]}"')
    return 0
