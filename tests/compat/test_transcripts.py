"""What clients that cannot run here are known to send, through the node that holds the volume and through another one."""

from __future__ import annotations

import pytest

from compat.target import Target
from compat.transcripts.play import DEFAULT_SIZE, play
from compat.transcripts.script import read, transcripts
from tests.support.cluster import DevCluster
from tests.support.tools import full_size

SIZE = DEFAULT_SIZE if full_size() else 3_000_000


@pytest.fixture(scope="module")
def urls(drive: DevCluster) -> tuple[str, str]:
    """The volume through its holder, and through another node."""
    holder = drive.holder()
    return drive.url(holder), drive.url(next(number for number in (1, 2, 3) if number != holder))


@pytest.mark.parametrize("name", transcripts())
def test_transcript(drive: DevCluster, urls: tuple[str, str], name: str) -> None:
    for url, other in (urls, reversed(urls)):
        report = play(read(transcripts()[name]), Target(url), [other], SIZE)
        assert report.steps and not report.failed, drive.story(report.text())
