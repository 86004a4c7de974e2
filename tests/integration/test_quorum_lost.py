"""Two of three nodes dead: 503 with Retry-After within seconds, never a hang; one returns, and all is well again."""

from __future__ import annotations

import time
from functools import partial
from http.client import HTTPException

import pytest

from compat.client import Answer, DavClient
from tests.support.cluster import DevCluster

WITHIN = 12.0
AGAIN_WITHIN = 15.0
REQUESTS = (
    ("PUT", "new.txt", b"new"),
    ("PUT", "kept.txt", b"overwritten"),
    ("MKCOL", "folder", None),
    ("DELETE", "kept.txt", None),
    ("MOVE", "kept.txt", None),
    ("GET", "kept.txt", None),
    ("PROPFIND", "", None),
)


@pytest.mark.parametrize("survivor_is_holder", [True, False], ids=["holder left", "another left"])
def test_without_a_quorum_every_request_is_answered_503(fresh: DevCluster, survivor_is_holder: bool) -> None:
    with fresh.client(1) as client:
        assert client.put("kept.txt", b"kept").ok
    holder = fresh.holder()
    survivor = holder if survivor_is_holder else holder % 3 + 1
    dead = [number for number in (1, 2, 3) if number != survivor]
    for number in dead:
        fresh.kill(number)
    with fresh.client(survivor, timeout=WITHIN + 5) as client:
        _await_no_service(client)
        for method, path, body in REQUESTS:
            answer, seconds = _timed(client, method, path, body)
            assert answer.status == 503, f"{method} {path} was answered {answer.status}"
            assert int(answer.headers["retry-after"]) >= 1
            assert seconds < WITHIN, f"{method} {path} took {seconds:.1f} s"
    fresh.serve(dead[0])
    for number in (survivor, dead[0]):
        fresh.until(f"service through node {number}", partial(_serves, fresh, number), AGAIN_WITHIN)
    with fresh.client(dead[0]) as client:
        # A 503 to a write means "unknown": the overwrite may have happened, a mixture may not.
        answer = client.get("kept.txt")
        assert answer.status in (200, 404)
        assert answer.status == 404 or answer.body in (b"kept", b"overwritten")
        assert client.get("new.txt").body == b"new" or client.get("new.txt").status == 404


def _timed(client: DavClient, method: str, path: str, body: bytes | None) -> tuple[Answer, float]:
    headers = {"Destination": client.absolute("moved.txt")} if method == "MOVE" else {}
    if method == "PROPFIND":
        headers["Depth"] = "1"
    began = time.monotonic()
    answer = client.request(method, path, body, headers)
    return answer, time.monotonic() - began


def _await_no_service(client: DavClient) -> None:
    """A holder may serve reads until its lease ends, and its first write finds out that nobody answers: both are soon over."""
    end = time.monotonic() + WITHIN
    while client.get("kept.txt").status == 200:
        assert time.monotonic() < end, "reads are still served long after the lease must have ended"
        time.sleep(0.2)


def _serves(cluster: DevCluster, number: int) -> bool:
    with cluster.client(number, timeout=10) as client:
        try:
            return client.put("probe.txt", b"x").ok and client.get("probe.txt").body == b"x"
        except (OSError, HTTPException):
            return False
