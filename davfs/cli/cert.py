"""``davfs cert program``: a folder with which a program reaches the cluster (see docs/client.md)."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from davfs.node.config import load_config
from davfs.node.init import AUTHORITY

_TEXT = """Issue a certificate for a program and write it, with the addresses of the nodes, into a folder of its own.
The key of the cluster's authority is needed: it lies where `davfs init` or `davfs dev` made the cluster."""


def register(commands: Any) -> None:
    """Add the command group."""
    group = commands.add_parser("cert", help="certificates for programs", description=__doc__)
    actions = group.add_subparsers(title="actions", metavar="ACTION", required=True)
    program = actions.add_parser("program", help="let a program in", description=_TEXT)
    program.add_argument("name", metavar="NAME", help="what others see as the holder (a-z, 0-9, '-')")
    program.add_argument("--config", type=Path, required=True, metavar="FILE", help="the davfs.toml of any node")
    program.add_argument("--out", type=Path, required=True, metavar="DIR", help="the program's folder")
    program.add_argument(
        "--authority", type=Path, metavar="DIR", help="the authority's folder (default: beside the node's folder)"
    )
    program.set_defaults(run=_program)


def _program(arguments: argparse.Namespace) -> int:
    from davfs.client.profile import create_profile

    config = load_config(arguments.config)
    authority = arguments.authority or config.file.absolute().parent.parent / AUTHORITY
    nodes = {member.name: member.rpc for member in config.cluster.nodes}
    create_profile(authority, arguments.name, nodes, arguments.out)
    print(f"program:{arguments.name} may reach the cluster with {arguments.out}; keep it from others")
    return 0
