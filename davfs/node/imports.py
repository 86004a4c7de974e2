"""What ``davfs volume import`` asks of a volume's holder: chunks of large files, and entries (``node.import_*``).

Nothing is remembered between calls but which chunks this node was promised: if the volume moves to another node meanwhile,
that one makes sure of them and the import goes on. Reached by nodes of the cluster only.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Mapping
from threading import Lock
from typing import Any

import msgpack

from davfs.cluster.api import Caller
from davfs.cluster.gateway import Gateway
from davfs.cluster.holder import Holder
from davfs.cluster.keeping import confirm
from davfs.cluster.restore import Item, Mode, restore, store_chunk
from davfs.cluster.threads import ThreadRuntime
from davfs.core.errors import InvalidInput
from davfs.core.model import DIRECTORY, FILE, ChunkRef
from davfs.core.names import check_name, check_path
from davfs.node.admin import Handler

PROMISED = 100_000
"""Chunks that are remembered, so that they are not read again to make sure of them."""

PROMISE_S = 300.0
ITEMS = 1000


class Imports:
    """The methods over one node's gateway. Thread-safe."""

    def __init__(self, gateway: Gateway, runtime: ThreadRuntime) -> None:
        self._gateway = gateway
        self._runtime = runtime
        self._lock = Lock()
        self._promised: OrderedDict[tuple[str, str], float] = OrderedDict()  # (volume, digest) -> when

    def handlers(self) -> Mapping[str, Handler]:
        """Method name -> handler."""
        return {
            "node.import_chunk": self._chunk,
            "node.import_put": self._put,
        }

    def _chunk(self, _peer: str, args: dict[str, Any], blob: bytes) -> tuple[Any, bytes]:
        """Store one chunk of a file; its reference, for the file's entry."""
        holder = self._holder(args)
        seed, number = args.get("seed"), args.get("number")
        if not isinstance(seed, str) or type(number) is not int or number < 0:
            raise InvalidInput("seed must be a text and number the chunk's place in its file")
        if not 0 < len(blob) <= holder.state().policy.chunk_size:
            raise InvalidInput(f"a chunk of this volume has 1 to {holder.state().policy.chunk_size} bytes")
        made = self._runtime.run(store_chunk(holder, blob, seed, number))
        with self._lock:
            self._promised[holder.credentials.volume, made.digest] = time.monotonic()
            while len(self._promised) > PROMISED:
                self._promised.popitem(last=False)
        return {"chunk": [made.digest, made.size, list(made.nodes)]}, b""

    def _put(self, _peer: str, args: dict[str, Any], blob: bytes) -> tuple[Any, bytes]:
        """Make entries, all or none. ``blob``: msgpack, a list of maps (docs/PROTOCOL.md)."""
        holder = self._holder(args)
        try:
            mode = Mode(args.get("mode"))
            raw = msgpack.unpackb(blob, raw=False)
            if not isinstance(raw, list) or not 0 < len(raw) <= ITEMS:
                raise InvalidInput(f"1 to {ITEMS} entries can be made at once")
            items = [_item(entry, holder.state().policy.chunk_size) for entry in raw]
        except (ValueError, TypeError, KeyError, AttributeError, msgpack.UnpackException) as error:
            raise InvalidInput(f"a malformed request: {error!r}") from error
        for item in items:
            self._confirm(holder, item.chunks)
        caller = Caller(request_id=str(args.get("request_id") or ""), admin=True)
        return {"done": self._runtime.run(restore(holder, items, mode, caller))}, b""

    def _holder(self, args: Mapping[str, Any]) -> Holder:
        name = args.get("volume")
        if not isinstance(name, str):
            raise InvalidInput("volume must be a volume's name")
        return self._gateway.holder(name)

    def _confirm(self, holder: Holder, chunks: tuple[ChunkRef, ...]) -> None:
        """Whatever was not promised here, or long ago, is made sure of before an entry names it."""
        volume, policy = holder.credentials.volume, holder.state().policy
        since = time.monotonic() - min(PROMISE_S, holder.site.timing.grace / 2)
        with self._lock:
            old = [chunk for chunk in chunks if self._promised.get((volume, chunk.digest), since) <= since]
        self._runtime.run(confirm(holder.site, holder.credentials, old, policy.write_quorum))


def _item(entry: Mapping[str, Any], chunk_size: int) -> Item:
    """ValueError, TypeError or :class:`InvalidInput` for anything that is not one."""
    path = check_path(check_name(name) for name in entry["path"])
    kind, data = entry["kind"], entry.get("data", b"")
    chunks = tuple(ChunkRef(digest, size, tuple(nodes)) for digest, size, nodes in entry.get("chunks", ()))
    if kind not in (FILE, DIRECTORY) or (not path and kind != DIRECTORY):
        raise ValueError("an entry is a file or a directory, and the root a directory")
    if (data and chunks) or (kind == DIRECTORY and (data or chunks)) or not isinstance(data, bytes):
        raise ValueError("an entry has bytes or chunks, a directory neither")
    if any(chunk.size != chunk_size for chunk in chunks[:-1]) or any(chunk.size > chunk_size for chunk in chunks[-1:]):
        raise ValueError(f"all chunks but the last have {chunk_size} bytes")
    times = entry["mtime_ns"], entry.get("created_ns")
    if type(times[0]) is not int or not (times[1] is None or type(times[1]) is int):
        raise ValueError("times are whole nanoseconds")
    if any(abs(time or 0) >= 1 << 63 for time in times):
        raise ValueError("times are of the years 1678 to 2262")
    given = entry.get("properties", {})
    if given is None and kind != DIRECTORY:
        raise ValueError("a file has properties, if only none")
    properties = None if given is None else {str(name): str(xml) for name, xml in given.items()}
    digests = tuple(sorted((str(name), str(digest)) for name, digest in entry.get("digests", {}).items()))
    return Item(path, kind, times[0], times[1], properties, data, chunks, digests)
