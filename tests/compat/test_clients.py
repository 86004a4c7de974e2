"""The real clients against a three-node drive, each by the runner that people can use too (compat/)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from compat import davfs2, rclone, rclone_mount
from compat.report import EXIT_OK, EXIT_TOOL_MISSING
from compat.table import RUNNERS
from tests.support.cluster import DevCluster
from tests.support.tools import full_size, refuse

NODES = (1, 2, 3)
FILES = {"debian": 5000, "pypi": 5000} if full_size() else {"debian": 120, "pypi": 300}
"""Debian's rclone starts one request in 10 ms, whatever the server: more files only take it longer."""
IN_PARTS = ("rclone, vendor nextcloud", "tus")
OF_THEIR_OWN = ("rclone", "davfs2", "rclone mount")  # a test of its own below


def _run(
    drive: DevCluster, capsys: pytest.CaptureFixture[str], main: Callable[[list[str]], int], words: list[str]
) -> str:
    """Run a runner; skip (or fail, in CI) without its tool; returns what it printed."""
    code = main(words)
    printed = capsys.readouterr()
    if code == EXIT_TOOL_MISSING:
        refuse(printed.err.strip())
    with capsys.disabled():
        print(f"\n{printed.out}")
    assert code == EXIT_OK, drive.story(printed.out)
    return printed.out


@pytest.mark.parametrize("client", sorted(set(RUNNERS) - set(IN_PARTS) - set(OF_THEIR_OWN)))
def test_through_the_holder_and_another_node(
    drive: DevCluster, capsys: pytest.CaptureFixture[str], client: str
) -> None:
    holder = drive.holder()
    for number in (holder, holder % 3 + 1):
        _run(drive, capsys, RUNNERS[client].main, [drive.url(number)])


@pytest.mark.timeout(2400 if full_size() else 300)
@pytest.mark.parametrize("kind", rclone.BINARIES)
def test_rclone(drive: DevCluster, capsys: pytest.CaptureFixture[str], kind: str) -> None:
    first, *others = NODES if kind == "debian" else reversed(NODES)
    words = [drive.url(first), "--files", str(FILES[kind]), "--binary", kind]
    _run(drive, capsys, rclone.main, words + [word for number in others for word in ("--through", drive.url(number))])


@pytest.mark.parametrize("client", IN_PARTS)
def test_uploads_in_parts(drive: DevCluster, capsys: pytest.CaptureFixture[str], client: str) -> None:
    holder = drive.holder()
    first, *others = sorted(NODES, key=lambda number: number == holder)
    through = [word for number in others for word in ("--through", drive.url(number))]
    _run(drive, capsys, RUNNERS[client].main, [drive.url(first), *through])


@pytest.mark.root
@pytest.mark.parametrize("number", [1, 2])
def test_davfs2(drive: DevCluster, capsys: pytest.CaptureFixture[str], number: int) -> None:
    _run(drive, capsys, davfs2.main, [drive.url(number)])


def test_rclone_mount(drive: DevCluster, capsys: pytest.CaptureFixture[str]) -> None:
    _run(drive, capsys, rclone_mount.main, [drive.url(3)])
