"""The report page of a run: verdict, picture, what was done and seen, and on what."""

from __future__ import annotations

import json
import os
import platform
import sqlite3
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from html import escape
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import davfs
from davfs.sim.history import Operation
from tests.faults.drive import Story
from tests.faults.picture import Bar, columns, draw, percentile
from tests.faults.record import OK

LIBRARIES = ("pysyncobj", "wsgidav", "cheroot", "automerge")
SHOWN = 200
_STYLE = (
    "body{font-family:sans-serif;max-width:1200px;margin:2em auto;color:#222}table{border-collapse:collapse}"
    "td,th{border:1px solid #ccc;padding:3px 9px;text-align:left;font-size:13px;vertical-align:top}"
    ".good{color:#2e6b3e}.bad{color:#a02020}h1{font-size:22px}h2{font-size:16px;margin-top:1.6em}"
)


def figures(story: Story) -> dict[str, Any]:
    """What a run was and gave, as plain values; the page shows them, ``report.json`` has them."""
    record = story.record
    took = sorted(one.ended - one.began for one in record.requests if one.fate == OK)
    recoveries = sorted(one.all for one in story.recoveries)
    loads = [load for _, load in story.loads]
    return {
        "verdict": "failed" if story.failures else "held",
        "failures": story.failures,
        "seed": story.seed,
        "seconds": round(story.worked, 1),
        "rounds": story.rounds,
        "faults": dict(sorted(Counter(span.kind for span in story.spans if span.kind != "repair").items())),
        "repairs": sum(span.kind == "repair" for span in story.spans),
        **record.counts(),
        "locks": len(record.locks),
        "histories judged": story.judged,
        "reads after the end": story.read,
        "p50 s": round(percentile(took, 0.5), 4) if took else None,
        "p99 s": round(percentile(took, 0.99), 3) if took else None,
        "served again through all nodes, median s": round(percentile(recoveries, 0.5), 1) if recoveries else None,
        "served again through all nodes, longest s": round(recoveries[-1], 1) if recoveries else None,
        "machine": {
            "processors": os.cpu_count(),
            "load, mean": round(sum(loads) / len(loads), 1) if loads else None,
            "load, highest": max(loads, default=None),
            "longest wait of a sleeping process, s": round(max((late for _, late in story.stalls), default=0.0), 2),
        },
        "nodes": story.what,
        "left out": story.left_out,
        "versions": _versions(),
    }


def write(story: Story, folder: Path) -> Path:
    """Write ``report.html`` and ``report.json``; the page's path."""
    found = figures(story)
    spans = [asdict(span) for span in story.spans]
    recoveries = [asdict(one) for one in story.recoveries]
    (folder / "report.json").write_text(json.dumps({**found, "spans": spans, "recoveries": recoveries}, indent=1))
    for (volume, top), operations in story.unexplained.items():
        lines = [_line(one, story.record.zero) for one in operations]
        (folder / f"history-{volume}-{top}.txt").write_text("\n".join(lines))
    page = folder / "report.html"
    page.write_text("\n".join(_page(story, found)))
    return page


def _line(one: Operation, zero: float) -> str:
    """An operation with times of the run instead of the machine's."""
    ended = "?" if one.ended is None else f"{one.ended - zero:.4f}"
    return f"{one.invoked - zero:.4f} .. {ended}  {one.client}  {one.op} -> {one.outcome}"


def summary(story: Story) -> str:
    """For a terminal."""
    found = figures(story)
    lines = [f"{name}: {found[name]}" for name in found if name not in ("failures", "versions", "verdict", "left out")]
    lines += [f"FAILED: {what}" for what in story.failures[:30]]
    verdict = "everything held" if not story.failures else f"{len(story.failures)} findings"
    return "\n".join([*lines, f"seed {story.seed}: {verdict}"])


def _page(story: Story, found: Mapping[str, Any]) -> Iterator[str]:
    good = not story.failures
    yield f'<!doctype html><html lang="en"><meta charset="utf-8"><title>davfs under faults</title><style>{_STYLE}</style>'
    verdict = '<span class="good">everything held</span>' if good else '<span class="bad">FAILED</span>'
    yield f"<h1>davfs under faults: {verdict}</h1>"
    yield f"<p>Seed {story.seed}, {story.worked:.0f} s, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC. {escape(story.what)}.</p>"
    if story.failures:
        yield "<h2>What did not hold</h2><ul>"
        yield from (f"<li>{escape(what)}</li>" for what in story.failures[:SHOWN])
        yield "</ul>"
    seconds = max(story.worked, 1.0)
    bars = [Bar(span.kind, span.detail, span.began, span.ended) for span in story.spans]
    yield draw(columns(story.record.requests, seconds), bars, seconds)
    yield "<h2>In figures</h2><table>"
    yield from _rows(found)
    yield "</table><h2>Rounds</h2><p>From the end of a round's faults: seconds until a write was acknowledged by some node,"
    yield " and by every node for every volume.</p><table><tr><th>round<th>at<th>some<th>all<th>allowed"
    for one in story.recoveries:
        yield f"<tr><td>{one.round}<td>{one.at:.0f} s<td>{one.first:.1f}<td>{one.all:.1f}<td>{one.limit:.1f}"
    yield "</table><h2>Faults and repairs</h2><table>"
    for span in story.spans:
        yield f"<tr><td>{span.began:.0f}–{span.ended:.0f} s<td>{escape(span.kind)}<td>{escape(span.detail)}"
    yield "</table><h2>Answers</h2><table>"
    for (method, status), count in sorted(story.record.answers.items()):
        yield f"<tr><td>{escape(method)}<td>{status or 'no answer'}<td>{count}"
    yield "</table></html>"


def _rows(found: Mapping[str, Any], before: str = "") -> Iterator[str]:
    for name, value in found.items():
        if isinstance(value, Mapping):
            yield from _rows(value, f"{name}: ")
        elif name != "failures" and value not in ([], None):
            text = "; ".join(map(str, value)) if isinstance(value, list) else str(value)
            yield f"<tr><td>{escape(before + name)}<td>{escape(text)}"


def _versions() -> dict[str, str]:
    found = {"davfs": davfs.__version__, "Python": sys.version.split()[0], "SQLite": sqlite3.sqlite_version}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return {**found, "kernel": platform.release()}
