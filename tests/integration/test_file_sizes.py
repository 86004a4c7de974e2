"""Files of every size, read back whole and in part through another node; memory that does not grow with them."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from compat import memory
from tests.support.cluster import DevCluster
from tests.support.tools import full_size

CHUNK = 4 << 20
SMALL_CHUNK = 65536
QUICK_SIZE = 200 << 20
FULL_SIZE = 2 << 30


def _data(size: int) -> bytes:
    return random.Random(size).randbytes(size)


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
@pytest.mark.parametrize("size", [0, 1, 4095, 65537, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK, 5 * CHUNK + 12345])
def test_a_file_of_any_size_reads_back(drive: DevCluster, size: int, chunked: bool) -> None:
    data = _data(size)
    name = f"size {size} {chunked}.bin"
    body = (data[start : start + 50_000] for start in range(0, size, 50_000)) if chunked else data
    with drive.client(1) as here, drive.client(2) as there:
        assert here.request("PUT", name, body).status == 201
        answer = there.get(name)
        assert answer.status == 200
        assert int(answer.headers["content-length"]) == size
        assert answer.body == data
        assert there.request("DELETE", name).status == 204


def test_every_overwrite_replaces_the_whole(drive: DevCluster) -> None:
    with drive.client(1) as here, drive.client(3) as there:
        for size in (CHUNK + 1, 10, 0, CHUNK, 1, 2 * CHUNK + 7):
            data = _data(size)
            assert here.put("overwritten.bin", data).ok
            assert there.get("overwritten.bin").body == data


def test_ranges_around_a_chunk_border(drive: DevCluster) -> None:
    data = _data(2 * CHUNK + 100)
    with drive.client(2) as client:
        assert client.put("ranges.bin", data).ok
        for first, last in (
            (0, 0),
            (CHUNK - 1, CHUNK),
            (CHUNK, CHUNK),
            (CHUNK - 5, 2 * CHUNK + 5),
            (2 * CHUNK, len(data) - 1),
        ):
            answer = client.get("ranges.bin", {"Range": f"bytes={first}-{last}"})
            assert answer.status == 206
            assert answer.headers["content-range"] == f"bytes {first}-{last}/{len(data)}"
            assert answer.body == data[first : last + 1]
        assert client.get("ranges.bin", {"Range": "bytes=-10"}).body == data[-10:]
        assert client.get("ranges.bin", {"Range": f"bytes={len(data)}-"}).status == 416


def test_a_volume_may_have_smaller_chunks(make_drive: Callable[..., DevCluster]) -> None:
    cluster = make_drive(options=("--chunk-size", str(SMALL_CHUNK)))
    cluster.start()
    with cluster.client(1) as here, cluster.client(2) as there:
        for size in (SMALL_CHUNK - 1, SMALL_CHUNK, SMALL_CHUNK + 1, 40 * SMALL_CHUNK + 3):
            data = _data(size)
            assert here.put(f"{size}.bin", data).status == 201
            assert there.get(f"{size}.bin").body == data
    cluster.stop()


@pytest.mark.timeout(900 if full_size() else 300)
def test_memory_stays_bounded_while_a_large_file_passes(fresh: DevCluster, capsys: pytest.CaptureFixture[str]) -> None:
    """Put through one node that does not hold the volume, read through each: no node keeps the file."""
    other = fresh.holder() % 3 + 1
    size = FULL_SIZE if full_size() else QUICK_SIZE
    words = [fresh.url(other), "--size", str(size)]
    words += [word for number in (1, 2, 3) if number != other for word in ("--through", fresh.url(number))]
    words += [word for number in (1, 2, 3) for word in ("--pid-file", str(fresh.directory / f"node-{number}" / "pid"))]
    code = memory.main(words)
    assert code == 0, fresh.story(capsys.readouterr().out)
