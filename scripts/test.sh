#!/bin/sh
# Every check, the cheapest first. Arguments go to pytest; without any, all kinds of tests run.
set -eu
cd "$(dirname "$0")/.."
bin=.venv/bin
$bin/ruff check .
$bin/mypy
$bin/lint-imports
[ $# -gt 0 ] || for kind in house unit golden property fuzz conformance simulation growth integration compat; do
    [ -d "tests/$kind" ] && set -- "$@" "tests/$kind"
done
exec $bin/python -m pytest -q --durations=15 "$@"
