"""The fence alone: a holder that does not look at its lease is refused by every replica once another has sealed them."""

from __future__ import annotations

import signal

import pytest

from davfs.core.errors import StaleEpoch, TokenRefused, VolumeHeld
from tests.integration.fencing.drive import Inside, number_of
from tests.integration.fencing.faults import bring_back
from tests.integration.fencing.ghost import Ghost
from tests.support.cluster import DevCluster

GHOST_TTL = 3.0


def _free(cluster: DevCluster, inside: Inside, volume: str) -> None:
    """Bring a volume to be held by nobody: its holder is told to stop, and nobody asks for it."""
    (found,) = [v for v in inside.ask(1, "admin.status")["volumes"] if v["name"] == volume]
    if found["holder"]:
        number = number_of(found["holder"])
        cluster.kill(number, signal.SIGTERM)
        bring_back(cluster, number)
        inside.settle()


def test_who_goes_on_after_the_end_of_the_grant_is_refused_everywhere(cluster: DevCluster, inside: Inside) -> None:
    with cluster.client(1, "second") as client:
        assert client.put("kept.txt", b"kept").ok
    _free(cluster, inside, "second")
    ghost = Ghost(inside, "second", GHOST_TTL)
    assert set(ghost.everywhere(ghost.seal)) == set(inside.members)
    accepted = ghost.everywhere(ghost.append)
    assert sum(isinstance(answer, dict) for answer in accepted.values()) >= 2, accepted
    ghost.refresh()
    with cluster.client(2, "second") as client:
        refused = client.put("not yet.txt", b"")
        assert refused.status == 423, "a program holds the volume"
        assert b"ghost" in refused.body
        with pytest.raises(VolumeHeld, match="ghost"):
            Ghost(inside, "second", GHOST_TTL)

        cluster.until("the takeover by a gateway", lambda: client.put("after.txt", b"after").ok, 30)
        before = client.members()
        (volume,) = [v for v in inside.ask(1, "admin.status")["volumes"] if v["name"] == "second"]
        assert (volume["incarnation"], volume["epoch"]) > tuple(ghost.epoch)

        # All replicas answer, and the new holder has sealed them all by now: not one record or chunk is taken.
        cluster.until(
            "all replicas to be sealed", lambda: set(ghost.everywhere(ghost.seal).values()) == {StaleEpoch}, 10
        )
        for attempt in (ghost.append, ghost.put_chunk, ghost.read_log):
            assert set(ghost.everywhere(attempt).values()) == {StaleEpoch}, attempt.__name__
        with pytest.raises(StaleEpoch):
            ghost.refresh()
        with pytest.raises(StaleEpoch):
            ghost.free()

        # Nor does it help to claim the epoch that is current now: the token is not the one of that grant.
        ghost.epoch = type(ghost.epoch)(volume["incarnation"], volume["epoch"])
        for attempt in (ghost.seal, ghost.append, ghost.put_chunk, ghost.read_log):
            assert set(ghost.everywhere(attempt).values()) == {TokenRefused}, attempt.__name__
        with pytest.raises(TokenRefused):
            ghost.refresh()
        with pytest.raises(TokenRefused):
            ghost.free()
        assert client.members() == before
        assert (client.get("kept.txt").body, client.get("after.txt").body) == (b"kept", b"after")
        assert client.put("and on.txt", b"").ok
