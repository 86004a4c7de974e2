"""``davfs status``: nodes, Raft leader, volumes with holder, epoch and replicas."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

from davfs.cli.remote import Remote, add_config, connect
from davfs.core.errors import Unavailable
from davfs.node.renewal import when

AUTHORITY_WARNING_S = 2 * 365 * 86_400.0
"""How long before its end the authority's is told of: longer than any certificate that it signs for programs."""


def register(commands: Any) -> None:
    """Add the command."""
    command = commands.add_parser("status", help="show nodes, leader and volumes", description=__doc__)
    add_config(command)
    command.add_argument("--json", action="store_true", help="for programs")
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the status; exit code 1 when no node answers."""
    with connect(arguments.config) as remote:
        status = collect(remote)
    if arguments.json:
        print(json.dumps(status, indent=2))
    else:
        print(describe(status))
    return 0 if any(node["up"] for node in status["nodes"]) else 1


def collect(remote: Remote) -> dict[str, Any]:
    """The status as in --json: ``nodes`` (name, dav, up, started: ever since it joined, votes, certificate), ``leader`` and
    ``term`` of Raft, ``volumes`` (name, holder, epoch, replicas), ``fresh``: whether a majority confirmed it, and
    ``warnings``: texts about certificates that end and nodes that are cut off."""
    try:
        known = remote.ask("admin.status", {}, timeout=4.0)
        remote.learn(known["nodes"])
    except Unavailable:
        listed = [{"name": member.name, "dav": member.dav} for member in remote.config.cluster.nodes]
        known = {"leader": None, "term": None, "volumes": [], "fresh": False, "nodes": listed, "voters": []}
    answers = remote.ask_all("node.status")
    nodes = [
        {
            "name": node["name"],
            "dav": node["dav"],
            "up": answers.get(node["name"]) is not None,
            "started": node.get("started", True),
            "votes": node["name"] in known["voters"],
            "certificate": (answers.get(node["name"]) or {}).get("certificate"),
            "alone": (answers.get(node["name"]) or {}).get("alone", []),
        }
        for node in known["nodes"]
    ]
    return {
        "nodes": nodes,
        "leader": known["leader"],
        "term": known["term"],
        "volumes": known["volumes"],
        "fresh": known["fresh"],
        "warnings": warnings(nodes, time.time()),
    }


def warnings(nodes: Sequence[Mapping[str, Any]], now: float) -> list[str]:
    """What is to be told of cut-off nodes, of nodes' certificates and their authority's, at a moment (seconds since 1970)."""
    texts, authorities = [], set()
    for node in nodes:
        texts += [
            f"{node['name']} is cut off and serves {volume} alone; its changes are merged with the others' later"
            for volume in node.get("alone", ())
        ]
        if certificate := node.get("certificate"):
            authorities.add(certificate["authority_ends"])
            if certificate["trouble"]:
                texts.append(f"the certificate of {node['name']} ends on {when(certificate['ends'])}: {certificate['trouble']}")
    for ends in sorted(authorities):
        if ends - now < AUTHORITY_WARNING_S:
            texts.append(
                f"the cluster's authority ends on {when(ends)}, and all certificates with it: put another in its place before"
                ' (docs/OPERATIONS.md, "Certificates")'
            )
    return texts


def describe(status: Mapping[str, Any]) -> str:
    """The status for a person."""
    nodes = [["NODE", "STATE", "WEBDAV"]]
    for node in status["nodes"]:
        state = "DOWN" if not node["up"] else "up, leader" if node["name"] == status["leader"] else "up"
        if not node["started"]:
            state = "not started yet"
        elif node["up"] and status["fresh"] and not node["votes"]:
            state = "up, catching up"
        nodes.append([node["name"], state, node["dav"]])
    lines = [*columns(nodes), ""]
    if not status["fresh"]:
        lines += ["No majority of the nodes answers: what follows may be old, and nothing can be written.", ""]
    lines += [f"Warning: {text}" for text in status["warnings"]] + ([""] if status["warnings"] else [])
    return "\n".join([*lines, *describe_volumes(status["volumes"])])


def describe_volumes(volumes: Sequence[Mapping[str, Any]]) -> list[str]:
    """A table of volumes."""
    if not volumes:
        return ["No volumes."]
    rows = [["VOLUME", "HOLDER", "EPOCH", "REPLICAS"]]
    for volume in volumes:
        holder = "-" if volume["holder"] is None else volume["holder"] or "a program"
        rows.append([volume["name"], holder, str(volume["epoch"]), ", ".join(volume["replicas"])])
    return columns(rows)


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows with their columns aligned."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
