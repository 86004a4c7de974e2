"""`python -m compat.bench --out FILE`: davfs beside its peers, in interleaved rounds of one run.

Every server gets the same client and the same requests on the same disk. In every round each
operation goes to one server after the other, the order turning from round to round, so that a
machine that grows slower or faster meanwhile does so for all. Quote ratios: absolute times drift.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import FrameType

from compat.bench.http1 import TransportError
from compat.bench.load import Payload, Target, WrongAnswer, operations, parse_size, size_title
from compat.bench.peers import PEERS, Peer
from compat.bench.report import OURS, Operation, Server, below_goal, render
from compat.bench.site import Absent, Running, Site
from compat.bench.stats import Samples


class Bench:
    """One run: the servers that started, their targets, the samples and what went wrong."""

    def __init__(self, sizes: list[int], rounds: int) -> None:
        self.sizes = sizes
        self.rounds = rounds
        self.rows: list[Operation] = operations(sizes)
        self.samples = Samples()
        self.running: dict[str, Running] = {}
        self.targets: dict[str, Target] = {}
        self.measures: dict[str, Callable[[Operation], bool]] = {}
        self.problems: dict[str, str] = {}

    def start(self, peers: list[Peer], site: Site) -> None:
        """Starts each server and prepares its folder; one that fails is noted and left out."""
        payload = Payload(max(*self.sizes, 1024))
        for peer in peers:
            _say(f"starting {peer.title}")
            spawned = len(site.processes)
            try:
                self.running[peer.key] = running = peer.start(site)
                target = Target(peer.key, running.url, payload)
                site.stack.callback(target.finish)
                target.prepare(self.sizes)
                self.targets[peer.key] = target
                self.measures[peer.key] = peer.measures
            except (Absent, TransportError, WrongAnswer) as problem:
                self.problems[peer.key] = str(problem)
                _say(f"  absent: {problem}")
                site.end_since(spawned)

    def run(self) -> None:
        """All rounds. A server that fails is noted and gets no further requests."""
        for number in range(self.rounds):
            started = time.monotonic()
            for row in self.rows:
                for key in self._order(number):
                    self._guard(key, row, number)
            for key in self._order(number):
                self._clean(key, number)
            _say(f"round {number + 1} of {self.rounds}: {time.monotonic() - started:.1f} s")

    def _order(self, number: int) -> list[str]:
        keys = [key for key in self.targets if key not in self.problems]
        turn = number % len(keys) if keys else 0
        return keys[turn:] + keys[:turn]

    def _guard(self, key: str, row: Operation, number: int) -> None:
        counts = self.measures[key](row)
        if not counts and not row.key.startswith("put-"):
            return  # a PUT makes the files of other rows
        # What the server before left to be written must not be paid for by this one.
        os.sync()
        target = self.targets[key]
        try:
            target.wake()
            times = target.turn(row, number)
            if counts:
                self.samples.add(row.key, key, times)
        except (TransportError, WrongAnswer) as problem:
            self.problems[key] = f"{row.title}: {problem}"
            _say(f"  {key} failed: {problem}")

    def _clean(self, key: str, number: int) -> None:
        try:
            self.targets[key].wake()
            self.targets[key].after_round(self.sizes, number)
        except (TransportError, WrongAnswer) as problem:
            self.problems[key] = f"removing a round's files: {problem}"

    def page(self, peers: list[Peer], facts: list[str]) -> str:
        """The report of what was measured so far."""
        servers = []
        for peer in peers:
            running, target = self.running.get(peer.key), self.targets.get(peer.key)
            servers.append(
                Server(
                    peer.key,
                    peer.title,
                    running.version if running else "",
                    target.http.opened if target else 0,
                    self.problems.get(peer.key, ""),
                )
            )
        return render(facts, self.rows, servers, self.samples)


def main(arguments: list[str] | None = None) -> int:
    """The command. 0: measured; 1: davfs was asked for and failed; 130: interrupted."""
    options = _options(arguments)
    peers = [peer for peer in PEERS if peer.key in options.peers]
    bench = Bench(options.sizes, options.rounds)
    interrupted = False
    started, load = time.time(), os.getloadavg()[0]
    signal.signal(signal.SIGTERM, _interrupt)
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="davfs-bench-", dir=options.dir))
        folder.chmod(0o755)  # Apache's workers are another user
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        try:
            bench.start(peers, Site(folder, stack, options.davfs_url))
            bench.run()
        except KeyboardInterrupt:
            interrupted = True
            _say("interrupted: stopping the servers")
        # A second Ctrl-C must not cut the teardown short.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        stack.close()
    facts = _facts(bench, started, load, interrupted)
    page = bench.page(peers, facts)
    print(page)
    if options.out:
        options.out.write_text(page, "utf-8")
    if options.raw:
        options.raw.write_text(_raw(bench, facts), "utf-8")
    if interrupted:
        return 130
    if below_goal(bench.rows, bench.samples):
        _say("some rows are below the goal")
    return 1 if OURS in bench.problems else 0


def _options(arguments: list[str] | None) -> argparse.Namespace:
    keys = [peer.key for peer in PEERS]
    parser = argparse.ArgumentParser(prog="python -m compat.bench", description=__doc__)
    parser.add_argument("--out", type=Path, help="write the Markdown report to this file")
    parser.add_argument("--raw", type=Path, help="write all samples to this file as JSON")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sizes", type=_sizes, default=_sizes("1k,256m"), metavar="1k,256m")
    parser.add_argument("--peers", nargs="+", choices=keys, default=keys, metavar="PEER",
                        help=f"which servers: {' '.join(keys)} (all)")  # fmt: skip
    parser.add_argument("--davfs-url", help="a running davfs volume instead of an own one")
    parser.add_argument("--dir", type=Path, help="where the run's folder is made (its disk)")
    options = parser.parse_args(arguments)
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")
    return options


def _sizes(text: str) -> list[int]:
    sizes = [parse_size(part) for part in text.replace(",", " ").split()]
    if not sizes or len(set(sizes)) != len(sizes):
        raise ValueError("--sizes wants different sizes, like 1k,256m")
    return sizes


def _facts(bench: Bench, started: float, load: float, interrupted: bool) -> list[str]:
    when = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(started))
    facts = [
        f"{when}, {time.time() - started:.0f} s, {bench.rounds} interleaved rounds, "
        f"sizes {', '.join(size_title(size) for size in bench.sizes)}",
        f"{os.cpu_count()} CPUs, Linux {platform.release()}, Python {platform.python_version()}; "
        f"load average {load:.1f} before, {os.getloadavg()[0]:.1f} after",
        "One client and one kept connection for each server, all on 127.0.0.1 and one disk. The "
        "peers answer from the page cache and do not sync; davfs answers when the data is durable.",
    ]
    if interrupted:
        facts.append("**Interrupted**: not all rounds ran.")
    return facts


def _raw(bench: Bench, facts: list[str]) -> str:
    cells = [
        {"operation": operation, "server": server, "seconds": seconds}
        for (operation, server), seconds in bench.samples.seconds.items()
    ]
    return json.dumps({"version": 1, "facts": facts, "samples": cells, "problems": bench.problems})


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
