"""``davfs volume replace-replica``: another node keeps a volume's records, one at a time, with its progress shown."""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any

from davfs.cli.remote import Remote, add_config, connect
from davfs.core.errors import ConfigError, Unavailable

LOOK_S = 0.3
STANDSTILL_S = 60.0
"""How long to watch a change that does not get on; it goes on by itself."""

_TEXT = """Let another node keep a volume's records: NEW in place of OLD, NEW as one more (--add), or OLD no longer (--remove).
Clients work on meanwhile. NEW first gets all records; then, for a moment, the majorities of the old and of the new replicas
both decide; then the new ones alone. The command shows how far that is; ended, it goes on by itself."""


def register(actions: Any) -> None:
    """Add the action to those of ``davfs volume``."""
    action = actions.add_parser("replace-replica", help="let another node keep a volume's records", description=_TEXT)
    action.add_argument("name", metavar="VOLUME")
    action.add_argument("old", metavar="OLD", nargs="?", default="", help="the node that keeps the records now")
    action.add_argument("new", metavar="NEW", nargs="?", default="", help="the node that takes its place")
    action.add_argument("--add", metavar="NEW", default="", help="one node more")
    action.add_argument("--remove", metavar="OLD", default="", help="one node less")
    action.add_argument("--cancel", action="store_true", help="end a change that is under way; all stays as it was")
    action.add_argument("--no-wait", action="store_true", help="return at once; `davfs volume show` tells how far it is")
    add_config(action)
    action.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    words = [arguments.old, arguments.new, arguments.add, arguments.remove]
    both = bool(arguments.old and arguments.new)
    if [both, bool(arguments.add), bool(arguments.remove), arguments.cancel].count(True) != 1 or (
        bool(arguments.old) != bool(arguments.new)
    ):
        raise ConfigError(f"say OLD NEW, --add NEW, --remove OLD or --cancel, not {' '.join(filter(None, words)) or 'nothing'}")
    with connect(arguments.config) as remote:
        if arguments.cancel:
            ended = remote.ask("admin.replicas_cancel", {"name": arguments.name})
            print(f"{ended['name']}: {ended['change']}: cancelled")
            return 0
        add, remove = arguments.new or arguments.add, arguments.old or arguments.remove
        remote.ask("admin.replicas_change", {"name": arguments.name, "add": add, "remove": remove})
        if not arguments.no_wait:
            watch(remote, arguments.name, add, remove)
    return 0


def replace(remote: Remote, volume: str, old: str, new: str) -> None:
    """Let a node take the place of another and wait for it, with progress on standard error."""
    remote.ask("admin.replicas_change", {"name": volume, "add": new, "remove": old})
    watch(remote, volume, new, old)


def watch(remote: Remote, volume: str, add: str, remove: str) -> None:
    """Show how a change gets on, until it is done. :class:`Unavailable` when it stands still, or was cancelled."""
    said, since = "", time.monotonic()
    while True:
        try:
            shown = remote.ask("admin.replicas_show", {"name": volume})
        except Unavailable as error:  # the nodes elect a leader, perhaps
            line = error.message
        else:
            if shown["change"] is None or (shown["change"]["add"], shown["change"]["remove"]) != (add, remove):
                _ended(shown, add, remove)
                return
            line = describe(shown)
        if line != said:
            print(line, file=sys.stderr, flush=True)
            said, since = line, time.monotonic()
        elif time.monotonic() - since > STANDSTILL_S:
            raise Unavailable(
                f"{line}: no progress for {STANDSTILL_S:.0f} s. It goes on by itself as soon as it can; see `davfs status`,"
                f" `davfs volume show {volume}`, or end it with `davfs volume replace-replica {volume} --cancel`"
            )
        time.sleep(LOOK_S)


def _ended(shown: dict[str, Any], add: str, remove: str) -> None:
    keep = f"{', '.join(shown['replicas'])} keep its records"
    if (add and add not in shown["replicas"]) or remove in shown["replicas"]:
        raise Unavailable(f"{shown['name']}: the change was cancelled; {keep}")
    print(f"{shown['name']}: {keep}", file=sys.stderr)


def describe(shown: dict[str, Any]) -> str:
    """One line about a change that is under way, of what ``admin.replicas_show`` answers."""
    add, remove = shown["change"]["add"], shown["change"]["remove"]
    what = f"{add} in place of {remove}" if add and remove else f"{add} as one more" if add else f"{remove} goes"
    return f"{shown['name']}: {what}: {_how_far(shown, add)}"


def _how_far(shown: dict[str, Any], add: str) -> str:
    if shown["change"]["joint"]:
        return "the old and the new replicas both decide"
    if shown["followers"] is None:
        holder = shown["holder"]
        return f"{holder} holds the volume, and carries it out" if holder else "waits for a node to take the volume"
    newcomer = next((one for one in shown["followers"] if one["node"] == add), None)
    if newcomer is None:
        return "begins"
    far = f"{newcomer['records']} of {shown['records']} records"
    return f"{far}; {add} does not answer" if newcomer["failing"] else far
