#!/bin/sh
# Every check, the cheapest first. Arguments go to pytest; without any, all kinds of tests run: those that need only a
# processor on two of them at once, then those that start drives and look at the clock, one by one.
set -eu
cd "$(dirname "$0")/.."
bin=.venv/bin
$bin/ruff check .
$bin/mypy
$bin/lint-imports
pytest() { $bin/python -m pytest -q --durations=15 "$@"; }
[ $# -eq 0 ] || { pytest "$@"; exit; }
together="house unit golden property conformance simulation growth"
alone="fuzz crash integration compat"
result=0
pytest -n 2 $(printf ' tests/%s' $together) || result=1
pytest $(printf ' tests/%s' $alone) || result=1
exit $result
