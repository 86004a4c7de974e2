"""``davfs volume fsck``: is everything of a volume as it must be, on every replica, down to the last copy of each chunk?

All replicas are looked at in one state of the volume while it stays in use; each is examined by its own node. Then every
copy of every chunk is verified by the node that should have it. Nothing is repaired here: the scrub and reads do that.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from typing import Any

from davfs.cli.looks import Look, open_current, open_look
from davfs.cli.progress import Progress, size
from davfs.cli.remote import Remote, add_config, connect
from davfs.core.errors import ChunkMissing, CorruptData, DavfsError, Unavailable

WORKERS = 8
CHECK_TIMEOUT = 30.0
TRIES = 3
SHOWN = 100
"""So many findings are printed; --json has all of them."""


def register(actions: Any) -> None:
    """Add the action to ``davfs volume``."""
    text = "check all metadata of a volume and every copy of its chunks; exit code 1 if something is wrong"
    action = actions.add_parser("fsck", help=text, description=__doc__)
    action.add_argument("name", metavar="VOLUME")
    add_config(action)
    action.add_argument("--json", action="store_true", help="for programs")
    action.add_argument("--quick", action="store_true", help="look whether copies of chunks are there, without reading them")
    action.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Examine, print what was found."""
    with connect(arguments.config) as remote:
        report = Fsck(remote, arguments.name, arguments.quick).run()
    if arguments.json:
        print(json.dumps(report, indent=2))
    else:
        print("\n".join(describe(report)))
    return 0 if report["ok"] else 1


class Fsck:
    """One check of one volume."""

    def __init__(self, remote: Remote, volume: str, quick: bool) -> None:
        self._remote = remote
        self._volume = volume
        self._quick = quick
        self._progress = Progress()
        self._problems: list[dict[str, str]] = []
        self._notes: list[str] = []

    def run(self) -> dict[str, Any]:
        """The report: ``ok``, ``position``, ``files``, ``bytes``, ``replicas`` (node to digest), ``chunks``, ``problems``."""
        remote = self._remote
        remote.learn(remote.ask("admin.status", {})["nodes"])
        shown = remote.ask("admin.volume_show", {"name": self._volume})
        looks = self._open_all(shown["replicas"])
        try:
            with ThreadPoolExecutor(len(looks)) as pool:
                digests = dict(zip([look.node for look in looks], pool.map(self._examine, looks), strict=True))
            if len({digest for digest in digests.values() if digest}) > 1:
                listed = ", ".join(f"{node} {digest[:16]}" for node, digest in digests.items())
                self._found("", "replicas", f"they differ in one state of the volume (digests: {listed})")
            counted = self._check_chunks(looks[0], shown)
        finally:
            for look in looks:
                look.close()
            self._progress.end()
        return {
            "volume": self._volume,
            "ok": not self._problems,
            "position": looks[0].committed,
            "files": looks[0].files,
            "bytes": looks[0].bytes,
            "replicas": digests,
            "chunks": counted,
            "problems": self._problems,
            "notes": self._notes,
        }

    def _found(self, node: str, kind: str, text: str) -> None:
        self._problems.append({"node": node, "kind": kind, "text": text})

    # --- replicas ---------------------------------------------------------------------------------------------------

    def _open_all(self, replicas: Sequence[str]) -> list[Look]:
        """Looks at all replicas in one state, the most current first: those that follow stay where they are, the holder
        is looked at where it is, and then they go exactly there."""
        for last in (False,) * (TRIES - 1) + (True,):
            for node in replicas:
                try:
                    self._remote.ask_node(node, "node.look_pause", {"volume": self._volume})
                except DavfsError as error:
                    if last:
                        self._found(node, "replica", f"it cannot be examined: {error.message}")
            first = open_current(self._remote, self._volume)
            others = [n for n in replicas if n != first.node and not any(p["node"] == n for p in self._problems)]
            looks, late = [first], False
            with ThreadPoolExecutor(len(replicas)) as pool:  # at once: nobody waits at one state for long
                opened = list(pool.map(partial(self._open_at, first.committed[1]), others))
            for node, look in zip(others, opened, strict=True):
                if isinstance(look, Look):
                    looks.append(look)
                    continue
                late = True
                if last:
                    self._found(node, "replica", f"it cannot be examined: {look.message}")
            if last or not late:
                return looks
            for each in looks:
                each.close()
        raise AssertionError  # the last try returns

    def _open_at(self, seq: int, node: str) -> Look | DavfsError:
        try:
            return open_look(self._remote, node, self._volume, at=seq)
        except DavfsError as error:
            return error

    def _examine(self, look: Look) -> str:
        """Let one node examine its replica; the digest of its state, "" if it could not be made."""
        try:
            while True:
                step = look.ask("node.look_examine")
                for kind, text in step["problems"]:
                    self._found(look.node, kind, text)
                if step["digest"] or not step["phase"]:
                    return str(step["digest"])
                self._progress.show(f"{look.node}: {step['phase']} {step['count']}")
        except DavfsError as error:
            self._found(look.node, "replica", f"it cannot be examined: {error.message}")
            return ""

    # --- chunks -----------------------------------------------------------------------------------------------------

    def _check_chunks(self, look: Look, shown: Mapping[str, Any]) -> dict[str, int]:
        """Count good copies; fewer than W of a chunk are a problem, fewer than N a note."""
        policy = shown["policy"]
        counted = {"chunks": 0, "bytes": 0, "copies": 0, "short": 0, "lost": 0}
        fewer = 0
        with ThreadPoolExecutor(WORKERS) as pool:
            for batch in _batches(self._chunks_of(look), 64 if not self._quick else 1000):
                troubles = self._quickly(shown["id"], batch) if self._quick else None
                results = [troubles[chunk[0]] for chunk in batch] if troubles is not None else list(
                    pool.map(lambda chunk: self._verify(shown["id"], chunk), batch)
                )
                for (digest, length, nodes), bad in zip(batch, results, strict=True):
                    good = len(nodes) - len(bad)
                    counted["chunks"] += 1
                    counted["bytes"] += length
                    counted["copies"] += good
                    if good < policy["write_quorum"]:
                        counted["short" if good else "lost"] += 1
                        why = "; ".join(bad)
                        self._found("", "chunk", f"{digest} has {good} good copies of {policy['write_quorum']} at least: {why}")
                    elif good < policy["copies"]:
                        fewer += 1
                self._progress.show(f"chunks: {counted['chunks']} ({size(counted['bytes'])})")
        if fewer:
            text = "{} chunks have fewer than {} copies, and {} at least"
            self._notes.append(text.format(fewer, policy["copies"], policy["write_quorum"]))
        return counted

    def _chunks_of(self, look: Look) -> Iterator[tuple[str, int, list[str]]]:
        """Each chunk once. 16 bytes of each digest are remembered: that is what memory grows by."""
        seen: set[bytes] = set()
        for page in look.pages("node.look_chunks"):
            for digest, length, nodes in page["chunks"]:
                short = bytes.fromhex(digest[:32])
                if short not in seen:
                    seen.add(short)
                    yield digest, length, nodes

    def _verify(self, volume: str, chunk: tuple[str, int, list[str]]) -> list[str]:
        """What is wrong with its copies, one line for each that is not good."""
        digest, length, nodes = chunk
        bad = []
        for node in nodes:
            try:
                args = {"volume": volume, "digest": digest}
                found = self._remote.ask_node(node, "chunk.check", args, CHECK_TIMEOUT)["size"]
                if found != length:
                    bad.append(f"{node}: it has {found} bytes, the manifest says {length}")
            except (ChunkMissing, CorruptData, Unavailable) as error:
                bad.append(f"{node}: {error.message}")
            except DavfsError as error:
                bad.append(f"{node}: it was not checked: {error.message}")
            except KeyError:
                bad.append(f"{node} is no longer in the cluster")
        return bad

    def _quickly(self, volume: str, batch: Sequence[tuple[str, int, list[str]]]) -> dict[str, list[str]]:
        bad: dict[str, list[str]] = {digest: [] for digest, _, _ in batch}
        for node in sorted({node for _, _, nodes in batch for node in nodes}):
            asked = [digest for digest, _, nodes in batch if node in nodes]
            try:
                held = self._remote.ask_node(node, "node.holds", {"volume": volume, "digests": asked}, CHECK_TIMEOUT)
            except (DavfsError, KeyError) as error:
                held = [False] * len(asked)
                text = error.message if isinstance(error, DavfsError) else "it is no longer in the cluster"
            else:
                text = "it is not there"
            for digest, there in zip(asked, held, strict=True):
                if not there:
                    bad[digest].append(f"{node}: {text}")
        return bad


def _batches(chunks: Iterator[tuple[str, int, list[str]]], length: int) -> Iterator[list[tuple[str, int, list[str]]]]:
    while batch := list(islice(chunks, length)):
        yield batch


def describe(report: Mapping[str, Any]) -> list[str]:
    """The report for people."""
    (incarnation, counter), seq = report["position"]
    counted = report["chunks"]
    lines = [
        f"volume {report['volume']} at record {seq} of epoch {incarnation}.{counter}: {report['files']} files,"
        f" {size(report['bytes'])}; {counted['chunks']} chunks, {counted['copies']} good copies,"
        f" on replicas {', '.join(report['replicas'])}"
    ]
    for problem in report["problems"][:SHOWN]:
        lines.append("  ".join(filter(None, [problem["kind"], problem["node"], problem["text"]])))
    if len(report["problems"]) > SHOWN:
        lines.append(f"and {len(report['problems']) - SHOWN} more (--json has all)")
    lines += report["notes"]
    lines.append("all is as it must be" if report["ok"] else f"{len(report['problems'])} problems")
    return lines
