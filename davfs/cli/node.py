"""``davfs node ...``: let a machine join the cluster, remove one from it."""

from __future__ import annotations

import argparse
import re
import socket
import sys
from pathlib import Path
from typing import Any

from davfs.cli import replicas
from davfs.cli.remote import add_config, connect
from davfs.core.errors import ConfigError, InvalidInput, NodeInUse
from davfs.node.config import load_config, parse_address

_INVITE_TEXT = """Make a join token: whoever has its text can let one machine in, once, until it expires.
A node that has the key of the cluster's authority must run; it lies where `davfs init` or `davfs dev` made the cluster."""
_JOIN_TEXT = """Join a cluster with a token that `davfs node token` made, and write the new node's folder.
Then run `davfs serve --config DIR/davfs.toml`: the node follows the others and votes as soon as it has caught up."""
_REMOVE_TEXT = """Remove a node, running or lost, for good: its certificate opens nothing any more, and its name is not
used again. Volumes whose records it keeps are first given to other nodes (`davfs volume replace-replica`), with progress
shown. Refused while there is no such node, or while chunks would have fewer copies than a write waits for."""
_READMIT_TEXT = """Say that a node's disk was replaced or wiped, and that the old one will not come back: what the node voted
is forgotten, so it goes from Raft and comes back as a member that never voted. Then start it: it copies what it should have."""
_RESTORED_TEXT = """Say that Raft's part of a stopped node's files (data/raft) came back from an older copy. Run it for every
node before any of them starts: it keeps Raft from granting an epoch a second time, which would let a former holder write."""
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def register(commands: Any) -> None:
    """Add the command group."""
    group = commands.add_parser("node", help="let machines join, remove them", description=__doc__)
    actions = group.add_subparsers(title="actions", metavar="ACTION", required=True)
    token = actions.add_parser("token", help="make a one-time join token", description=_INVITE_TEXT)
    add_config(token)
    token.add_argument("--ttl", default="1h", metavar="TIME", help="how long it is good for: 30m, 1h, 2d (default 1h)")
    token.add_argument("--renew", default="", metavar="NAME", help="not to join: for a new certificate of this node")
    token.set_defaults(run=_token)
    join = actions.add_parser("join", help="join a cluster from this machine", description=_JOIN_TEXT)
    join.add_argument("address", metavar="HOST:PORT", help="the node-to-node address of any node")
    join.add_argument("--token", required=True, metavar="T", help="what `davfs node token` printed; - reads it from stdin")
    join.add_argument("--dir", type=Path, required=True, metavar="DIR", help="the new node's folder")
    join.add_argument("--name", metavar="N", help="the new node's name (default: this machine's)")
    join.add_argument("--host", default="", help="what others reach it under (default: its address towards HOST)")
    join.add_argument("--dav-port", type=int, default=8080, metavar="P", help="WebDAV (default 8080)")
    join.add_argument("--rpc-port", type=int, default=0, metavar="P", help="node to node (default 8090; free on loopback)")
    join.add_argument("--forward-port", type=int, default=0, metavar="P", help="forwarded requests (default 8091; likewise)")
    join.add_argument("--zone", default="", help="what fails together: a rack, a room")
    join.add_argument("--cert", type=Path, metavar="FILE", help="this machine's https certificate (PEM)")
    join.add_argument("--key", type=Path, metavar="FILE", help="its key")
    join.add_argument("--plain-http", action="store_true", help="no TLS for WebDAV: a proxy in front ends it")
    join.set_defaults(run=_join)
    remove = actions.add_parser("remove", help="remove a node for good", description=_REMOVE_TEXT)
    remove.add_argument("name", metavar="NAME")
    add_config(remove)
    remove.set_defaults(run=_remove)
    readmit = actions.add_parser("readmit", help="let a node with a new disk in again", description=_READMIT_TEXT)
    readmit.add_argument("name", metavar="NAME")
    add_config(readmit)
    readmit.set_defaults(run=_readmit)
    restored = actions.add_parser("restored", help="say that Raft's files are an older copy", description=_RESTORED_TEXT)
    add_config(restored)
    restored.set_defaults(run=_restored)


def _token(arguments: argparse.Namespace) -> int:
    match = re.fullmatch(r"(\d+)([smhd])", arguments.ttl)
    if match is None:
        raise ConfigError(f"--ttl is a number and s, m, h or d, like 30m, not {arguments.ttl!r}")
    with connect(arguments.config) as remote:
        asked = {"ttl": float(int(match[1]) * _SECONDS[match[2]]), "renew": arguments.renew}
        answer = remote.ask("admin.node_token", asked)
        seed = next(node["rpc"] for node in answer["nodes"])
    if arguments.renew:
        where, command = arguments.renew, "davfs cert renew --config FILE --token TOKEN"
    else:
        where, command = "the new machine", f"davfs node join {seed} --dir DIR --token TOKEN"
    print(f"On {where}, within {arguments.ttl}:\n\n  {command}\n", file=sys.stderr)
    print(answer["token"])
    return 0


def _remove(arguments: argparse.Namespace) -> int:
    with connect(arguments.config) as remote:
        for volume in remote.ask("admin.node_keeps", {"name": arguments.name}):
            if not volume["other"]:
                raise NodeInUse(
                    f"{arguments.name} keeps the records of {volume['name']}, and so does every other node that is up: let"
                    " one more machine join (`davfs node token`), or let fewer nodes keep them with"
                    f" `davfs volume replace-replica {volume['name']} --remove {arguments.name}`; then try again"
                )
            replicas.replace(remote, volume["name"], arguments.name, volume["other"])
        answer = remote.ask("admin.node_remove", {"name": arguments.name}, timeout=600.0)
    print(f"{answer['name']} is removed; {answer['chunks']} chunks that it held have enough copies elsewhere")
    return 0


def _readmit(arguments: argparse.Namespace) -> int:
    with connect(arguments.config) as remote:
        remote.ask("admin.node_readmit", {"name": arguments.name})
    print(f"{arguments.name} may come back with a new disk; start it")
    return 0


def _restored(arguments: argparse.Namespace) -> int:
    from davfs.node.restored import seal_above_all

    config = load_config(arguments.config)
    sealed = seal_above_all(config.data, config.name)
    print(f"{len(sealed)} volumes on {config.name} are fenced against whatever was granted before; start it when all nodes are")
    return 0


def _join(arguments: argparse.Namespace) -> int:
    from davfs.node.newcomer import Newcomer, join

    name = arguments.name or re.sub(r"[^a-z0-9-]", "-", socket.gethostname().lower().partition(".")[0]).strip("-")
    plan = Newcomer(
        name, arguments.dav_port, arguments.host, arguments.rpc_port, arguments.forward_port, arguments.zone,
        arguments.plain_http, arguments.cert and arguments.cert.absolute(), arguments.key and arguments.key.absolute(),
    )  # fmt: skip
    try:
        address = parse_address(arguments.address)
    except InvalidInput as error:
        raise ConfigError(f"the address {error.message}") from None
    text = arguments.token if arguments.token != "-" else sys.stdin.read()  # noqa: S105
    file = join(arguments.dir, address, text, plan)
    print(f"{name} may join. Start it with:\n\n  davfs serve --config {file}")
    return 0
