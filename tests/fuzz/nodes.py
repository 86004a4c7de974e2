"""What a node answers to other nodes and to programs: methods with arguments of any kind, and the HTTP API, over a replica."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from random import Random
from typing import Any

import msgpack

from davfs.core.errors import DavfsError
from davfs.node.http_api import HttpApi
from davfs.rpc.api import ApiRequest
from tests.fuzz.bodies import MSGPACK_TOKENS, packed
from tests.fuzz.runner import Failed, Parser
from tests.golden.history import E2, VOLUME
from tests.property.test_bad_bytes import TOKEN, Node, truth

BEHIND = 4
METHODS = ("replica.seal", "replica.append", "replica.confirm", "replica.read_log", "replica.read_late", "replica.take_late",
    "replica.snapshot_read", "replica.standing",
           "chunk.put", "chunk.get", "chunk.check", "chunk.free", "chunk.held", "chunk.keep", "chunk.collect_begin",
           "chunk.collect_page", "chunk.collect_remove")  # fmt: skip
ODD: tuple[Any, ...] = (
    None, True, -1, 0, 1 << 63, 1.5, float("nan"), "", "x", "0" * 64, VOLUME, b"", TOKEN, [], [1], [1, 2, 3], [[1, 2], 3],
        {}, {"a": 1},
)  # fmt: skip


def make_call(random: Random) -> bytes:
    """[method, arguments, blob] with some arguments wrong, missing or too many."""
    log, before, _ = truth()
    args: dict[str, Any] = {
        "volume": VOLUME, "epoch": list(E2), "token": TOKEN, "previous": [list(before[BEHIND].epoch), BEHIND],
        "records": [len(log[BEHIND])],
        "chunks": [], "committed": BEHIND, "first": 1, "limit": 1000, "trim": 0, "digest": "0" * 64, "after": [[0, 0], 0],
        "id": "x",
        "offset": 0, "size": 100, "digests": ["0" * 64], "run": "r", "since": 5,
        "volumes": [VOLUME], "positions": [[list(before[BEHIND + 1].epoch), BEHIND + 1]],
    }  # fmt: skip
    while random.random() < 0.7:
        name = random.choice([*args, "x"])
        args[name] = random.choice(ODD)
        if random.random() < 0.2:
            del args[name]
    return packed([random.choice(METHODS), args, log[BEHIND] if random.random() < 0.5 else random.randbytes(
        random.randrange(50))])


class _Replica:
    """One replica for many calls; made anew when something has entered it."""

    def __init__(self, stack: ExitStack) -> None:
        self.node: Node | None = None
        self._there: Any = None
        stack.callback(self.close)

    def begin(self) -> Node:
        if self.node is None:
            log, before, _ = truth()
            self.node = Node()
            self.node.append(before[0], log[:BEHIND], BEHIND)
            self.node.replica.apply_committed()
            self._there = (self.node.store.sealed, self.node.store.committed, self.node.store.last)
        return self.node

    def end(self) -> None:
        assert self.node is not None
        self.node.replica.apply_committed()
        store = self.node.store
        if store.sealed != self._there[0] or not BEHIND <= store.committed.seq <= BEHIND + 1:
            raise Failed(f"sealed at {store.sealed}, committed up to {store.committed}")
        if (store.sealed, store.committed, store.last) != self._there:
            self.close()

    def close(self) -> None:
        if self.node is not None:
            self.node.close()
            self.node = None


def _calls(stack: ExitStack) -> Callable[[bytes], object]:
    replica = _Replica(stack)

    def attempt(data: bytes) -> None:
        try:
            method, args, blob = msgpack.unpackb(data, raw=False, strict_map_key=False)
        except (ValueError, TypeError, msgpack.UnpackException):
            return
        node = replica.begin()
        if type(method) is not str or type(args) is not dict or type(blob) is not bytes or method not in METHODS:
            return
        # Which volume: a volume that is not here is waited for, which is the directory's business.
        try:
            node.ask(method, {**args, "volume": VOLUME} if method.startswith("replica.") else args, blob)
        finally:
            replica.end()

    return attempt


def make_api(random: Random) -> bytes:
    """Target, fields and body of a request to the HTTP API."""
    log, _, _ = truth()
    target = random.choice((
        "/v1/cluster", "/v1/volumes/demo", "/v1/volumes/demo/assign", "/v1/volumes/demo/seal",
        f"/v1/volumes/demo/chunks/{'0' * 64}",
        "/v1/volumes/demo/records?first=1&limit=1000", f"/v1/volumes/demo/records?previous={E2[0]}.1.{BEHIND}&committed=0",
    ))  # fmt: skip
    body = random.choice((b"", b'{"ttl": 5}', b"[" * 3000, len(log[BEHIND]).to_bytes(4, "big") + log[BEHIND], b"\0\0\0\0"))
    epoch = ".".join(map(str, E2))
    method = random.choice(("GET", "POST", "PUT", "DELETE"))
    return b"\n".join([method.encode(), target.encode(), b"Bearer " + TOKEN.hex().encode(), epoch.encode(), body])


def _api(stack: ExitStack) -> Callable[[bytes], object]:
    replica = _Replica(stack)

    def attempt(data: bytes) -> None:
        method, target, bearer, epoch, body = [*data.split(b"\n", 4), b"", b"", b"", b"", b""][:5]
        node = replica.begin()

        def handler(name: str) -> Callable[[str, dict[str, Any], bytes], tuple[Any, bytes | memoryview]]:
            def handle(peer: str, args: dict[str, Any], blob: bytes) -> tuple[Any, bytes | memoryview]:
                reply = node.ask(name, args, blob)
                return reply.value, reply.blob

            return handle

        api = HttpApi({name: handler(name) for name in METHODS}, node.site.state)
        fields = {"authorization": bearer.decode("latin-1"), "davfs-epoch": epoch.decode("latin-1")}
        try:
            answer = api(ApiRequest("node-2", method.decode("latin-1"), target.decode("latin-1"), fields, body))
            if answer.status >= 500:
                raise Failed(f"{answer.status}: {answer.body[:100]!r}")
            if answer.status >= 400:
                raise DavfsError
        except KeyError as error:
            if str(error).strip("'").split(".")[0] != "token":  # what another part of the node answers
                raise
        finally:
            replica.end()

    return attempt


PARSERS = (
    Parser("node-method", _calls, make_call, (DavfsError,), MSGPACK_TOKENS, share=0.2, intact=0.6),
    Parser("node-api", _api, make_api, (DavfsError,), (b"/v1/volumes/demo/", b"%00", b"first=", b"&", b"//[", b"Bearer "),
        share=0.2, intact=0.4),
)
