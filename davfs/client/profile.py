"""A program's folder: its certificate, the cluster's, and where the nodes are. Written by ``davfs cert program``.

``program.toml`` has format 1: ``version``, ``name``, and a ``[[node]]`` table with ``name``, ``host`` and ``port`` for
each node that is asked first; the others are learned from those.
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from davfs.core.errors import ConfigError, UnknownFormat
from davfs.core.grants import is_program
from davfs.rpc.certs import AUTHORITY_CERT, PROGRAM_CERT, PROGRAM_KEY, NodeIdentity, issue_program, load_identity

FORMAT = 1
PROFILE = "program.toml"


@dataclass(frozen=True, slots=True)
class Profile:
    """Who the program is, and the nodes that it knows: name -> (host, port) of the node-to-node listener."""

    identity: NodeIdentity
    nodes: Mapping[str, tuple[str, int]]


def load_profile(directory: Path) -> Profile:
    """Read a program's folder; :class:`ConfigError` says what is wrong with it."""
    file = directory / PROFILE
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8"))
        version = table["version"]
        nodes = {str(node["name"]): (str(node["host"]), int(node["port"])) for node in table["node"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{file} is no program's file; `davfs cert program` makes one: {error}") from error
    if version != FORMAT:
        raise UnknownFormat(f"{file} has format {version}, unknown here (known: {FORMAT})")
    if not nodes:
        raise ConfigError(f"{file} names no node")
    identity = load_identity(directory / AUTHORITY_CERT, directory / PROGRAM_CERT, directory / PROGRAM_KEY)
    if not is_program(identity.name):
        raise ConfigError(f"{directory / PROGRAM_CERT} is the certificate of {identity.name!r}, not of a program")
    return Profile(identity, nodes)


def create_profile(authority: Path, program: str, nodes: Mapping[str, tuple[str, int]], into: Path) -> Path:
    """Issue a program's certificate and write its folder, readable by its owner only; the path of ``program.toml``."""
    issue_program(authority, program, into)
    lines = [f"version = {FORMAT}", f"name = {json.dumps(program)}"]
    for name, (host, port) in nodes.items():
        lines += ["", "[[node]]", f"name = {json.dumps(name)}", f"host = {json.dumps(host)}", f"port = {port}"]
    file = into / PROFILE
    handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as stream:
        stream.write("\n".join(lines) + "\n")
    return file
