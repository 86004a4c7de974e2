"""The report page: figures, the picture, and every finding, from what a run recorded."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from tests.faults import report
from tests.faults.drive import Recovery, Span, Story
from tests.faults.picture import Bar, columns, draw, percentile
from tests.faults.record import OK, REFUSED, UNKNOWN, Asked, Record


def test_percentiles_are_values_that_were_seen() -> None:
    values = [float(n) for n in range(1, 101)]
    assert [percentile(values, share) for share in (0.0, 0.5, 0.99, 1.0)] == [1.0, 50.0, 99.0, 100.0]
    assert percentile([3.0], 0.99) == 3.0


def test_requests_are_counted_where_they_were_answered() -> None:
    requests = [Asked(0.1, 0.3, 1, "PUT", OK), Asked(0.1, 2.6, 1, "PUT", OK), Asked(2.0, 2.5, 2, "GET", UNKNOWN),
                Asked(2.0, 2.1, 2, "GET", REFUSED)]  # fmt: skip
    made = columns(requests, 4.0)
    assert [(one.ok, one.refused, one.unknown) for one in made] == [(1, 0, 0), (0, 0, 0), (1, 1, 1), (0, 0, 0), (0, 0, 0)]
    assert made[2].p99 == pytest.approx(2.5) and made[1].p50 is None
    assert len(columns(requests, 3600.0)) <= 301


def test_the_picture_is_svg_with_every_fault() -> None:
    bars = [Bar("kill", "kill -9 node-1 & <more>", 1.0, 3.0), Bar("repair", "done", 3.0, 4.0)]
    drawn = draw(columns([Asked(0.0, 1.5, 1, "PUT", OK)], 10.0), bars, 10.0)
    titles = [element.text for element in ElementTree.fromstring(drawn).iter("{http://www.w3.org/2000/svg}title")]
    assert titles == ["1-3 s kill: kill -9 node-1 & <more>", "3-4 s repair: done"]


@pytest.mark.parametrize("failing", [False, True])
def test_a_page_says_what_was_done_and_whether_it_held(failing: bool, tmp_path: Path) -> None:
    record = Record()
    record.asked(record.zero, 1, "PUT", 201, OK)
    story = Story(17, 60.0, "made up", ["delay"], record, [Span("kill", "kill -9 node-1", 1.0, 2.0)])
    story.recoveries.append(Recovery(1, 2.0, 0.5, 0.7, 10.0))
    story.worked = 61.0
    if failing:
        record.wrong("node-1 <died>")
        story.verdicts.append("invariant 5: they differ")
    text = report.write(story, tmp_path).read_text()
    figures = json.loads((tmp_path / "report.json").read_text())
    assert figures["seed"] == 17 and figures["ok"] == 1 and figures["faults"] == {"kill": 1}
    assert "<svg" in text and "kill -9 node-1" in text and "pysyncobj" in text
    assert ("everything held" in text) is not failing
    assert figures["verdict"] == ("failed" if failing else "held")
    if failing:
        assert "node-1 &lt;died&gt;" in text and "invariant 5: they differ" in text
        assert "2 findings" in report.summary(story)
