"""A holder paused past its ttl while another takes over: what it was asked meanwhile, what it may answer, how it heals."""

from __future__ import annotations

import http.client
import time

from tests.integration.fencing.drive import Inside, stopped
from tests.integration.fencing.faults import arrange, others
from tests.support.cluster import DevCluster

INFLIGHT = 6
LIMIT = 40.0


class _InFlight:
    """A PUT or GET that is sent to a node now and whose answer is read later."""

    def __init__(self, cluster: DevCluster, node: int, *, warm: bool) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", cluster.port + node - 1, timeout=LIMIT)
        self._connection.connect()
        if warm:  # a thread of the node knows this connection already
            self._connection.request("GET", "/demo/register.txt")
            self._connection.getresponse().read()

    def begin(self, method: str, name: str, body: bytes | None = None) -> None:
        self._connection.request(method, f"/demo/{name}", body)

    def begin_half(self, name: str, first: bytes, length: int) -> None:
        self._connection.putrequest("PUT", f"/demo/{name}")
        self._connection.putheader("Content-Length", str(length))
        self._connection.endheaders(first)

    def rest(self, data: bytes) -> None:
        self._connection.send(data)

    def end(self) -> tuple[int, bytes]:
        """(status, body); status 0 if the connection broke."""
        try:
            answer = self._connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException):
            return 0, b""
        finally:
            self._connection.close()


def _put(cluster: DevCluster, number: int, name: str, data: bytes) -> None:
    with cluster.client(number, timeout=LIMIT) as client:
        answer = client.put(name, data)
        assert answer.ok, cluster.story(f"PUT through node {number} was answered {answer.status}: {answer.body!r}")


def _volume(inside: Inside, asked: int) -> tuple[str, int]:
    (volume,) = [v for v in inside.ask(asked, "admin.status")["volumes"] if v["name"] == "demo"]
    return volume["holder"], volume["epoch"]


def test_a_holder_that_slept_through_its_end_gets_nothing_acknowledged(cluster: DevCluster, inside: Inside) -> None:
    holder, _ = arrange(cluster, inside, holder_leads=False)
    left = others(cluster, holder)
    names = [f"inside-{n}.bin" for n in range(INFLIGHT)]
    for name in ("register.txt", *names):
        _put(cluster, holder, name, b"before")
    epoch_before = _volume(inside, left[0])[1]
    warm = [_InFlight(cluster, holder, warm=True) for _ in range(INFLIGHT)]
    halves = warm[-2:]
    late = b"late" * 100_000
    for name, half in zip(names[-2:], halves, strict=True):
        half.begin_half(name, late[:150_000], len(late))
    time.sleep(0.3)

    with stopped(cluster, holder):
        for name, request in zip(names[:-2], warm[:-2], strict=True):
            request.begin("PUT", name, b"late")
        for half in halves:
            half.rest(late[150_000:250_000])
        for name in ("register.txt", *names):
            _put(cluster, left[0], name, b"after")
        new_holder, epoch = _volume(inside, left[0])
        assert new_holder != f"node-{holder}"
        assert epoch > epoch_before
        reads = [_InFlight(cluster, holder, warm=False) for _ in range(INFLIGHT)]
        for read in reads:
            read.begin("GET", "register.txt")  # sent after "after" was acknowledged
        time.sleep(0.5)
    for half in halves:
        half.rest(late[250_000:])

    statuses = [request.end()[0] for request in warm]
    seen = [read.end() for read in reads]
    print(f"writes that were in flight: {statuses}; reads: {[status for status, _ in seen]}")
    assert all(body == b"after" for status, body in seen if status == 200), seen
    assert all(status in (0, 200, 503) for status, _ in seen), seen

    cluster.until("the node to serve again", lambda: _get(cluster, holder, "register.txt")[0] == 200, LIMIT)
    for name, status in zip(names, statuses, strict=True):
        found = {_get(cluster, number, name) for number in (holder, *left)}
        assert len(found) == 1, f"{name}: the nodes differ"
        ((_, data),) = found
        # What it acknowledged went through the new holder, so everybody sees it; anything else took effect whole or never.
        if status in (200, 201, 204):
            assert data in (b"late", late), name
        else:
            assert data in (b"after", b"late", late), name
    assert _volume(inside, holder) == (new_holder, epoch)
    _put(cluster, holder, "healed.txt", b"through the node that slept")
    assert {_get(cluster, number, "healed.txt")[1] for number in left} == {b"through the node that slept"}


def _get(cluster: DevCluster, number: int, name: str) -> tuple[int, bytes]:
    with cluster.client(number, timeout=10) as client:
        try:
            answer = client.get(name)
        except (OSError, http.client.HTTPException):
            return 0, b""
    return answer.status, answer.body
