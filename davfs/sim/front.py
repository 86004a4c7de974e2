"""A node's front for simulated clients: finds the holder like the DAV side does, and does one operation through it.

Follows ``dav/forwarding.py`` (a request is sent again only while that is harmless) and ``cluster/volume.py``, which are
bound to threads. Operations and their results are plain values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from davfs.cluster import changes, copying, dav_locks, entering, files, partial, tree
from davfs.cluster.api import Caller, Forward, LockRequest, PartPlace, Reader
from davfs.cluster.holder import Holder
from davfs.cluster.holdings import Holdings
from davfs.cluster.site import Site
from davfs.core.chunking import spans
from davfs.core.conflict_names import is_conflict_name
from davfs.core.effects import Call, Protocol_, Reply, Sleep
from davfs.core.errors import (
    CallTimeout,
    DavfsError,
    Forbidden,
    NoSpace,
    NotHolder,
    OutcomeUnknown,
    StaleEpoch,
    Unreachable,
)
from davfs.core.model import Entry
from davfs.core.sessions import SessionKey

FORWARD_S = 6.0
WANTING = (OutcomeUnknown.status, NoSpace.status)  # as in ``dav/forwarding.py``
WRITING = ("put", "write", "copy")


class Front:
    """Serves simulated requests: ``{"op": [kind, path, ...], "id": request id, "forwarded": bool}``, which may submit
    lock ``tokens`` and belong to a ``session`` (account, address, User-Agent). ``answered`` is told of each that was carried
    out here, before anything else happens."""

    def __init__(
        self, site: Site, holdings: Holdings, volume: str, answered: Callable[[Holder, Mapping[str, Any]], None]
    ) -> None:
        self._answered = answered
        self._site = site
        self._holdings = holdings
        self._volume = volume

    def serve(self, request: Mapping[str, Any]) -> Protocol_[Any]:
        """The result of one request, from here or from the holder."""
        if request["forwarded"]:
            where = yield from self._holdings.find(self._volume, True)
            if isinstance(where, Forward):
                raise NotHolder(f"{self._site.node} does not hold the volume", holder=where.node)
            return (yield from self._perform(where, request))
        ends = self._site.clock.now() + 2 * self._site.timing.ttl + 4
        unsure = False
        avoid: Forward | None = None
        while True:
            try:
                where = yield from self._holdings.find(self._volume, False, avoid)
                avoid = where if isinstance(where, Forward) else None
                if isinstance(where, Forward):
                    return (yield from self._forward(where, request))
                return (yield from self._perform(where, request))
            except (NotHolder, StaleEpoch, Unreachable, OutcomeUnknown) as error:
                unsure = unsure or isinstance(error, OutcomeUnknown)
                if (isinstance(error, OutcomeUnknown) and avoid is None) or self._site.clock.now() >= ends:
                    if unsure:
                        raise OutcomeUnknown() from error
                    raise
            except DavfsError as error:
                # 503 is what a client that cannot know is told (design, section 3: record sent, quorum unknown).
                if unsure and (error.status in WANTING or request["op"][0] in WRITING):
                    raise OutcomeUnknown() from error
                raise
            yield Sleep(0.05)

    def _perform(self, holder: Holder, request: Mapping[str, Any]) -> Protocol_[Any]:
        result = yield from perform(holder, request)
        self._answered(holder, request)
        return result

    def _forward(self, where: Forward, request: Mapping[str, Any]) -> Protocol_[Any]:
        try:
            reply: Reply = yield Call(where.node, "dav", {**request, "forwarded": True}, timeout=FORWARD_S)
        except CallTimeout as error:
            raise OutcomeUnknown(f"{where.node} did not answer") from error
        return reply.value


def perform(holder: Holder, request: Mapping[str, Any]) -> Protocol_[Any]:
    """Do one operation through the holder, as part of its session if it has one."""
    if "session" not in request:
        return (yield from _perform(holder, request))
    visit = yield from entering.enter(holder, SessionKey(*request["session"]), holder.site.node)
    try:
        return (yield from _perform(holder, request))
    finally:
        visit.end()


def _perform(holder: Holder, request: Mapping[str, Any]) -> Protocol_[Any]:
    kind, *arguments = request["op"]
    caller = Caller("someone", frozenset(request.get("tokens", ())), request["id"])
    path = tuple(arguments[0])
    if kind == "get":
        return (yield from _get(holder, path))
    if kind == "list":
        return _list(holder, path)
    if kind == "props":
        return _properties(holder, path)
    if kind == "put":
        body: bytes = arguments[1]
        made = yield from files.put(holder, path, _reader(body), len(body), 1, _no_condition, caller, lambda: None)
        return made[1]
    if kind == "write":
        place, part = PartPlace(arguments[1]), arguments[2]
        yield from partial.write(holder, path, place, _reader(part), len(part), 1, _no_condition, caller)
        return True
    if kind == "proppatch":
        name, value = arguments[1:]
        sets, removes = ({}, [name]) if value is None else ({name: value}, [])
        yield from changes.proppatch(holder, path, sets, removes, _no_condition, caller, None)
        return True
    if kind == "mkcol":
        yield from changes.mkcol(holder, path, _no_condition, caller)
        return True
    if kind == "delete":
        yield from changes.delete(holder, path, _no_condition, caller)
        return True
    if kind == "lock":
        wish = LockRequest(arguments[1], False, True, "", caller.principal, arguments[2])
        return (yield from dav_locks.lock(holder, path, wish, _no_condition, caller))[1]
    if kind == "unlock":
        return (yield from dav_locks.unlock(holder, path, arguments[1], caller))
    target, overwrite = tuple(arguments[1]), arguments[2]
    if kind == "copy":
        return (yield from copying.copy(holder, path, target, overwrite, False, _no_condition, caller, None))
    return (yield from changes.move(holder, path, target, overwrite, _no_condition, caller, None))


def _reader(body: bytes) -> Reader:
    rest = memoryview(body)

    def read(size: int) -> bytes:
        nonlocal rest
        block, rest = bytes(rest[:size]), rest[size:]
        return block

    return read


def _get(holder: Holder, path: tuple[str, ...]) -> Protocol_[bytes]:
    holder.check_lease()
    with holder.replica.store.view() as view:
        entry = tree.require(view, path)
        if entry.is_directory:
            raise Forbidden("a collection has no content")
        held = view.manifest(entry.inode)
    file = files.OpenFile(holder, entry, held[1] if held is not None else None)
    blocks = []
    for span in spans(0, entry.size, file.chunk_size):
        blocks.append(bytes((yield from file.read_span(span))))
    return b"".join(blocks)


def _list(holder: Holder, path: tuple[str, ...]) -> list[str]:
    holder.check_lease()
    with holder.replica.store.view() as view:
        children = view.children(tree.require_directory(view, path).inode)
    # Conflict copies are judged by themselves: they are what an unknown outcome may leave (invariant 3).
    names = [entry for entry in children if not is_conflict_name(entry.name)]
    return [f"{entry.name}/" if entry.is_directory else entry.name for entry in names]


def _properties(holder: Holder, path: tuple[str, ...]) -> list[tuple[str, str]]:
    holder.check_lease()
    with holder.replica.store.view() as view:
        found = view.properties(tree.require(view, path).inode)
    return sorted((name, value) for name, (_, value) in found.items())


def _no_condition(entry: Entry | None) -> None:
    """Requests without conditions."""
