"""A program's folder: its certificate, the cluster's, and where the nodes are. Written by ``davfs cert program``.

``program.json`` has format 1: ``version``, ``name``, and under ``nodes`` name -> [host, port] of the nodes that are
asked first; the others are learned from those.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from davfs.core.errors import ConfigError, UnknownFormat
from davfs.core.grants import is_program
from davfs.rpc import admission
from davfs.rpc.certs import AUTHORITY_CERT, PROGRAM_CERT, PROGRAM_KEY, issue_program
from davfs.rpc.client import RpcClient
from davfs.rpc.identity import NodeIdentity, Peer, load_identity, replace_pair

FORMAT = 1
PROFILE = "program.json"


@dataclass(frozen=True, slots=True)
class Profile:
    """Who the program is, the nodes that it knows: name -> (host, port) of the node-to-node listener, and its folder."""

    identity: NodeIdentity
    nodes: Mapping[str, tuple[str, int]]
    directory: Path


def load_profile(directory: Path, *, may_be_over: bool = False) -> Profile:
    """Read a program's folder; :class:`ConfigError` says what is wrong with it. ``may_be_over``: a certificate that has ended
    will do."""
    file = directory / PROFILE
    try:
        table = json.loads(file.read_text(encoding="utf-8"))
        version = table["version"]
        nodes = {str(name): (str(host), int(port)) for name, (host, port) in table["nodes"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{file} is no program's file; `davfs cert program` makes one: {error}") from error
    if version != FORMAT:
        raise UnknownFormat(f"{file} has format {version}, unknown here (known: {FORMAT})")
    if not nodes:
        raise ConfigError(f"{file} names no node")
    identity = load_identity(directory / AUTHORITY_CERT, directory / PROGRAM_CERT, directory / PROGRAM_KEY)
    if not is_program(identity.name):
        raise ConfigError(f"{directory / PROGRAM_CERT} is the certificate of {identity.name!r}, not of a program")
    if not may_be_over and time.time() >= identity.own.ends:
        raise ConfigError(
            f"the certificate {directory / PROGRAM_CERT} has ended; where the authority's key is, "
            f"`davfs cert renew --program {directory} --authority DIR` makes another"
        )
    return Profile(identity, nodes, directory)


def renew_profile(directory: Path, authority: Path | None = None) -> Peer:
    """Put a new certificate with a new key into a program's folder: signed by a node, to which the old one is shown, or by
    the authority in a folder. What the new certificate says."""
    profile = load_profile(directory, may_be_over=authority is not None)
    key, request = admission.new_request(profile.identity.name)
    if authority is not None:
        cert, _ = admission.sign_request(authority, profile.identity.name, "", request)
    else:
        client = RpcClient(profile.identity, profile.nodes.__getitem__)
        try:
            cert = admission.ask_to_sign(client, profile.nodes, request)["cert"]
        finally:
            client.close()
    return _install(directory, cert, key).own


def renew_in_use(profile: Profile, client: RpcClient, nodes: Sequence[str]) -> None:
    """The same for a program that runs, by its own connections: new ones show the new certificate."""
    key, request = admission.new_request(profile.identity.name)
    cert = admission.ask_to_sign(client, nodes, request)["cert"]
    profile.identity.replace_by(_install(profile.directory, cert, key))


def _install(directory: Path, cert: bytes, key: bytes) -> NodeIdentity:
    try:
        replace_pair(directory / PROGRAM_CERT, directory / PROGRAM_KEY, cert, key)
    except OSError as error:
        raise ConfigError(f"the new certificate cannot be written to {directory}: {error.strerror}") from error
    return load_profile(directory).identity


def create_profile(authority: Path, program: str, nodes: Mapping[str, tuple[str, int]], into: Path) -> Path:
    """Issue a program's certificate and write its folder, readable by its owner only; the path of ``program.json``."""
    issue_program(authority, program, into)
    table = {"version": FORMAT, "name": program, "nodes": {name: list(address) for name, address in nodes.items()}}
    file = into / PROFILE
    handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as stream:
        stream.write(json.dumps(table, indent=2) + "\n")
    return file
