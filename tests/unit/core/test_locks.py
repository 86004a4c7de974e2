"""DAV locks and the claim of an exclusive volume in Raft's state: rules, fences, limits, and their way through a dump."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest

from davfs.core import locks
from davfs.core.cluster_state import ClusterState, value_of
from davfs.core.errors import Locked, LockTokenMismatch, NoSpace, StaleEpoch, VolumeHeld
from davfs.core.model import DavLock, Path, VolumePolicy
from davfs.core.sessions import MAX_AGENT, SessionKey, agent_of

FIRST, SECOND = SessionKey("ann", "10.0.0.1", "Anna/1.0"), SessionKey("", "10.0.0.2", "")


def lock(token: str, path: Path = ("d", "f"), infinite: bool = False, exclusive: bool = True) -> DavLock:
    return DavLock(token, path, infinite, exclusive, "<D:owner/>", "ann", 600)


class Raft:
    """One state, one volume, held at ``epoch``."""

    def __init__(self) -> None:
        self.state = ClusterState()
        self.count = 0
        for node in ("node-1", "node-2"):
            self.do("node_set", node, f"http://{node}", "", 1.0, "")
        self.do("volume_create", "v", "demo", asdict(VolumePolicy(mode="exclusive")), ["node-1"])
        self.epoch = self.do("assign", "v", "1" * 64, "node-1", 5.0)

    def do(self, verb: str, *arguments: Any) -> Any:
        self.count += 1
        return value_of(self.state.apply((f"id-{self.count}", verb, *arguments)))

    def lock(self, wanted: DavLock) -> None:
        self.do("lock", "v", self.epoch, {**asdict(wanted), "path": list(wanted.path)})

    @property
    def tokens(self) -> list[str]:
        return list(self.state.volume("v").locks)


@pytest.fixture
def raft() -> Raft:
    return Raft()


@pytest.mark.parametrize(
    ("there", "wanted", "refused"),
    [
        (lock("a"), lock("b"), True),
        (lock("a", exclusive=False), lock("b", exclusive=False), False),
        (lock("a", exclusive=False), lock("b"), True),
        (lock("a", ("d",), infinite=True), lock("b"), True),
        (lock("a", ("d",)), lock("b"), False),
        (lock("a"), lock("b", ("d",), infinite=True), True),
        (lock("a"), lock("b", ("d",)), False),
        (lock("a"), lock("b", ("d", "other")), False),
        (lock("a"), lock("a"), False),
    ],
)
def test_what_conflicts(raft: Raft, there: DavLock, wanted: DavLock, refused: bool) -> None:
    raft.lock(there)
    if refused:
        with pytest.raises(Locked) as error:
            raft.lock(wanted)
        assert error.value.data["path"] == list(there.path)
    else:
        raft.lock(wanted)
    assert raft.tokens == list(dict.fromkeys(["a"] if refused else ["a", wanted.token]))


def test_commands_of_a_deposed_holder_are_refused_and_locks_outlive_it(raft: Raft) -> None:
    raft.lock(lock("a"))
    raft.do("expire", "v", raft.epoch, 0)
    old, raft.epoch = raft.epoch, raft.do("assign", "v", "2" * 64, "node-2", 5.0)
    assert raft.tokens == ["a"]
    for verb, arguments in (
        ("lock", (asdict(lock("b", ("x",))),)), ("lock_refresh", ("a", 5)), ("unlock", (["a"],)),
        ("session_claim", (list(FIRST),)), ("session_release", (list(FIRST),)),
    ):  # fmt: skip
        with pytest.raises(StaleEpoch):
            raft.do(verb, "v", old, *arguments)
    assert raft.tokens == ["a"]


def test_an_expiry_that_did_not_see_a_refresh_does_nothing(raft: Raft) -> None:
    raft.lock(lock("a"))
    raft.do("lock_refresh", "v", raft.epoch, "a", 77)
    raft.do("lock_expire", "v", "a", 0)
    assert raft.state.volume("v").locks["a"].timeout_s == 77
    raft.do("lock_expire", "v", "a", 1)
    assert raft.tokens == []
    with pytest.raises(LockTokenMismatch):
        raft.do("lock_refresh", "v", raft.epoch, "a", 77)


def test_an_unlock_that_is_sent_again_is_answered_as_before(raft: Raft) -> None:
    raft.lock(lock("a"))
    command = ("once", "unlock", "v", raft.epoch, ["a", "nothing"])
    assert value_of(raft.state.apply(command)) == ["a"]
    assert value_of(raft.state.apply(command)) == ["a"]
    assert raft.do("unlock", "v", raft.epoch, ["a"]) == []


def test_an_administrator_breaks_a_lock_whoever_holds_the_volume(raft: Raft) -> None:
    raft.lock(lock("a"))
    raft.do("free", "v", raft.epoch, "1" * 64)
    assert raft.do("lock_break", "v", "a", "root@here")["path"] == ("d", "f")
    assert raft.tokens == []
    with pytest.raises(LockTokenMismatch):
        raft.do("lock_break", "v", "a", "root@here")


def test_locks_are_bounded(raft: Raft, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "MAX_LOCKS", 3)
    for number in range(3):
        raft.lock(lock(str(number), (str(number),)))
    with pytest.raises(NoSpace, match="3 locks already"):
        raft.lock(lock("more", ("more",)))
    raft.lock(lock("2", ("2",)))


def test_one_session_claims_an_exclusive_volume_and_keeps_it(raft: Raft) -> None:
    raft.do("session_claim", "v", raft.epoch, list(FIRST))
    raft.do("session_claim", "v", raft.epoch, list(FIRST))
    with pytest.raises(VolumeHeld, match=r"ann from 10\.0\.0\.1 \(Anna/1\.0\)"):
        raft.do("session_claim", "v", raft.epoch, list(SECOND))
    raft.do("expire", "v", raft.epoch, 0)
    raft.epoch = raft.do("assign", "v", "2" * 64, "node-2", 5.0)
    assert raft.state.volume("v").session == FIRST
    raft.do("session_release", "v", raft.epoch, list(SECOND))
    assert raft.state.volume("v").session == FIRST
    raft.do("session_release", "v", raft.epoch, list(FIRST))
    raft.do("session_claim", "v", raft.epoch, list(SECOND))
    assert raft.state.volume("v").session == SECOND


@pytest.mark.parametrize(
    ("header", "agent"),
    [
        ("DavClnt", "Microsoft-WebDAV-MiniRedir"),
        ("Microsoft-WebDAV-MiniRedir/10.0.19045", "Microsoft-WebDAV-MiniRedir"),
        ("WebDAVLib/1.3", "WebDAVFS"),
        ("WebDAVFS/3.0.0 (03008000) Darwin/23.1.0 (arm64)", "WebDAVFS"),
        ("rclone/v1.75.2", "rclone/v1.75.2"),
        ("a\tb\x81" + "x" * 500, "ab" + "x" * (MAX_AGENT - 2)),
        ("", ""),
    ],
)
def test_what_a_user_agent_says(header: str, agent: str) -> None:
    assert agent_of(header) == agent


def test_a_dump_holds_locks_and_claims(raft: Raft) -> None:
    raft.lock(lock("a", ("ü", "x"), infinite=True, exclusive=False))
    raft.do("session_claim", "v", raft.epoch, list(FIRST))
    copy = ClusterState()
    copy.load(raft.state.dump())
    assert copy.volume("v") == raft.state.volume("v")
    assert copy.dump() == raft.state.dump()


def test_a_token_of_each_locked_path_is_needed_from_whoever_took_it() -> None:
    there = [lock("a", ("x",)), lock("b", ("y",), exclusive=False), lock("c", ("y",), exclusive=False)]
    locks.require_tokens(there, {"a", "c"}, "ann")
    for submitted, principal in (({"a"}, "ann"), ({"c"}, "ann"), ({"a", "c"}, "ben"), (set[str](), "ann")):
        with pytest.raises(Locked):
            locks.require_tokens(there, submitted, principal)
