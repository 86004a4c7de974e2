"""The picture of a run, as SVG: operations a second and failures, faults as bars, latencies over time. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from tests.faults.record import OK, UNKNOWN, Asked

WIDTH, LEFT, RIGHT = 1180, 110, 20
LANE, PANEL = 17, 130
MARKS = ((0.001, "1 ms"), (0.01, "10 ms"), (0.1, "0.1 s"), (1.0, "1 s"), (10.0, "10 s"))
BUCKETS = 300
"""At most so many columns, so that a run of half an hour is as readable as one of a minute."""
COLOURS = {
    "partition": "#8e5ea2", "one-way": "#a987c0", "delay": "#c9b3d8", "loss": "#d8c9e2", "isolate-holder": "#6a3d9a",
    "isolate-leader": "#5e4fa2", "kill": "#d7301f", "stop": "#ef6548", "wipe": "#7f0000", "flip-chunks": "#b8860b",
    "flip-database": "#8b6508", "flip-journal": "#6b4e0a", "full-disk": "#2f6f8f", "disk-error": "#1b4965", "repair": "#7fbf7b",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Bar:
    """A fault or repair: what, its words, from when to when."""

    kind: str
    detail: str
    began: float
    ended: float


@dataclass(frozen=True, slots=True)
class Column:
    """A piece of time: answered, refused and unknown per second, and seconds that the answered took."""

    at: float
    ok: float
    refused: float
    unknown: float
    p50: float | None
    p99: float | None


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest of the sorted values that at least ``share`` of them do not exceed."""
    return values[min(max(-int(-share * len(values) // 1) - 1, 0), len(values) - 1)]


def columns(requests: Iterable[Asked], seconds: float) -> list[Column]:
    """The requests by the time of their answers; columns of a second, or longer ones for a long run."""
    width = max(1.0, seconds / BUCKETS)
    count = int(seconds / width) + 1
    cells: list[dict[str, list[float]]] = [{} for _ in range(count)]
    for asked in requests:
        if 0 <= asked.ended <= seconds:
            cells[int(asked.ended / width)].setdefault(asked.fate, []).append(asked.ended - asked.began)
    made = []
    for number, cell in enumerate(cells):
        took = sorted(cell.get(OK, ()))
        rates = {fate: len(found) / width for fate, found in cell.items()}
        unknown = rates.get(UNKNOWN, 0.0)
        refused = sum(rates.values()) - rates.get(OK, 0.0) - unknown
        p50, p99 = (percentile(took, 0.5), percentile(took, 0.99)) if took else (None, None)
        made.append(Column(number * width, rates.get(OK, 0.0), refused, unknown, p50, p99))
    return made


def draw(made: Sequence[Column], bars: Sequence[Bar], seconds: float) -> str:
    """The whole picture."""
    kinds = list(dict.fromkeys(bar.kind for bar in sorted(bars, key=lambda bar: (bar.kind == "repair", bar.kind))))
    top_bars = 30
    top_rate = top_bars + LANE * len(kinds) + 40
    top_times = top_rate + PANEL + 45
    height = top_times + PANEL + 40
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="11">',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        *_lanes(kinds, bars, seconds, top_bars, height),
        *_rates(made, seconds, top_rate),
        *_times(made, seconds, top_times),
        *_clock(seconds, height - 18),
        "</svg>",
    ]
    return "\n".join(parts)


def _x(at: float, seconds: float) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * at / seconds


def _lanes(kinds: Sequence[str], bars: Sequence[Bar], seconds: float, top: int, height: int) -> Iterator[str]:
    yield f'<text x="{LEFT}" y="{top - 12}" font-weight="bold">faults and repairs</text>'
    for row, kind in enumerate(kinds):
        y = top + row * LANE
        yield f'<text x="{LEFT - 6}" y="{y + 12}" text-anchor="end">{escape(kind)}</text>'
        for bar in bars:
            if bar.kind == kind:
                x, width = _x(bar.began, seconds), max(_x(bar.ended, seconds) - _x(bar.began, seconds), 1.5)
                colour = COLOURS.get(kind, "#888888")
                if kind != "repair":  # a shade over all panels
                    place = f'x="{x:.1f}" y="{top}" width="{width:.1f}" height="{height - top - 40}"'
                    yield f'<rect {place} fill="{colour}" opacity="0.07"/>'
                title = f"<title>{escape(f'{bar.began:.0f}-{bar.ended:.0f} s {kind}: {bar.detail}')}</title>"
                yield f'<rect x="{x:.1f}" y="{y + 2}" width="{width:.1f}" height="{LANE - 4}" fill="{colour}">{title}</rect>'


def _rates(made: Sequence[Column], seconds: float, top: int) -> Iterator[str]:
    highest = max((one.ok + one.refused + one.unknown for one in made), default=1.0) or 1.0
    yield f'<text x="{LEFT}" y="{top - 6}" font-weight="bold">requests a second'
    yield '<tspan fill="#4a7c59"> answered</tspan><tspan fill="#e0a030"> refused</tspan>'
    yield '<tspan fill="#c0392b"> unknown</tspan></text>'
    yield from _scale(top, [(0.0, "0"), (1.0, f"{highest:.0f}")])
    width = (WIDTH - LEFT - RIGHT) / max(len(made), 1)
    for one in made:
        y = float(top + PANEL)
        for rate, colour in ((one.ok, "#4a7c59"), (one.refused, "#e0a030"), (one.unknown, "#c0392b")):
            tall = PANEL * rate / highest
            y -= tall
            if tall > 0:
                x = _x(one.at, seconds)
                yield f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.2f}" height="{tall:.1f}" fill="{colour}"/>'


def _times(made: Sequence[Column], seconds: float, top: int) -> Iterator[str]:
    """On a logarithmic scale from 1 ms to 30 s."""
    yield f'<text x="{LEFT}" y="{top - 6}" font-weight="bold">seconds until answered'
    yield '<tspan fill="#2c5f8a"> p50</tspan><tspan fill="#b0413e"> p99</tspan></text>'
    yield from _scale(top, [(_high(value), text) for value, text in MARKS])
    for name, colour in (("p99", "#b0413e"), ("p50", "#2c5f8a")):
        line: list[str] = []
        for one in [*made, None]:
            value = None if one is None else getattr(one, name)
            if one is not None and value is not None:
                line.append(f"{_x(one.at, seconds):.1f},{top + PANEL * (1 - _high(value)):.1f}")
            elif line:
                yield f'<polyline points="{" ".join(line)}" fill="none" stroke="{colour}" stroke-width="1.3"/>'
                line = []


def _high(value: float) -> float:
    """0 for 1 ms, 1 for 30 s."""
    return min(max(math.log(max(value, 1e-6) / 0.001) / math.log(30 / 0.001), 0.0), 1.0)


def _scale(top: int, marks: Sequence[tuple[float, str]]) -> Iterator[str]:
    for share, text in marks:
        y = top + PANEL * (1 - share)
        yield f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#dddddd"/>'
        yield f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end" fill="#666666">{text}</text>'


def _clock(seconds: float, y: int) -> Iterator[str]:
    step = next((one for one in (5, 10, 30, 60, 300, 600) if seconds / one <= 16), 1800)
    for at in range(0, int(seconds) + 1, step):
        text = f"{at} s" if step < 60 else f"{at // 60} min"
        yield f'<text x="{_x(at, seconds):.1f}" y="{y}" text-anchor="middle" fill="#666666">{text}</text>'
