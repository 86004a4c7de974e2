"""kill -9 of one node, the holder too: served again within 10 s, nothing acknowledged lost, caught up when it returns."""

from __future__ import annotations

import random
from functools import partial

import pytest

from tests.support.cluster import DevCluster
from tests.support.writes import Writer, digest, judge

AGAIN_WITHIN = 10.0
CATCH_UP_LIMIT = 30.0
OTHERS = ("large.bin", "after the return.txt")


def _others(number: int) -> list[int]:
    return [other for other in (1, 2, 3) if other != number]


@pytest.mark.parametrize("victim_is_holder", [True, False], ids=["holder", "other node"])
def test_reads_and_writes_go_on_within_ten_seconds(fresh: DevCluster, victim_is_holder: bool) -> None:
    victim = fresh.holder()
    if not victim_is_holder:
        victim = victim % 3 + 1
    left = _others(victim)
    large = random.Random(1).randbytes(9_000_000)
    with fresh.client(victim) as client:
        assert client.put("large.bin", large).ok
    writers = [
        Writer([fresh.url(left[0]), fresh.url(left[1])], 1),
        Writer([fresh.url(victim), *map(fresh.url, left)], 2),
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.await_ack(10)
    fresh.kill(victim)
    writing = max(writer.await_ack(AGAIN_WITHIN) for writer in writers)
    reading = fresh.until(
        "a read through each node left", lambda: all(_reads(fresh, number, large) for number in left), 10
    )
    print(f"victim node-{victim}: writing again after {writing:.2f} s, reading after {reading:.2f} s more")
    assert writing + reading <= AGAIN_WITHIN
    for writer in writers:
        writer.finish()
    for number in left:
        with fresh.client(number) as client:
            assert judge(client, writers, OTHERS) > 0
    status = fresh.status(left[0])
    assert {node["name"]: node["up"] for node in status["nodes"]}[f"node-{victim}"] is False
    assert fresh.volume(number=left[0])["holder"] != f"node-{victim}"

    _bring_back_and_lean_on(fresh, victim, left, large, writers)
    assert fresh.stop() == 0


def _bring_back_and_lean_on(
    fresh: DevCluster, victim: int, left: list[int], large: bytes, writers: list[Writer]
) -> None:
    """The node returns; then another dies, so that a majority can only be had with what the returned one caught up on."""
    fresh.serve(victim)
    fresh.until("the returned node to be up", lambda: _up(fresh, left[0], victim), CATCH_UP_LIMIT)
    fresh.until("a read through the returned node", lambda: _reads(fresh, victim, large), CATCH_UP_LIMIT)
    with fresh.client(left[0]) as client:
        assert client.put("after the return.txt", b"back").ok
    fresh.kill(left[1])
    for number in (victim, left[0]):
        fresh.until(f"a read through node {number}", partial(_reads, fresh, number, large), AGAIN_WITHIN)
        with fresh.client(number) as client:
            assert client.get("after the return.txt").body == b"back"
            assert judge(client, writers, OTHERS) > 0
    late = Writer([fresh.url(left[0]), fresh.url(victim)], 3)
    late.start()
    late.await_ack(AGAIN_WITHIN)
    late.finish()


def _reads(cluster: DevCluster, number: int, wanted: bytes) -> bool:
    with cluster.client(number, timeout=5) as client:
        try:
            answer = client.get("large.bin")
        except OSError:
            return False
    return answer.status == 200 and digest(answer.body) == digest(wanted)


def _up(cluster: DevCluster, asked: int, number: int) -> bool:
    return next(node["up"] for node in cluster.status(asked)["nodes"] if node["name"] == f"node-{number}")
