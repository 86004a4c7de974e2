"""``davfs scrub``: let the nodes look at all copies of the chunks now, and see what they found."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from davfs.cli.remote import Remote, add_config, chosen, connect
from davfs.cli.status import columns
from davfs.core.errors import DavfsError, Unavailable

POLL_S = 0.3
SILENCE_S = 30.0
"""How long a node may be silent before the command gives up waiting for it; its pass goes on."""


def register(commands: Any) -> None:
    """Add the command group."""
    group = commands.add_parser("scrub", help="look for damaged and missing copies", description=__doc__)
    actions = group.add_subparsers(title="actions", metavar="ACTION", required=True)
    run = actions.add_parser("run", help="look now", description="Verify every copy of every chunk, and repair.")
    run.add_argument("volume", nargs="?", metavar="VOLUME", help="this one only")
    run.add_argument("--quick", action="store_true", help="only look whether the copies are there")
    run.set_defaults(run=_run)
    status = actions.add_parser("status", help="show the last passes", description="Show what each node's last pass found.")
    status.set_defaults(run=_status)
    for action in (run, status):
        add_config(action)
        action.add_argument("--json", action="store_true", help="for programs")


def _run(arguments: argparse.Namespace) -> int:
    with connect(arguments.config) as remote:
        passes: list[dict[str, Any]] = []
        silent: list[str] = []
        for volume in chosen(remote, arguments.volume):
            begun: dict[str, int] = {}
            for node in volume["replicas"]:
                try:
                    args = {"name": volume["name"], "verify": not arguments.quick}
                    begun[node] = remote.ask_node(node, "node.scrub_run", args)["began_ns"]
                except DavfsError as error:
                    silent.append(f"{volume['name']} on {node}: {error.message}")
            passes += [_wait(remote, node, volume["id"], began) for node, began in begun.items()]
    return _show(passes, silent, as_json=arguments.json)


def _wait(remote: Remote, node: str, volume: str, began: int) -> dict[str, Any]:
    heard = time.monotonic()
    while True:
        try:
            told = remote.ask_node(node, "node.scrub", {})
        except DavfsError as error:
            if time.monotonic() - heard > SILENCE_S:
                raise Unavailable(f"{node} does not answer any more: {error.message}") from error
        else:
            heard = time.monotonic()
            one: dict[str, Any]
            for one in told["passes"]:
                if one["volume"] == volume and one["began_ns"] == began:
                    if one["done"] or one["error"]:
                        return {**one, "node": node}
                    if sys.stderr.isatty():
                        print(f"{one['name']} on {node}: {one['found']['copies']} copies", file=sys.stderr)
        time.sleep(POLL_S)


def _status(arguments: argparse.Namespace) -> int:
    with connect(arguments.config) as remote:
        answers = remote.ask_all("node.scrub")
    passes = [{**one, "node": node} for node, answer in answers.items() if answer for one in answer["passes"]]
    silent = [f"{node}: it does not answer" for node, answer in answers.items() if answer is None]
    return _show(passes, silent, as_json=arguments.json)


def _show(passes: Sequence[Mapping[str, Any]], silent: Sequence[str], *, as_json: bool) -> int:
    """Print passes; exit code 1 when something is wrong that was not repaired."""
    if as_json:
        print(json.dumps({"passes": passes, "silent": silent}, indent=2))
    else:
        print("\n".join(describe(passes, silent)))
    return int(any(one["error"] or _is_bad(one["found"]) for one in passes))


def _is_bad(found: Mapping[str, Any]) -> bool:
    return bool(found["short"] or found.get("damage") or found["bad"] > found["repaired"])


def describe(passes: Sequence[Mapping[str, Any]], silent: Sequence[str]) -> list[str]:
    """Passes for a person."""
    rows = [["VOLUME", "NODE", "BEGAN", "COPIES", "BAD", "REPAIRED", "TOO FEW COPIES", "DAMAGE", "STATE"]]
    for one in sorted(passes, key=lambda one: (one["name"], one["node"])):
        found = one["found"]
        began = datetime.fromtimestamp(one["began_ns"] / 1e9, UTC).strftime("%Y-%m-%d %H:%M:%S")
        state = f"FAILED: {one['error']}" if one["error"] else "done" if one["done"] else "under way"
        numbers = (str(found.get(key, 0)) for key in ("copies", "bad", "repaired", "short", "damage"))
        rows.append([one["name"], one["node"], began, *numbers, state if one["verify"] else f"{state}, quick"])
    lines = columns(rows) if len(rows) > 1 else ["No pass yet: the first begins shortly after a node's start."]
    lines += [f"{one['name']}: {example}" for one in passes for example in one["found"]["examples"]]
    return [*lines, *(f"not asked: {who}" for who in silent)]
