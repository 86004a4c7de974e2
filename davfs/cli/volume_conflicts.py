"""``davfs volume conflicts``: what two histories of a volume did to the same things, and what came of it.

A conflict copy is a file like any other: compare it with the one beside it, then delete it or give it a name of its own.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

from davfs.cli.looks import open_current
from davfs.cli.remote import add_config, connect

_KINDS = {"copy": "conflict copy", "moved": "elsewhere", "dropped": "dropped"}


def register(actions: Any) -> None:
    """Add the action to ``davfs volume``."""
    action = actions.add_parser("conflicts", help="list what merges left to look at", description=__doc__)
    action.add_argument("name", metavar="VOLUME")
    add_config(action)
    action.add_argument("--json", action="store_true", help="for programs")
    action.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """List them."""
    with connect(arguments.config) as remote:
        remote.learn(remote.ask("admin.status", {})["nodes"])
        look = open_current(remote, arguments.name)
        try:
            found = [one for page in look.pages("node.look_conflicts") for one in page["conflicts"]]
        finally:
            look.close()
    print(json.dumps(found, indent=2) if arguments.json else "\n".join(describe(found)))
    return 0


def describe(found: Sequence[Mapping[str, Any]]) -> list[str]:
    """The list for a person."""
    if not found:
        return ["No conflicts."]
    lines = []
    for one in found:
        when = "" if one["at_ns"] is None else time.strftime(" on %Y-%m-%d %H:%M:%S", time.localtime(one["at_ns"] / 1e9))
        by = f" by {one['who']}" if one["who"] else ""
        wanted = f" (written as {one['wanted']})" if one["wanted"] else ""
        lines.append(f"{_KINDS[one['kind']]}: {one['path']}{wanted}{when}{by}, change {one['record']}")
    return lines
