"""Bytes that are not what a holder wrote: refused with a clear error, and the replica is as if they had never come.

``DAVFS_FUZZ=N`` tries N examples of each law instead of some dozens.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from dataclasses import asdict
from functools import cache
from pathlib import Path

import msgpack
import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from davfs.cluster.clock import BootClock, SystemRandom
from davfs.cluster.fsck import Examination
from davfs.cluster.replica import Replica
from davfs.cluster.service import Service
from davfs.cluster.site import Site, Timing
from davfs.cluster.threads import ThreadSignal
from davfs.core.chunking import digest_of
from davfs.core.cluster_state import ClusterState
from davfs.core.errors import CorruptData, DavfsError
from davfs.core.model import ORIGIN, Position, VolumePolicy
from davfs.core.record import decode, encode
from davfs.crdt.documents import AutomergeDocuments
from davfs.sim.memory_chunks import MemoryChunkStore
from davfs.storage.replica_db import ReplicaDb
from tests.golden import history
from tests.golden.history import E2, VOLUME

TOKEN = b"t" * 32
LIMITS = settings(deadline=None, max_examples=int(os.environ.get("DAVFS_FUZZ", "20")))


class Node:
    """One replica that is sealed to the last epoch of the golden history, and nothing in it yet."""

    def __init__(self) -> None:
        state = ClusterState()
        digest = digest_of(TOKEN)
        policy = asdict(VolumePolicy())
        for number, command in enumerate([
            ("node_set", "node-1", "http://a", "", 1.0, ""),
            ("volume_create", VOLUME, "demo", policy, ["node-1", "node-2", "node-3"]),
            ("assign", VOLUME, digest, "node-1", 5.0),
            ("free", VOLUME, [1, 1], digest),
            ("assign", VOLUME, digest, "node-1", 5.0),
        ]):  # fmt: skip
            assert state.apply((f"r{number}", *command))[0] == "ok"
        self.store = ReplicaDb(":memory:")
        self.site = Site(
            "node-1", BootClock(), SystemRandom(), state, ThreadSignal(), MemoryChunkStore(), AutomergeDocuments(),
            lambda volume: self.store, ThreadSignal, lambda node: True, Timing(),
        )  # fmt: skip
        self.replica = Replica(self.site, VOLUME, self.store)
        self.service = Service(self.site, self)
        self.store.seal(E2)
        run(self.replica.seal(E2, digest))

    def wait_for(self, volume):
        yield from ()
        return self.replica

    def store_here(self, volume):
        return self.store

    def ask(self, method, args, blob=b""):
        return run(self.service.handlers[method]("node-2", args, blob))

    def append(self, previous, batch, committed=0, **more):
        args = {
            "volume": VOLUME, "epoch": list(E2), "token": TOKEN, "previous": [list(previous.epoch), previous.seq],
            "records": [len(data) for data in batch], "chunks": [], "committed": committed, **more,
        }  # fmt: skip
        return self.ask("replica.append", args, b"".join(batch))

    def state(self):
        return (self.store.sealed, self.store.last, self.store.committed, self.digest())

    def digest(self):
        with self.store.audit() as audit:
            return blake3(b"".join(audit.rows())).hexdigest()

    def examine(self):
        with self.store.audit() as audit:
            steps = Examination(audit, self.site.documents, VOLUME).steps()
            return [problem for step in steps for problem in step.problems]

    def close(self):
        self.store.close()


def run(protocol):
    """Drive a protocol that has nothing to wait for, as the threads do: what fails outside is the protocol's to know."""
    try:
        effect = next(protocol)
        while True:
            try:
                ready = effect.ready()
            except Exception as error:
                effect = protocol.throw(error)
            else:
                effect = protocol.send(ready)
    except StopIteration as stop:
        return stop.value


@cache
def truth():
    """(the records of the history, the position before each, the digest of what they make)."""
    with tempfile.TemporaryDirectory() as name:
        history.build(Path(name) / "v.sqlite")
        store = ReplicaDb(Path(name) / "v.sqlite")
        log = store.read_log(1, 1 << 24)
        store.close()
    before = [ORIGIN, *(decode(data, VOLUME).position for data in log)]
    node = Node()
    node.append(ORIGIN, log, len(log))
    node.replica.apply_committed()
    digest = node.digest()
    node.close()
    return log, before, digest


def finish(node):
    """Whatever came before: the history itself is taken, and makes what it always makes."""
    log, _, digest = truth()
    node.append(ORIGIN, log, len(log))
    node.replica.apply_committed()
    assert node.store.last.seq == node.store.committed.seq == len(log)
    assert node.digest() == digest
    assert node.examine() == []


@st.composite
def damaged(draw):
    """(how many records are there, the damaged batch that comes behind them)."""
    log, _, _ = truth()
    first = draw(st.integers(0, len(log) - 1))
    batch = log[first : draw(st.integers(first + 1, len(log)))]
    at = draw(st.integers(0, len(batch) - 1))
    data = batch[at]
    how = draw(st.sampled_from(["flip", "cut", "longer", "swap", "drop", "twice", "foreign", "nonsense", "replay"]))
    if how == "flip":
        place = draw(st.integers(0, len(data) - 1))
        batch[at] = data[:place] + bytes([data[place] ^ 1 << draw(st.integers(0, 7))]) + data[place + 1 :]
    elif how == "cut":
        batch[at] = data[: draw(st.integers(0, len(data) - 1))]
    elif how == "longer":
        batch[at] = data + draw(st.binary(min_size=1, max_size=9))
    elif how == "swap" and len(batch) > 1:
        other = (at + 1) % len(batch)
        batch[at], batch[other] = batch[other], batch[at]
    elif how == "drop" and len(batch) > 1 and at < len(batch) - 1:
        del batch[at]
    elif how == "foreign":
        body = data[19:].replace(VOLUME.encode(), b"0b" * 16)
        batch[at] = data[:3] + blake3(body).digest(16) + body
    elif how == "replay" and first:
        batch[at] = log[draw(st.integers(0, first - 1))]
    elif how == "nonsense":
        batch[at] = draw(st.binary(max_size=200))
    else:
        batch.insert(at, data)
    return first, batch


@LIMITS
@given(damaged())
def test_damaged_records_are_refused_and_change_nothing(case):
    first, batch = case
    log, before, _ = truth()
    node = Node()
    if first:
        node.append(ORIGIN, log[:first], first)
        node.replica.apply_committed()
    there = node.state()
    with pytest.raises(DavfsError) as caught:
        node.append(before[first], batch, first + len(batch))
    assert caught.value.message
    node.replica.apply_committed()
    assert node.state() == there
    finish(node)
    node.close()


@LIMITS
@given(st.data())
def test_records_come_again_late_and_in_pieces(data):
    """Replays are no damage: what is there already is skipped, and nothing that is committed is cut."""
    log, before, _ = truth()
    node = Node()
    for _ in range(data.draw(st.integers(1, 12))):
        have = node.store.last.seq
        first = data.draw(st.integers(0, have))
        last = data.draw(st.integers(first, len(log)))
        node.append(before[first], log[first:last], data.draw(st.integers(0, last)))
        node.replica.apply_committed()
        assert node.store.last.seq == max(have, last)
    finish(node)
    node.close()


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | st.floats(allow_nan=False) | st.text(max_size=5)
    | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=6,
)  # fmt: skip


@st.composite
def twisted(draw, value):
    """A value with one part of it, somewhere inside, replaced by something else."""
    if isinstance(value, list) and value and draw(st.integers(0, 4)):
        place = draw(st.integers(0, len(value) - 1))
        return [*value[:place], draw(twisted(value[place])), *value[place + 1 :]]
    return draw(PLAIN)


@LIMITS
@given(st.data())
def test_a_record_of_another_shape_with_a_right_checksum_harms_nothing(data):
    """Whoever holds a volume can write any bytes with a checksum. They are refused, or are a record like any other, which
    the next holder may cut; what is committed stays, and no thread dies of it."""
    log, before, _ = truth()
    node = Node()
    behind = data.draw(st.integers(0, len(log) - 1))
    if behind:
        node.append(ORIGIN, log[:behind], behind)
        node.replica.apply_committed()
    there = node.state()
    body = bytes(msgpack.packb(data.draw(twisted(msgpack.unpackb(log[behind][19:], raw=False))), use_bin_type=True))
    bad = log[behind][:3] + blake3(body).digest(16) + body
    with contextlib.suppress(DavfsError):
        node.append(before[behind], [bad])
        assert encode(decode(bad, VOLUME))
        assert node.store.last.epoch <= E2
        with contextlib.suppress(DavfsError):
            node.replica.advance(behind + 1)
    if node.store.committed == there[2]:
        assert node.state()[2:] == there[2:]
        if node.store.last.seq > behind:  # the next holder has not got it, and cuts it
            node.store.append([], behind + 1)
            node.replica = Replica(node.site, VOLUME, node.store)
            run(node.replica.seal(E2, digest_of(TOKEN)))
        finish(node)
    node.close()


@LIMITS
@given(st.data())
def test_malformed_requests_are_refused(data):
    log, before, _ = truth()
    node = Node()
    node.append(ORIGIN, log[:4], 4)
    node.replica.apply_committed()
    there = node.state()
    args = {
        "volume": VOLUME, "epoch": list(E2), "token": TOKEN, "previous": [list(before[4].epoch), 4], "records": [len(log[4])],
        "chunks": [], "committed": 4, "first": 1, "limit": 1000, "trim": 0, "digest": "0" * 64,
    }  # fmt: skip
    for name in data.draw(st.lists(st.sampled_from(sorted(args)), min_size=1, max_size=3)):
        args[name] = data.draw(PLAIN)
    args["volume"] = VOLUME
    method = data.draw(st.sampled_from(["replica.append", "replica.read_log", "replica.seal", "replica.confirm"]))
    with contextlib.suppress(DavfsError):
        node.ask(method, args, data.draw(st.just(log[4]) | st.binary(max_size=100)))
    node.replica.apply_committed()
    assert node.store.sealed == there[0]
    assert node.store.committed.seq == 5 or node.state()[2:] == there[2:]  # 5: it happened to be told so
    finish(node)
    node.close()


def test_a_record_of_an_epoch_that_was_never_granted_is_refused():
    """Else no later holder's record could follow it."""
    log, before, _ = truth()
    node = Node()
    node.append(ORIGIN, log[:4], 4)
    made = decode(log[4], VOLUME)
    beyond = encode(type(made)(VOLUME, Position(type(E2)(1, 99), 5), made.kind, made.request_id))
    with pytest.raises(CorruptData, match="epoch"):
        node.append(before[4], [beyond])
    finish(node)
    node.close()
