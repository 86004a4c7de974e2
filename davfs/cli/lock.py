"""``davfs lock ...``: list the DAV locks of people's clients, and break one that is in the way."""

from __future__ import annotations

import argparse
import getpass
import json
import re
import socket
from collections.abc import Mapping
from typing import Any

from davfs.cli.remote import add_config, connect
from davfs.cli.status import columns

_TAGS = re.compile(r"<[^>]*>")


def register(commands: Any) -> None:
    """Add the command group."""
    group = commands.add_parser("lock", help="list and break DAV locks", description=__doc__)
    actions = group.add_subparsers(title="actions", metavar="ACTION", required=True)
    listing = actions.add_parser("list", help="show DAV locks", description="Show the DAV locks of all volumes, or of one.")
    listing.add_argument("--volume", metavar="NAME", help="of this volume only")
    text = "End a lock, whoever took it. Its client's next save is refused, so that it asks its user."
    breaking = actions.add_parser("break", help="end a lock, whoever took it", description=text)
    breaking.add_argument("token", metavar="TOKEN", help="as `davfs lock list` shows it")
    for action, run in ((listing, _list), (breaking, _break)):
        add_config(action)
        action.add_argument("--json", action="store_true", help="for programs")
        action.set_defaults(run=run)


def _list(arguments: argparse.Namespace) -> int:
    with connect(arguments.config) as remote:
        locks = remote.ask("admin.lock_list", {"name": arguments.volume or ""})
    if arguments.json:
        print(json.dumps(locks, indent=2))
    elif not locks:
        print("No locks.")
    else:
        rows = [["VOLUME", "PATH", "KIND", "ACCOUNT", "OWNER", "TIMEOUT", "TOKEN"], *map(_row, locks)]
        print("\n".join(columns(rows)))
    return 0


def _row(lock: Mapping[str, Any]) -> list[str]:
    kind = ("exclusive" if lock["exclusive"] else "shared") + (", with all below" if lock["infinite"] else "")
    owner = " ".join(_TAGS.sub(" ", lock["owner"]).split())[:40] or "-"
    owner = "".join(c if c.isprintable() else "?" for c in owner)
    return [
        lock["volume"], lock["path"], kind, lock["principal"] or "-", owner, f"{lock['timeout_s']} s", lock["token"]
    ]  # fmt: skip


def _break(arguments: argparse.Namespace) -> int:
    with connect(arguments.config) as remote:
        lock = remote.ask("admin.lock_break", {"token": arguments.token, "by": f"{_user()}@{socket.gethostname()}"})
    print(json.dumps(lock, indent=2) if arguments.json else "the lock of {path} in {volume} is broken".format(**lock))
    return 0


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user id without a name
        return "somebody"
