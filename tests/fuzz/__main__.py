"""``python -m tests.fuzz [--inputs N] [--seconds S] [--only PARSER] [--seed N]``: a table; exit code 1 for a finding."""

from __future__ import annotations

import argparse
import sys

from tests.fuzz import bodies, headers, nodes, requests, stored
from tests.fuzz.runner import Parser, Report, run, table


def parsers() -> list[Parser]:
    """Every parser that is tried."""
    return [*headers.PARSERS, *bodies.PARSERS, *stored.parsers(), *nodes.PARSERS, *requests.PARSERS]


def main() -> int:
    """Run what the command line names."""
    known = parsers()
    arguments = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    arguments.add_argument("--inputs", type=int, default=1_000_000, help="over all parsers (default: a million)")
    arguments.add_argument("--seconds", type=float, default=float("inf"), help="at most so long for each parser")
    arguments.add_argument("--only", action="append", metavar="PARSER", help=", ".join(one.name for one in known))
    arguments.add_argument("--seed", type=int, default=1)
    asked = arguments.parse_args()
    chosen = [one for one in known if not asked.only or one.name in asked.only]
    share = sum(one.share for one in chosen)
    reports: list[Report] = []
    for one in chosen:
        count = int(asked.inputs * one.share / share) + 1
        report = run(one, asked.seed, count, asked.seconds)
        reports.append(report)
        print(f"{report.name}: {report.inputs} inputs, {len(report.findings)} findings", file=sys.stderr, flush=True)
    print(table(reports))
    return 1 if any(report.findings for report in reports) else 0


if __name__ == "__main__":
    raise SystemExit(main())
