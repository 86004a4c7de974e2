"""litmus, the protocol test suite of the neon project: all its suites against one URL.

Every test must pass, without a warning and without being skipped (``python -m compat.litmus URL``). Must not import: davfs.
"""

from __future__ import annotations

import argparse
import re
import sys
from dataclasses import dataclass

from compat.process import find, run, scratch
from compat.report import Report
from compat.target import Target, command

SUITES = ("basic", "copymove", "props", "locks", "http")

_RUNNING = re.compile(r"^-> running `(?P<suite>\w+)':")
_RESULT = re.compile(r"^ *\d+\. (?P<test>\w+)\.* *(?P<verdict>pass|FAIL|SKIPPED|XFAIL|WARNING|FAILED)\b(?P<rest>.*)")
_WARNING = re.compile(r"WARNING:.*")
_SUMMARY = re.compile(
    r"^<- summary for `(?P<suite>\w+)': of (?P<run>\d+) tests run: (?P<passed>\d+) passed, (?P<failed>\d+) failed"
)


@dataclass
class SuiteResult:
    """What one suite of litmus reported: counts from its summary, and every line that was not a plain pass."""

    name: str
    run: int = 0
    passed: int = 0
    summarised: bool = False
    troubles: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """The suite ran to its summary; every test passed; nothing was skipped or warned of."""
        return self.summarised and self.run > 0 and self.passed == self.run and not self.troubles


def parse_output(text: str) -> dict[str, SuiteResult]:
    """Suite name to result, from what litmus prints (it redraws its lines with carriage returns)."""
    results: dict[str, SuiteResult] = {}
    current = SuiteResult("(before the first suite)")
    for line in re.split(r"[\r\n]+", text):
        if found := _RUNNING.match(line):
            current = results.setdefault(found["suite"], SuiteResult(found["suite"]))
        elif found := _SUMMARY.match(line):
            current.run, current.passed, current.summarised = int(found["run"]), int(found["passed"]), True
        elif found := _RESULT.match(line):
            if found["verdict"] != "pass" or found["rest"].strip():
                current.troubles += (line.strip(),)
        elif _WARNING.search(line) or "warning" in line.lower():
            current.troubles += (line.strip(),)
    return results


def check(target: Target, arguments: argparse.Namespace) -> Report:
    """Run all suites in a folder of their own; one row per suite."""
    program = find("litmus", package="litmus")
    report = Report(f"litmus against {target.url}")
    with scratch("litmus") as home, target.folder("litmus") as folder:
        login = [folder.user, folder.password] if folder.user else []
        outcome = run([program, "-k", folder.url, *login], home=home, timeout=arguments.timeout)
    if arguments.verbose:
        print(outcome.out)
    results = parse_output(outcome.out)
    for suite in SUITES:
        result = results.get(suite, SuiteResult(suite))
        words = result.troubles or ((outcome.err or outcome.out)[-500:],)
        report.add(
            f"{suite} ({result.passed} of {result.run})", result.ok, detail="" if result.ok else "\n".join(words)
        )
    return report


def extend(parser: argparse.ArgumentParser) -> None:
    """The arguments of this runner alone."""
    parser.add_argument("--timeout", type=float, default=180.0, help="seconds for all suites together")
    parser.add_argument("--verbose", action="store_true", help="print litmus's own output too")


def main(argv: list[str] | None = None) -> int:
    """The command; exit code 0, 1 (a failure, warning or skip) or 3 (litmus is missing)."""
    return command(__doc__ or "", check, argv, extend)


if __name__ == "__main__":
    sys.exit(main())
