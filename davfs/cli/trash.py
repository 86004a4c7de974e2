"""``davfs trash``: see what was deleted or overwritten in a volume, take it back, or give it up."""

from __future__ import annotations

import argparse
import json
import secrets
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from davfs.cli.at_holder import AtHolder
from davfs.cli.remote import add_config, connect
from davfs.cli.status import columns
from davfs.core.errors import ConfigError
from davfs.core.model import DIRECTORY

LIST_TIMEOUT = 15.0
CHANGE_TIMEOUT = 60.0


def register(commands: Any) -> None:
    """Add the command group."""
    group = commands.add_parser("trash", help="see and restore what was deleted or overwritten", description=__doc__)
    actions = group.add_subparsers(title="actions", metavar="ACTION", required=True)
    text = "show what is in a volume's trash, the oldest first"
    listing = _action(actions, "list", _list, text)
    listing.add_argument("--json", action="store_true", help="for programs")
    restore = _action(actions, "restore", _restore, "put something back where it was; nothing is overwritten")
    restore.add_argument("id", metavar="ID", help="as davfs trash list shows it")
    restore.add_argument("--to", metavar="PATH", help="a path in the volume, instead of where it was")
    empty = _action(actions, "empty", _empty, "give up for good all that is in the trash now")
    empty.add_argument("--yes", action="store_true", help="do not ask")


def _action(actions: Any, name: str, run: Any, text: str) -> argparse.ArgumentParser:
    action: argparse.ArgumentParser = actions.add_parser(name, help=text, description=text)
    action.add_argument("volume", metavar="VOLUME")
    add_config(action)
    action.set_defaults(run=run)
    return action


def _list(arguments: argparse.Namespace) -> int:
    with connect(arguments.config) as remote:
        entries = list(_entries(AtHolder(remote, arguments.volume), arguments.volume))
    if arguments.json:
        print(json.dumps(entries, indent=2))
        return 0
    rows = [["ID", "SINCE (UTC)", "WHAT", "BY", "BYTES", "PATH"]]
    for entry in entries:
        since = datetime.fromtimestamp(entry["since_ns"] / 1e9, UTC).strftime("%Y-%m-%d %H:%M:%S")
        folder = entry["kind"] == DIRECTORY
        size, slash = ("-", "/") if folder else (str(entry["size"]), "")
        rows.append([entry["id"], since, entry["what"], entry["by"] or "-", size, f"/{entry['path']}{slash}"])
    print("\n".join(columns(rows)) if entries else "The trash is empty.")
    return 0


def _entries(at: AtHolder, volume: str) -> Iterator[dict[str, Any]]:
    after: list[Any] = [0, ""]
    while True:
        page = at.ask("node.trash_list", {"volume": volume, "after": after}, b"", LIST_TIMEOUT)
        yield from page["entries"]
        if not page["more"]:
            return
        after = [page["entries"][-1]["since_ns"], page["entries"][-1]["id"]]


def _restore(arguments: argparse.Namespace) -> int:
    args = {"volume": arguments.volume, "id": arguments.id, "to": arguments.to, "request_id": secrets.token_hex(16)}
    with connect(arguments.config) as remote:
        done = AtHolder(remote, arguments.volume).ask("node.trash_restore", args, b"", CHANGE_TIMEOUT)
    print(f"restored /{done['path']}")
    return 0


def _empty(arguments: argparse.Namespace) -> int:
    volume, before = arguments.volume, time.time_ns()
    if not arguments.yes:
        if not sys.stdin.isatty():
            raise ConfigError(f"emptying the trash of {volume!r} cannot be undone; say --yes")
        if input(f"Give up all that is in the trash of {volume!r} for good? Type its name: ") != volume:
            raise ConfigError("nothing was removed")
    total, done = 0, False
    with connect(arguments.config) as remote:
        at = AtHolder(remote, volume)
        while not done:
            answer = at.ask("node.trash_empty", {"volume": volume, "before_ns": before}, b"", CHANGE_TIMEOUT)
            total, done = total + answer["removed"], answer["done"]
            if sys.stderr.isatty():
                print(f"{total} entries removed", file=sys.stderr)
    print(f"{total} entries removed; their space comes back with the collector's next run (`davfs gc run {volume}`)")
    return 0
