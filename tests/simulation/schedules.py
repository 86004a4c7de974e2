"""Histories played step by step, each at the very moment for which a safeguard of the design is there.

Each takes a seed, which chooses delays, and gives what the checkers found (nothing, unless a safeguard is taken out: see
``mutants.py``). A step that fails in itself gives a failure too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from davfs.sim.cluster import CHUNK_SIZE, VOLUME_ID
from davfs.sim.footprint import check_growth, footprint
from davfs.sim.history import Operation, judge
from tests.simulation.stage import Stage

ONE, TWO = b"one", b"two"
A = ("a",)


def put_one(stage: Stage) -> None:
    """node-1 becomes the holder and writes the file (a holder that skips steps may refuse at first)."""
    while stage.ask("node-1", ("put", A, ONE)).outcome is None:
        assert stage.loop.now < 30
        stage.wait(0.3)


def cut_off_in_the_middle(seed: int) -> list[str]:
    """The holder has logged a record alone when it is cut off from everybody; somebody reads there. Then another follows."""
    stage = Stage(seed)
    put_one(stage)
    stage.wait(0.3)
    before = stage.cluster.nodes["node-1"].stores[VOLUME_ID].last.seq
    stage.isolate("node-1")
    change = stage.begin("node-1", ("put", A, TWO))
    stage.loop.run_until(lambda: stage.cluster.nodes["node-1"].stores[VOLUME_ID].last.seq > before, 2)
    stage.wait(stage.loop.random.uniform(0.005, 0.2))
    seen = stage.begin("node-1", ("get", A))
    stage.follow("node-2")
    stage.ask("node-2", ("get", A))
    stage.loop.run_until(lambda: bool(change and seen), 30)
    return stage.failures()


def reads_at_the_old_holder(seed: int) -> list[str]:
    """The holder is cut off, another takes over and overwrites the file; then the first is asked."""
    stage = Stage(seed)
    put_one(stage)
    stage.cluster.raft.leader = "node-2"
    stage.isolate("node-1")
    stage.follow("node-2")
    stage.ask("node-2", ("put", A, TWO))
    stage.ask("node-1", ("get", A))
    return stage.failures()


def wakes_after_its_time(seed: int) -> list[str]:
    """The holder is paused between the refresh of its token and the answer to it, for longer than the token lasts."""
    stage = Stage(seed)
    put_one(stage)
    holder = stage.cluster.nodes["node-1"].process
    assert holder is not None
    stage.cluster.raft.leader = "node-2"

    def pause(verb: str) -> None:
        if verb == "refresh" and not holder.paused:
            holder.pause()

    stage.cluster.raft.on_append = pause
    assert stage.loop.run_until(lambda: holder.paused, 5)
    stage.cluster.raft.on_append = lambda verb: None
    stage.follow("node-2")
    stage.ask("node-2", ("put", A, TWO))
    holder.resume()
    reads: list[list[Operation]] = []
    for _ in range(8):
        reads.append(stage.begin("node-1", ("get", A)))
        stage.wait(stage.loop.random.uniform(0.0, 0.01))
    stage.loop.run_until(lambda: all(reads), 30)
    return stage.failures()


def late_record(seed: int) -> list[str]:
    """The holder is paused while its record is on its way to one other node, for long; the third takes over meanwhile."""
    stage = Stage(seed)
    nodes, network, loop = stage.cluster.nodes, stage.cluster.network, stage.loop
    put_one(stage)
    stage.wait(0.5)  # the token is refreshed
    network.cut("node-1", "node-3")
    paused = nodes["node-1"].process
    assert paused is not None
    arrives = loop.random.uniform(1.8, 3.5)  # before, while or after the new holder seals node-2
    network.extra_delay = lambda node, method: arrives if (node, method) == ("node-2", "replica.append") else 0.0
    before = nodes["node-1"].stores[VOLUME_ID].last.seq
    change = stage.begin("node-1", ("put", A, TWO))
    assert loop.run_until(lambda: nodes["node-1"].stores[VOLUME_ID].last.seq > before, 2)
    paused.pause()
    network.extra_delay = lambda node, method: 0.0
    stage.follow("node-3")
    stage.ask("node-3", ("get", A))
    stage.wait(2.0)
    paused.resume()
    loop.run_until(lambda: bool(change), 30)
    stage.ask("node-3", ("get", A))
    return stage.failures()


def follower_lacks_the_last_record(seed: int) -> list[str]:
    """The holder dies, and is followed by the node that has not got the last record; the third node has it."""
    stage = Stage(seed)
    put_one(stage)
    stage.wait(0.3)
    stage.cluster.network.cut("node-1", "node-3")
    assert stage.ask("node-1", ("put", A, TWO)).outcome == ("ok", False)
    stage.cluster.nodes["node-1"].crash()
    stage.cluster.network.heal()
    stage.follow("node-3")
    stage.ask("node-3", ("get", A))
    return stage.failures()


def seen_once(seed: int) -> list[str]:
    """Of five replicas only the holder and node-2 have a record. The holder dies; node-2 follows, shows it to a reader, and
    dies as well, while what it sends is on its way to the others for long; then node-3 follows."""
    stage = Stage(seed, nodes=5, replicas=5)
    put_one(stage)
    stage.wait(0.5)
    network, nodes = stage.cluster.network, stage.cluster.nodes
    for other in ("node-3", "node-4", "node-5"):
        network.cut("node-1", other)
    before = nodes["node-2"].stores[VOLUME_ID].last.seq
    stage.begin("node-1", ("put", A, TWO))
    stage.loop.run_until(lambda: nodes["node-2"].stores[VOLUME_ID].last.seq > before, 2)
    nodes["node-1"].crash()
    network.heal()
    network.extra_delay = lambda node, method: 9.0 if method == "replica.append" else 0.0
    stage.follow("node-2")
    stage.ask("node-2", ("get", A))
    nodes["node-2"].crash()
    stage.wait(0.1)
    network.extra_delay = lambda node, method: 0.0
    stage.follow("node-3")
    stage.ask("node-3", ("get", A))
    return stage.failures()


def comes_back_without_its_disk(seed: int) -> list[str]:
    """node-3 has not got the last record. The holder dies, and node-2, the only other one that has it, comes back empty."""
    stage = Stage(seed)
    put_one(stage)
    stage.wait(0.3)
    stage.cluster.network.cut("node-1", "node-3")
    assert stage.ask("node-1", ("put", A, TWO)).outcome == ("ok", False)
    nodes = stage.cluster.nodes
    nodes["node-1"].crash()
    wiped = nodes["node-2"]
    wiped.lose_disk()
    stage.cluster.network.heal()
    wiped.start()
    stage.follow("node-3")
    stage.ask("node-3", ("get", A))
    return stage.failures()


def sent_again(seed: int) -> list[str]:
    """The holder's answer is lost on the way to the node that forwarded the request, and which therefore sends it again."""
    stage = Stage(seed)
    assert stage.ask("node-1", ("mkcol", ("d",))).outcome == ("ok", True)
    stage.wait(0.3)
    network, loop = stage.cluster.network, stage.loop

    def lose_the_answer(node: str) -> None:
        if node == "node-3":
            stage.cluster.watch.on_durable = lambda node: None
            network.cut("node-1", "node-2")
            loop.at(3.0, network.heal)

    stage.cluster.watch.on_durable = lose_the_answer
    stage.ask("node-2", ("delete", ("d",)))
    stage.ask("node-3", ("list", ()))
    return stage.failures()


def overwritten_by_a_move(seed: int) -> list[str]:
    """Two files of different documents, of which one is moved over the other. Somebody reads, the holder dies, all read."""
    stage = Stage(seed)
    put_one(stage)
    assert stage.ask("node-1", ("put", ("b",), TWO)).outcome == ("ok", True)
    assert stage.ask("node-1", ("move", A, ("b",), True)).outcome == ("ok", False)
    _read_all(stage, "node-1")
    stage.cluster.nodes["node-1"].crash()
    stage.follow("node-2")
    _read_all(stage, "node-2")
    return stage.failures()


def _read_all(stage: Stage, node: str) -> None:
    for op in (("list", ()), ("get", A), ("get", ("b",))):
        stage.ask(node, op)


def rotten_copies(seed: int) -> list[str]:
    """Two of three copies of a chunk have the same bit flipped."""
    stage = Stage(seed)
    content = b"1" * CHUNK_SIZE + b"2" * CHUNK_SIZE
    assert stage.ask("node-1", ("put", A, content)).outcome == ("ok", True)
    stage.wait(2.0)
    nodes = list(stage.cluster.nodes.values())
    for node in stage.loop.random.sample(nodes, 2):
        for volume, digest in node.chunks.list():
            node.chunks.damage(volume, digest)
    for node in nodes:
        stage.ask(node.name, ("get", A))
    return judge(stage.history.operations)  # that stores complain of their copies is as it should be


def written_while_replicas_change(seed: int) -> list[str]:
    """node-4 takes the place of node-1, which holds the volume. Just as that is done, and node-1 does not know yet, it is
    cut off from node-3 and node-4 and writes once more; then it dies, and the other two are alone."""
    stage = Stage(seed, nodes=5)  # the fifth only votes in Raft
    cluster, loop = stage.cluster, stage.loop
    put_one(stage)
    written: list[list[Operation]] = []

    def step(verb: str) -> None:
        if verb != "replicas_done" or written:
            return
        cluster.raft.lag = 1.0
        for other in ("node-3", "node-4"):
            cluster.network.cut("node-1", other)
        written.append(stage.begin("node-1", ("put", A, TWO)))

    cluster.raft.on_append = step
    cluster.command("replicas_want", VOLUME_ID, "node-4", "node-1")
    assert loop.run_until(lambda: bool(written), 10)
    loop.run_until(lambda: bool(written[0]), 0.05)
    cluster.raft.lag = 0.005
    cluster.nodes["node-1"].crash()
    cluster.network.heal()
    cluster.nodes["node-2"].crash()
    cluster.raft.leader = "node-3"
    stage.ask("node-3", ("get", A))
    return stage.failures()


def newcomer_lacks_a_record(seed: int) -> list[str]:
    """node-3 has missed a record, and node-4, which takes the place of node-2, gets none for a while; then the two that
    have it die."""
    stage = Stage(seed, nodes=5)
    cluster, loop = stage.cluster, stage.loop
    cluster.network.cut("node-1", "node-3")
    put_one(stage)
    cluster.network.extra_delay = lambda node, method: 9.0 if (node, method) == ("node-4", "replica.append") else 0.0
    cluster.command("replicas_want", VOLUME_ID, "node-4", "node-2")
    loop.run_until(lambda: cluster.volume.replica_set.change is None, 3)
    cluster.network.extra_delay = lambda node, method: 0.0
    cluster.network.heal()
    cluster.nodes["node-1"].crash()
    cluster.nodes["node-2"].crash()
    cluster.raft.leader = "node-3"
    stage.ask("node-3", ("get", A))
    return stage.failures()


def a_long_day(seed: int) -> list[str]:
    """Much is done through all nodes, which are then quiet; much more, and quiet again: what do they keep in memory?"""
    stage = Stage(seed)
    _work(stage, range(24))
    stage.wait(5.0)
    before = {name: footprint(node) for name, node in stage.cluster.nodes.items()}
    _work(stage, range(24, 108))
    stage.wait(5.0)
    grown = [check_growth(before[name], footprint(node), node) for name, node in stage.cluster.nodes.items()]
    return stage.failures() + [failure for failures in grown for failure in failures]


def _work(stage: Stage, numbers: Iterable[int]) -> None:
    for number in numbers:
        node, file, directory = stage.cluster.names[number % 3], (f"f{number % 5}",), (f"d{number // 6}",)
        ops: tuple[tuple[Any, ...], ...] = (
            ("put", file, b"x" * 60 + b"%d" % number), ("get", file), ("mkcol", directory), ("copy", file, ("c",), True),
            ("proppatch", file, "p", str(number)), ("delete", directory),
        )  # fmt: skip
        stage.ask(node, ops[number % 6])


Schedule = Callable[[int], list[str]]

ALL: tuple[Callable[[int], Any], ...] = (
    cut_off_in_the_middle, reads_at_the_old_holder, wakes_after_its_time, late_record, follower_lacks_the_last_record,
    seen_once, comes_back_without_its_disk, sent_again, overwritten_by_a_move, rotten_copies, written_while_replicas_change,
    newcomer_lacks_a_record,
)  # fmt: skip
