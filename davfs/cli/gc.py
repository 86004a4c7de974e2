"""``davfs gc``: run the collector of chunks that nothing uses any more, and see what it did."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from davfs.cli.remote import Remote, add_config, chosen, connect
from davfs.cli.status import columns
from davfs.core.errors import DavfsError, Unavailable, VolumeHeld

POLL_S = 0.3
PATIENCE_S = 10.0
SILENCE_S = 30.0
"""How long the node that runs the collector may be silent before the command gives up waiting; the run goes on."""


def register(commands: Any) -> None:
    """Add the command group."""
    group = commands.add_parser("gc", help="collect chunks that nothing uses any more", description=__doc__)
    actions = group.add_subparsers(title="actions", metavar="ACTION", required=True)
    run = actions.add_parser("run", help="collect now", description="Run the collector for a volume, or for all of them.")
    run.add_argument("volume", nargs="?", metavar="VOLUME", help="this one only")
    run.add_argument("--dry-run", action="store_true", help="only say what would be set aside")
    run.set_defaults(run=_run)
    status = actions.add_parser("status", help="show the last runs", description="Show what the last run of each volume did.")
    status.set_defaults(run=_status)
    for action in (run, status):
        add_config(action)
        action.add_argument("--json", action="store_true", help="for programs")


def _run(arguments: argparse.Namespace) -> int:
    with connect(arguments.config) as remote:
        reports = [_collect(remote, volume, arguments.dry_run) for volume in chosen(remote, arguments.volume)]
    if arguments.json:
        print(json.dumps(reports, indent=2))
    else:
        print("\n".join(describe(reports)))
    return 1 if any(report["error"] for report in reports) else 0


def _collect(remote: Remote, volume: Mapping[str, Any], dry_run: bool) -> dict[str, Any]:
    """Have the collector run for one volume and wait for its end; the report."""
    node, began = _start(remote, volume, dry_run)
    heard = time.monotonic()
    while True:
        try:
            status = remote.ask_node(node, "node.gc", {})
        except DavfsError as error:
            if time.monotonic() - heard > SILENCE_S:
                raise Unavailable(f"{node}, which runs the collector, does not answer: {error.message}") from error
        else:
            heard = time.monotonic()
            report: dict[str, Any]
            for report in status["runs"]:
                if report["volume"] == volume["id"] and report["began_ns"] == began:
                    if report["step"] == "done" or report["error"]:
                        return report
                    if sys.stderr.isatty():
                        print(f"{volume['name']}: {report['step']}, {report['names']} names", file=sys.stderr)
        time.sleep(POLL_S)


def _start(remote: Remote, volume: Mapping[str, Any], dry_run: bool) -> tuple[str, int]:
    """(the node that runs the collector, when it began). Tries for a moment: a grant may just be ending."""
    ends = time.monotonic() + PATIENCE_S
    while True:
        nodes = [volume["holder"]] if volume["holder"] else list(volume["replicas"])
        if volume["holder"] == "" or volume["holder"] not in (None, *remote.nodes):
            raise VolumeHeld(f"a program holds {volume['name']!r}: its chunks are collected when it is free again")
        troubles = []
        for node in nodes:
            try:
                begun = remote.ask_node(node, "node.gc_run", {"name": volume["name"], "dry_run": dry_run})
            except DavfsError as error:
                troubles.append(f"{node}: {error.message}")
            else:
                return node, int(begun["began_ns"])
        if time.monotonic() > ends:
            raise Unavailable(f"no node can collect {volume['name']!r} now. " + "; ".join(troubles))
        time.sleep(POLL_S)
        volume = remote.ask("admin.volume_show", {"name": volume["name"]})


def _status(arguments: argparse.Namespace) -> int:
    with connect(arguments.config) as remote:
        answers = remote.ask_all("node.gc")
    reports = list(latest(answers))
    swept = {node: [a["swept"], a["swept_bytes"]] for node, a in answers.items() if a is not None}
    silent = [node for node, answer in answers.items() if answer is None]
    if arguments.json:
        print(json.dumps({"runs": reports, "swept": swept, "silent": silent}, indent=2))
        return 0
    print("\n".join(describe(reports)))
    for node, (count, size) in sorted(swept.items()):
        print(f"{node} has deleted {count} chunks ({size} bytes) for good since it was started.")
    if silent:
        print(f"Not asked, because they do not answer: {', '.join(silent)}.")
    return 0


def latest(answers: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The newest run of each volume, of all that the nodes know of."""
    newest: dict[str, dict[str, Any]] = {}
    for answer in answers.values():
        for report in answer["runs"] if answer is not None else ():
            known = newest.get(report["name"])
            if known is None or known["began_ns"] < report["began_ns"]:
                newest[report["name"]] = report
    yield from (newest[name] for name in sorted(newest))


def describe(reports: Sequence[Mapping[str, Any]]) -> list[str]:
    """Runs for a person."""
    if not reports:
        return ["The collector has not run since the nodes were started."]
    lines = []
    for report in reports:
        began = datetime.fromtimestamp(report["began_ns"] / 1e9, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        state = f"FAILED: {report['error']}" if report["error"] else report["step"]
        kind = " (dry run: nothing was set aside)" if report["dry_run"] else ""
        lines.append(f"{report['name']}: {began}, {report['seconds']:g} s, {state}{kind}")
        if report["emptied"] or report["dropped"]:
            taken, dropped = report["emptied"], report["dropped"]
            lines.append(f"{taken} entries were taken out of the trash, {dropped} segments of no file dropped")
        rows = [["NODE", "CHUNKS", "BYTES", "UNUSED", "BYTES", "SET ASIDE", "BYTES"]]
        for node, found in sorted(report["nodes"].items()):
            numbers = (found[key] for key in ("seen", "seen_bytes", "unused", "unused_bytes", "removed", "removed_bytes"))
            rows.append([node, *map(str, numbers)])
        lines += columns(rows) if len(rows) > 1 else []
        lines += [f"not {node}: {why}" for node, why in sorted(report["skipped"].items())]
    return lines
