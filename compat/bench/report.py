"""The result of a run as Markdown. Pure: text from samples, no IO, no clock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from compat.bench.stats import Samples, median, percentile

OURS = "davfs"
YARDSTICK = "apache-gluster"
FLOOR = "floor"
GOAL = 2.0


@dataclass(frozen=True)
class Operation:
    """A row of the table; `size` is the bytes moved by one request, 0 when it is not about bytes."""

    key: str
    title: str
    size: int = 0


@dataclass(frozen=True)
class Server:
    """A column of the table. `problem` says why there is nothing, or not everything, in it."""

    key: str
    title: str
    version: str = ""
    opened: int = 0
    problem: str = ""


def duration(seconds: float) -> str:
    """A time for people: 431 µs, 2.31 ms, 1.05 s."""
    if seconds < 0.000_999_5:
        return f"{seconds * 1e6:.0f} µs"
    if seconds < 0.999_5:
        return f"{seconds * 1e3:.3g} ms"
    return f"{seconds:.3g} s"


def render(facts: Sequence[str], operations: Sequence[Operation], servers: Sequence[Server], samples: Samples) -> str:
    """The page: what was run, times, ratios, rows that miss the goal, and who was absent."""
    present = [s for s in servers if any(samples.of(op.key, s.key) for op in operations)]
    lines = ["# davfs beside other WebDAV servers", "", *(f"- {fact}" for fact in facts), ""]
    lines += ["## Time of one request: median (p95)", ""]
    lines += _table(
        ["operation", "samples", *(s.title for s in present)],
        [[op.title, _count(op, present, samples)] + [_cell(op, s, samples) for s in present] for op in operations],
    )
    peers = [s for s in present if s.key != OURS]
    if len(peers) < len(present) and peers:
        lines += _ratios(operations, peers, samples)
    lines += _reach(operations, samples)
    lines += ["## Servers", ""]
    for server in servers:
        lines.append(_server_line(server, server in present))
    return "\n".join(lines) + "\n"


def below_goal(operations: Sequence[Operation], samples: Samples) -> list[Operation]:
    """The operations in which davfs is not GOAL times as fast as the yardstick."""
    found = []
    for op in operations:
        ratio = samples.ratio(op.key, OURS, YARDSTICK)
        if ratio is not None and ratio < GOAL:
            found.append(op)
    return found


def _ratios(operations: Sequence[Operation], peers: Sequence[Server], samples: Samples) -> list[str]:
    missed = below_goal(operations, samples)
    lines = ["## How many times as fast davfs is (their median / its median)", ""]
    rows = []
    for op in operations:
        row = [op.title]
        for peer in peers:
            ratio = samples.ratio(op.key, OURS, peer.key)
            text = "–" if ratio is None else f"{ratio:.2f}"
            if peer.key == YARDSTICK and op in missed:
                text = f"**{text} ✗**"
            row.append(text)
        rows.append(row)
    lines += _table(["operation", *(p.title for p in peers)], rows)
    if any(p.key == YARDSTICK for p in peers):
        titles = ", ".join(op.title for op in missed)
        verdict = f"✗ below: {titles}." if missed else "every measured row reaches it."
        lines += [f"Goal: {GOAL:g} × the Apache-on-GlusterFS column on every row; {verdict}", ""]
    else:
        lines += ["Apache on GlusterFS did not run: the goal against it is not judged.", ""]
    return lines


def _reach(operations: Sequence[Operation], samples: Samples) -> list[str]:
    """How far any server could come: the floor, which does the least a row can mean."""
    rows = []
    for op in operations:
        best, ours = samples.ratio(op.key, FLOOR, YARDSTICK), samples.ratio(op.key, OURS, YARDSTICK)
        if best is None:
            continue
        verdict = "within reach" if best >= GOAL else "out of reach of any server"
        rows.append([op.title, f"{best:.2f}", "–" if ours is None else f"{ours:.2f}", verdict])
    if not rows:
        return []
    lines = ["## How many times as fast as Apache on GlusterFS any server could be here", ""]
    return lines + _table(["operation", "floor", "davfs", f"{GOAL:g} × is"], rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(head) + " |", "| --- |" + " ---: |" * (len(head) - 1)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return [*lines, ""]


def _count(op: Operation, servers: Sequence[Server], samples: Samples) -> str:
    counts = {len(samples.of(op.key, s.key)) for s in servers} - {0}
    if not counts:
        return "0"
    low, high = min(counts), max(counts)
    return str(low) if low == high else f"{low}–{high}"


def _cell(op: Operation, server: Server, samples: Samples) -> str:
    seconds = samples.of(op.key, server.key)
    if not seconds:
        return "–"
    middle = median(seconds)
    text = f"{duration(middle)} ({duration(percentile(seconds, 95))})"
    if op.size >= 1024 * 1024:
        text += f", {op.size / middle / 1e6:.0f} MB/s"
    return text


def _server_line(server: Server, present: bool) -> str:
    name = f"- {server.title}"
    if server.version:
        name += f" [{server.version}]"
    if not present:
        return f"{name}: **absent**: {server.problem or 'no result'}"
    name += f": {server.opened} connection(s) opened"
    return f"{name}; **incomplete**: {server.problem}" if server.problem else name
