"""kill -9 of every node in the middle of a stream of PUTs, then a restart: what was answered 2xx is there and whole."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import pytest

from tests.support.cluster import DevCluster
from tests.support.tools import full_size
from tests.support.writes import Writer, judge

ROUNDS = 20 if full_size() else 3
WRITERS = 4


@pytest.mark.timeout(1500 if full_size() else 300)
def test_every_acknowledged_put_survives_kill_9_of_all_nodes(make_drive: Callable[..., DevCluster]) -> None:
    cluster = make_drive()
    cluster.start()
    source = random.Random(50)
    writers: list[Writer] = []
    before: list[str] = []  # names of earlier rounds: read back once, at the end, when they have survived every round
    for turn in range(ROUNDS):
        running = [
            Writer(
                [cluster.url((turn + index) % 3 + 1)],
                seed=100 * turn + index,
                largest=6_000_000 if index == 0 else 300_000,
                pause=0.0,
            )
            for index in range(WRITERS)
        ]
        for writer in running:
            writer.start()
        for writer in running:
            writer.await_ack(15)
        time.sleep(source.uniform(0.3, 1.5))
        cluster.kill_everything()
        for writer in running:
            writer.finish()
        took = cluster.start()
        counts = []
        for number in (1, 2, 3):
            with cluster.client(number) as client:
                counts.append(judge(client, running, before))
        writers += running
        before += [name for writer in running for name in writer.histories]
        acknowledged = sum(attempt.ok for writer in running for attempt in writer.attempts)
        print(f"round {turn}: {acknowledged} PUTs acknowledged, up again in {took:.1f} s, {counts[0]} files whole")
        assert len(set(counts)) == 1, "the nodes disagree about what is there"
    assert cluster.stop() == 0
    cluster.start()
    with cluster.client(2) as client:
        assert judge(client, writers) > 0
    assert cluster.stop() == 0
