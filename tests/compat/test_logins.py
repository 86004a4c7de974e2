"""Clients with a login, each by its own way of asking for one, and transcripts with it, against davfs's WebDAV side alone.

What becomes of accounts and roles on a cluster is tested in tests/integration/test_accounts.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType

import pytest

from compat import cadaver, curl, davfs2, gio, node_webdav, tus, webdav4_client
from compat.report import EXIT_FAILED, EXIT_OK, EXIT_TOOL_MISSING
from compat.target import Target
from compat.transcripts.play import play
from compat.transcripts.script import read, transcripts
from tests.support.rows_peer import running
from tests.support.tools import full_size, refuse

CLIENTS = [cadaver, gio, webdav4_client, *([curl, node_webdav, tus] if full_size() else [])]
SIZE = 3_000_000


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A drive in memory that asks for a login; ``ann`` has her name as her password."""
    with running("davfs", tmp_path_factory.mktemp("davfs")) as (_, ports):
        yield f"http://127.0.0.1:{ports[1]}/demo/"


@pytest.mark.parametrize("client", CLIENTS, ids=lambda module: module.__name__)
def test_clients(url: str, capsys: pytest.CaptureFixture[str], client: ModuleType) -> None:
    code = client.main([url, "--user", "ann", "--password", "ann"])
    printed = capsys.readouterr()
    if code == EXIT_TOOL_MISSING:
        refuse(printed.err.strip())
    assert code == EXIT_OK, printed.out


@pytest.mark.root
def test_davfs2(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    code = davfs2.main([url, "--user", "ann", "--password", "ann", "--files", "3"])
    printed = capsys.readouterr()
    if code == EXIT_TOOL_MISSING:
        refuse(printed.err.strip())
    assert code == EXIT_OK, printed.out


def test_a_wrong_password_does_nothing(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cadaver.main([url, "--user", "ann", "--password", "bob"]) == EXIT_FAILED
    assert "401" in capsys.readouterr().out


@pytest.mark.parametrize("name", transcripts())
def test_transcripts(url: str, name: str) -> None:
    report = play(read(transcripts()[name]), Target(url, "ann", "ann"), [], SIZE)
    assert report.steps and not report.failed, report.text()
