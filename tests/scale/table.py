"""The table of what was measured, beside the goals. Times are milliseconds unless the row says otherwise."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Row:
    """One measurement: what, the figure with its unit, the goal and whether it was met (None: no goal)."""

    name: str
    value: str
    goal: str = ""
    met: bool | None = None


@dataclass(slots=True)
class Table:
    """Rows in order; each is said as it comes."""

    rows: list[Row] = field(default_factory=list)

    def add(self, name: str, value: str, goal: str = "", met: bool | None = None) -> None:
        self.rows.append(Row(name, value, goal, met))
        print(f"  {name}: {value}" + (f" (goal {goal}{'' if met else ': MISSED'})" if goal else ""), flush=True)

    def markdown(self) -> str:
        lines = ["| what | measured | goal |", "| --- | ---: | --- |"]
        for row in self.rows:
            mark = "" if row.met is None else " ✓" if row.met else " ✗"
            lines.append(f"| {row.name} | {row.value} | {row.goal}{mark} |")
        return "\n".join(lines) + "\n"


def middle(sorted_ms: list[float]) -> float:
    """The median."""
    return sorted_ms[len(sorted_ms) // 2]
