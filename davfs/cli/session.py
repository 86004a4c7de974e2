"""``davfs session ...``: who uses which volume right now, and through which node."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from typing import Any

from davfs.cli.remote import Remote, add_config, connect
from davfs.cli.status import columns


def register(commands: Any) -> None:
    """Add the command group."""
    group = commands.add_parser("session", help="list who uses volumes", description=__doc__)
    actions = group.add_subparsers(title="actions", metavar="ACTION", required=True)
    listing = actions.add_parser("list", help="show sessions", description="Show the sessions of all volumes, or of one.")
    listing.add_argument("--volume", metavar="NAME", help="of this volume only")
    add_config(listing)
    listing.add_argument("--json", action="store_true", help="for programs")
    listing.set_defaults(run=_list)


def _list(arguments: argparse.Namespace) -> int:
    with connect(arguments.config) as remote:
        sessions, silent = collect(remote, arguments.volume)
    if arguments.json:
        print(json.dumps(sessions, indent=2))
        return 0
    print("\n".join(describe(sessions)))
    if silent:
        print(f"Not asked, because they do not answer: {', '.join(silent)}.")
    return 0


def collect(remote: Remote, volume: str | None = None) -> tuple[list[dict[str, Any]], list[str]]:
    """The sessions that the nodes know of, each from the holder of its volume; and the nodes that did not answer."""
    answers = remote.ask_all("node.sessions")
    found = [one for answer in answers.values() for one in answer or [] if volume in (None, one["volume"])]
    return (
        sorted(found, key=lambda one: (one["volume"], -one["began_s"])),
        [node for node, answer in answers.items() if answer is None],
    )


def describe(sessions: Sequence[Mapping[str, Any]]) -> list[str]:
    """A table of sessions."""
    if not sessions:
        return ["No sessions."]
    rows = [["VOLUME", "ACCOUNT", "ADDRESS", "NODE", "SINCE", "QUIET", "REQUESTS", "CLIENT"]]
    for one in sessions:
        name = one["volume"] + (" (alone)" if one["exclusive"] else "")
        quiet = "busy" if one["under_way"] else f"{one['quiet_s']:.0f} s"
        rows.append(
            [name, one["account"] or "-", one["address"], one["node"] or "-", f"{one['began_s']:.0f} s", quiet,
             str(one["requests"]), one["agent"] or "-"]
        )  # fmt: skip
    return columns(rows)
