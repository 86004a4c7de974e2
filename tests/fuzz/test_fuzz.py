"""A few inputs for every parser in each run; the runs that find things are ``python -m tests.fuzz``."""

from __future__ import annotations

import pytest

from tests.fuzz.__main__ import parsers
from tests.fuzz.mutate import Mutator
from tests.fuzz.runner import Failed, Parser, run, table

PARSERS = {parser.name: parser for parser in parsers()}
INPUTS = 150


@pytest.mark.parametrize("name", PARSERS)
def test_inputs_that_nobody_should_send(name):
    parser = PARSERS[name]
    report = run(parser, 1, int(INPUTS * parser.share) + 1)
    assert not report.findings, table([report])


def _broken(data: bytes) -> None:
    if data.endswith(b"12"):
        raise KeyError("what nobody thought of")
    if data.endswith(b"1"):
        while True:
            pass


def test_what_a_parser_must_not_do_is_found(monkeypatch):
    monkeypatch.setattr("tests.fuzz.runner.ABANDON_S", 0.05)
    report = run(Parser("broken", lambda stack: _broken, (b"12",)), 1, 300)
    assert {what.partition(":")[0] for what, _ in report.findings} == {"KeyError", "no end within _ s"}
    assert "what nobody thought of" in table([report])
    report = run(Parser("refusing", lambda stack: _broken, (b"12",), (KeyError, Failed)), 1, 5)
    assert report.inputs == 5


def test_a_seed_gives_the_same_inputs():
    first, second = (Mutator(7, (b"abc", b"def")) for _ in range(2))
    assert [first.next() for _ in range(200)] == [second.next() for _ in range(200)]
