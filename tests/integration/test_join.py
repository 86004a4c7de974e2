"""A fourth and a fifth machine join a running drive with one-time tokens, while people write."""

from __future__ import annotations

import random
from collections.abc import Callable

from tests.support.cluster import DevCluster
from tests.support.newcomer import Newcomer, admitted, token_of
from tests.support.writes import Writer, digest, judge


def test_two_machines_join_while_clients_write(make_drive: Callable[..., DevCluster]) -> None:
    cluster = make_drive(volumes=("demo", "second"))
    cluster.start()
    writers = [Writer([cluster.url(number), cluster.url(number % 3 + 1)], number) for number in (1, 2, 3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.await_ack(15)
    token = token_of(cluster)
    fourth = admitted(cluster, "fourth", token, 1)

    again = Newcomer(cluster, "again")
    refused = again.join(token)
    assert refused.returncode == 1 and "used already or has expired" in refused.stderr
    assert not again.folder.exists()
    refused = again.join("davfs-join-1.AAAA")
    assert refused.returncode == 1 and "damaged" in refused.stderr
    named = Newcomer(cluster, "fourth")
    named.folder = named.folder.with_name("another fourth")
    refused = named.join(token_of(cluster))
    assert refused.returncode == 1 and "already" in refused.stderr

    fifth = admitted(cluster, "fifth", token_of(cluster), 3)
    for writer in writers:
        writer.await_ack(15)
    through = Writer([f"http://127.0.0.1:{fourth.port}/demo/", f"http://127.0.0.1:{fifth.port}/demo/"], 4)
    through.start()
    through.await_ack(15)
    writers.append(through)

    files = {f"large-{number}.bin": random.Random(number).randbytes(5_000_000) for number in range(8)}
    for volume in ("demo", "second"):
        with fourth.client(volume) as client:
            for name, data in files.items():
                assert client.put(name, data).ok, cluster.story(f"PUT {name}")
        with fifth.client(volume) as client:
            for name, data in files.items():
                assert digest(client.get(name).body) == digest(data)
    cluster.until("chunks on both newcomers", lambda: fourth.chunks() and fifth.chunks(), 15)
    print(f"chunks: {fourth.chunks()} on the fourth node, {fifth.chunks()} on the fifth")
    for writer in writers:
        writer.finish()
    assert sum(not attempt.ok for writer in writers for attempt in writer.attempts) == 0
    for client in (cluster.client(1), fourth.client("demo"), fifth.client("demo")):
        with client:
            assert judge(client, writers, tuple(files)) > 0

    _two_of_five_are_killed(cluster, fifth)


def _two_of_five_are_killed(cluster: DevCluster, fifth: Newcomer) -> None:
    """Three of the five still decide: those that joined vote. One of them restarts and knows all."""
    assert fifth.process is not None
    fifth.process.kill()
    fifth.process.wait(10)
    cluster.kill(2)
    cluster.until("a majority of the five", lambda: cluster.status()["fresh"], 10)
    cluster.kill(3)
    assert not cluster.status()["fresh"], "two of five decided something"
    fifth.serve()
    cluster.until("a majority with the fifth", lambda: cluster.status()["fresh"], 20)
    _who_has_other_settings_does_not_join(cluster, 2)
    cluster.serve(2)
    with cluster.client(1) as client:
        cluster.until("writes again", lambda: client.put("at the end.txt", b"x").ok, 20)


def _who_has_other_settings_does_not_join(cluster: DevCluster, number: int) -> None:
    """A node that would count another ttl than the others ends by itself, and says what differs."""
    file = cluster.config(number)
    text = file.read_text()
    assert "token_ttl = 5.0" in text
    file.write_text(text.replace("token_ttl = 5.0", "token_ttl = 50.0"))
    assert cluster.serve(number).wait(20) == 1
    said = cluster.log.with_name(f"{cluster.directory.name}.node-{number}.log").read_text()
    assert "token_ttl" in said and "50.0" in said, said[-500:]
    file.write_text(text)
