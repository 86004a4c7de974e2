"""What WsgiDAV 4.4 and cheroot get wrong, row by row (`rows/`): davfs does it right, and plain WsgiDAV on plain cheroot fails.

Sizes are small forms of those that were found (600 MB).
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.compat.rows import bodies, chunk, conditions, locks, methods
from tests.compat.rows.peer import ROWS, Peer, Row, of
from tests.support.rows_peer import running

SUBJECTS = (bodies, methods, conditions, locks, chunk)
PLAYED = [check for subject in SUBJECTS for check in ROWS if check.__module__ == subject.__name__]



@pytest.fixture(scope="module")
def davfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peer]:
    with running("davfs", tmp_path_factory.mktemp("davfs")) as (pid, ports):
        yield Peer("davfs", pid, *ports)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peer]:
    with running("plain", tmp_path_factory.mktemp("plain")) as (pid, ports):
        yield Peer("plain", pid, *ports)


@pytest.mark.parametrize("check", PLAYED, ids=lambda check: check.__name__)
def test_davfs_does_it_right(davfs: Peer, check: Row) -> None:
    client = of(davfs, check)
    try:
        check(davfs, client)
    finally:
        client.close()


@pytest.mark.parametrize("check", PLAYED, ids=lambda check: check.__name__)
def test_plain_wsgidav_does_not(plain: Peer, check: Row) -> None:
    client = of(plain, check)
    try:
        with pytest.raises(AssertionError):
            check(plain, client)
    finally:
        client.close()
