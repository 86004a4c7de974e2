"""A listener of davfs.dav over a drive in memory, one for each module; each test finds the volume ``demo`` empty.

DAVFS_DAV_PORT: a node of a real drive instead (volumes ``demo`` and ``Other``; tests/integration/test_dav_cases.py).
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from davfs.dav.application import DavApplication
from davfs.dav.request import DavSettings
from davfs.dav.server import DavServer
from tests.support.dav_client import DavClient, RawConnection
from tests.support.memory_drive import MemoryDrive


@pytest.fixture(scope="module")
def drive() -> MemoryDrive:
    return MemoryDrive("demo", "Other")


@pytest.fixture(scope="module")
def port(drive: MemoryDrive) -> Iterator[int]:
    if given := os.environ.get("DAVFS_DAV_PORT"):
        yield int(given)
        return
    server = DavServer("127.0.0.1", 0, DavApplication(drive, DavSettings()), threads=24)
    server.start()
    yield server.port
    server.stop(1)


@pytest.fixture
def dav(port: int) -> Iterator[DavClient]:
    """A client of the volume ``demo``, emptied before."""
    client = DavClient(port)
    for href in client("PROPFIND", "/", Depth="1").hrefs:
        if href != "/demo/":
            locks = client.raw("PROPFIND", href, None, {"Depth": "0"}).xml.iter("{DAV:}locktoken")
            tokens = "".join(f"(<{token.findtext('{DAV:}href')}>)" for token in locks)
            assert client.raw("DELETE", href, None, {"If": f"<{href}> {tokens}"} if tokens else {}).status == 204
    yield client
    client.close()


@pytest.fixture
def raw(port: int) -> Iterator[RawConnection]:
    connection = RawConnection(port)
    yield connection
    connection.close()
