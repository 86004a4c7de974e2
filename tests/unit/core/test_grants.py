"""Who holds a volume: grants, refusals that can be told apart, expiry that a refresh forestalls."""

from __future__ import annotations

import pytest

from davfs.core import grants
from davfs.core.cluster_state import ClusterState, value_of
from davfs.core.errors import (
    DavfsError,
    Locked,
    StaleEpoch,
    TokenExpired,
    TokenFreed,
    TokenRefused,
    TokenUnknown,
    VolumeHeld,
)
from davfs.core.grants import Tenure
from davfs.core.model import Epoch

MINE, THEIRS = "1" * 64, "2" * 64


def granted(tenure: Tenure = Tenure(), digest: str = MINE) -> Tenure:  # noqa: B008  a frozen value
    return grants.assign(tenure, 1, digest, "program:a", 5.0)


@pytest.mark.parametrize(
    ("tenure", "epoch", "digest", "error"),
    [
        (granted(), Epoch(1, 1), THEIRS, TokenRefused),
        (granted(), Epoch(1, 2), MINE, TokenUnknown),
        (granted(), Epoch(9, 1), MINE, TokenUnknown),
        (Tenure(), Epoch(1, 1), MINE, TokenUnknown),
        (grants.free(granted(), Epoch(1, 1), MINE), Epoch(1, 1), MINE, TokenFreed),
        (grants.free(granted(), Epoch(1, 1), MINE), Epoch(1, 1), THEIRS, TokenRefused),
        (grants.expire(granted(), Epoch(1, 1), 0), Epoch(1, 1), MINE, TokenExpired),
        (granted(grants.expire(granted(), Epoch(1, 1), 0), THEIRS), Epoch(1, 1), MINE, StaleEpoch),
    ],
)
def test_refusals_can_be_told_apart(tenure: Tenure, epoch: Epoch, digest: str, error: type[DavfsError]) -> None:
    with pytest.raises(DavfsError) as refused:
        grants.check(tenure, epoch, digest)
    assert type(refused.value) is error


def test_a_grant_for_maintenance_yields_to_everybody_but_its_like() -> None:
    lent = grants.assign(Tenure(), 1, MINE, "node-1", 5.0, yields=True)
    with pytest.raises(VolumeHeld):
        grants.assign(lent, 1, THEIRS, "node-2", 5.0, yields=True)
    taken = grants.assign(lent, 1, THEIRS, "node-2", 5.0)
    assert (taken.last, taken.grant and taken.grant.digest) == (Epoch(1, 2), THEIRS)
    with pytest.raises(StaleEpoch):
        grants.check(taken, Epoch(1, 1), MINE)
    with pytest.raises(VolumeHeld):
        grants.assign(taken, 1, MINE, "node-1", 5.0, yields=True)


def test_every_refusal_compares_digests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Constant time: the comparison is made once, whole, and first, whatever the refusal."""
    compared: list[tuple[bytes, bytes]] = []

    def counting(expected: bytes, given: bytes) -> bool:
        compared.append((expected, given))
        return expected == given

    monkeypatch.setattr(grants, "compare_digest", counting)
    freed = grants.free(granted(), Epoch(1, 1), MINE)
    for tenure, epoch in [(granted(), Epoch(1, 1)), (granted(), Epoch(1, 7)), (freed, Epoch(1, 1)), (Tenure(), Epoch(0, 1))]:
        compared.clear()
        with pytest.raises(DavfsError):
            grants.check(tenure, epoch, "ü" * 64)
        assert [len(expected) for expected, _ in compared] == [64]


def test_a_refresh_forestalls_the_expiry_that_did_not_see_it() -> None:
    tenure = grants.refresh(granted(), Epoch(1, 1), MINE)
    assert grants.expire(tenure, Epoch(1, 1), 0) == tenure
    assert grants.expire(tenure, Epoch(1, 1), 1).grant is None


def test_how_a_grant_ended_survives_a_snapshot() -> None:
    state = ClusterState()
    value_of(state.apply(("1", "node_set", "node-1", "http://node-1", "", 1.0, "")))
    value_of(state.apply(("2", "volume_create", "v", "demo", {}, ["node-1"])))
    value_of(state.apply(("3", "assign", "v", MINE, "program:a", 5.0)))
    value_of(state.apply(("4", "free", "v", [1, 1], MINE)))
    loaded = ClusterState()
    loaded.load(state.dump())
    assert loaded.volume("v").tenure == state.volume("v").tenure
    with pytest.raises(TokenFreed):
        grants.check(loaded.volume("v").tenure, Epoch(1, 1), MINE)


def test_dav_locks_keep_programs_out_and_gateways_not() -> None:
    state = ClusterState()
    value_of(state.apply(("1", "node_set", "node-1", "http://node-1", "", 1.0, "")))
    value_of(state.apply(("2", "volume_create", "v", "demo", {}, ["node-1"])))
    value_of(state.apply(("3", "assign", "v", MINE, "node-1", 5.0)))
    lock = {
        "token": "t", "path": ["a"], "infinite": False, "exclusive": True, "owner": "", "principal": "", "timeout_s": 60
    }  # fmt: skip
    value_of(state.apply(("4", "lock", "v", [1, 1], lock)))
    value_of(state.apply(("5", "free", "v", [1, 1], MINE)))
    with pytest.raises(Locked, match="1 DAV locks"):
        value_of(state.apply(("6", "assign", "v", THEIRS, "program:a", 5.0)))
    assert value_of(state.apply(("7", "assign", "v", THEIRS, "node-1", 5.0))) == [1, 2]


def test_the_session_of_an_exclusive_volume_keeps_programs_out_and_gateways_not() -> None:
    state = ClusterState()
    value_of(state.apply(("1", "node_set", "node-1", "http://node-1", "", 1.0, "")))
    value_of(state.apply(("2", "volume_create", "v", "demo", {"mode": "exclusive"}, ["node-1"])))
    value_of(state.apply(("3", "assign", "v", MINE, "node-1", 5.0)))
    key = ["anna", "10.0.0.7", "curl"]
    value_of(state.apply(("4", "session_claim", "v", [1, 1], key)))
    value_of(state.apply(("5", "free", "v", [1, 1], MINE)))
    with pytest.raises(VolumeHeld, match=r"anna from 10\.0\.0\.7 .*to itself"):
        value_of(state.apply(("6", "assign", "v", THEIRS, "program:a", 5.0)))
    assert value_of(state.apply(("7", "assign", "v", THEIRS, "node-1", 5.0))) == [1, 2]
    value_of(state.apply(("8", "session_release", "v", [1, 2], key)))
    value_of(state.apply(("9", "free", "v", [1, 2], THEIRS)))
    assert value_of(state.apply(("10", "assign", "v", THEIRS, "program:a", 5.0))) == [1, 3]
