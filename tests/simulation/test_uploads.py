"""Uploads in parts: their parts outlive the holder that took them, and what nobody goes on with is removed."""

from __future__ import annotations

from typing import Any

import pytest

from davfs.cluster import changes, uploads
from davfs.cluster.api import Caller
from davfs.cluster.holder import Holder
from davfs.core.effects import Protocol_
from davfs.core.model import HIDDEN, ROOT, UPLOADS, Entry
from davfs.sim.cluster import VOLUME_ID
from tests.simulation.stage import Stage

ACCOUNT = (HIDDEN, "account")
UPLOAD = (*ACCOUNT, "upload")


def anything(entry: Entry | None) -> None:
    """No condition."""


def run(stage: Stage, node: str, work: Protocol_[Any]) -> Any:
    """Drive one flow on a node to its end."""
    ended: list[tuple[Any, BaseException | None]] = []
    process = stage.cluster.nodes[node].process
    assert process is not None
    process.run(work, lambda value, error: ended.append((value, error)), ("test", ()))
    assert stage.loop.run_until(lambda: bool(ended), 30)
    value, error = ended[0]
    if error is not None:
        raise error
    return value


def held(stage: Stage, node: str) -> Holder:
    holder = stage.cluster.nodes[node].holdings.holder(VOLUME_ID)
    assert holder is not None
    return holder


def caller(stage: Stage) -> Caller:
    return Caller(request_id=stage.loop.random.randbytes(8).hex())


def begin(stage: Stage, node: str, *parts: bytes) -> None:
    holder = held(stage, node)
    for path in (ACCOUNT, UPLOAD):
        run(stage, node, changes.mkcol(holder, path, anything, caller(stage)))
    for number, part in enumerate(parts):
        put(stage, node, str(number), part)


def put(stage: Stage, node: str, name: str, part: bytes) -> None:
    blocks = iter([part, b""])
    flow = uploads.put_part(
        held(stage, node), (*UPLOAD, name), lambda size: next(blocks), len(part), (), anything, caller(stage)
    )
    run(stage, node, flow)


def members(stage: Stage, node: str, inode: str) -> list[Entry]:
    with held(stage, node).replica.store.view() as view:
        return view.children(inode)


def test_an_upload_goes_on_with_the_next_holder() -> None:
    stage = Stage()
    assert stage.ask("node-1", ("put", ("a",), b"here")).outcome == ("ok", True)
    begin(stage, "node-1", b"first,", b"second,")
    stage.cluster.nodes["node-1"].crash()
    assert stage.ask("node-2", ("put", ("b",), b"there")).outcome == ("ok", True)
    node = next(name for name in ("node-2", "node-3") if stage.cluster.nodes[name].holdings.held())
    put(stage, node, "2", b"third")
    flow = uploads.assemble(held(stage, node), UPLOAD, ("whole",), True, 18, (), None, anything, caller(stage))
    entry, created = run(stage, node, flow)
    assert (entry.size, created) == (18, True)
    assert stage.ask(node, ("get", ("whole",))).outcome == ("ok", b"first,second,third")
    assert members(stage, node, members(stage, node, UPLOADS)[0].inode) == []
    assert [entry.name for entry in members(stage, node, ROOT)] == ["a", "b", "whole"]


def test_what_nobody_goes_on_with_is_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "EXPIRES_S", 20)
    stage = Stage()
    assert stage.ask("node-1", ("put", ("a",), b"here")).outcome == ("ok", True)
    with held(stage, "node-1").replica.store.view() as view:
        before = view.usage()
    begin(stage, "node-1", b"one", b"two")
    stage.loop.run_until(lambda: False, 15)
    assert stage.ask("node-1", ("put", ("b",), b"")).outcome == ("ok", True)
    assert run(stage, "node-1", uploads.expire(held(stage, "node-1"))) == 0
    assert len(members(stage, "node-1", members(stage, "node-1", UPLOADS)[0].inode)) == 1
    stage.loop.run_until(lambda: False, 10)
    assert stage.ask("node-1", ("put", ("b",), b"")).outcome == ("ok", False)
    run(stage, "node-1", uploads.expire(held(stage, "node-1")))  # unless the collector was there before
    assert members(stage, "node-1", members(stage, "node-1", UPLOADS)[0].inode) == []
    with held(stage, "node-1").replica.store.view() as view:
        assert view.usage() == (before[0] + 1, before[1])


def test_it_is_removed_from_a_volume_that_nobody_holds_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "EXPIRES_S", 60)
    stage = Stage()
    assert stage.ask("node-1", ("put", ("a",), b"here")).outcome == ("ok", True)
    begin(stage, "node-1", b"one", b"two")
    holdings = stage.cluster.nodes["node-1"].holdings
    assert stage.loop.run_until(lambda: holdings.holder(VOLUME_ID) is None, 60)

    def left() -> list[int]:
        counts = []
        for node in stage.cluster.nodes.values():
            with node.stores[VOLUME_ID].view() as view:
                counts.append(sum(len(view.children(account.inode)) for account in view.children(UPLOADS)))
        return counts

    assert left() == [1, 1, 1]
    assert stage.loop.run_until(lambda: left() == [0, 0, 0], 600)
