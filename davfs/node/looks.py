"""Looks at a volume's replica for tools: one committed state, held open over several calls (``node.look_*``).

``davfs volume export`` walks the tree of such a state, ``davfs volume fsck`` examines it. A look that nobody asks anything of
for a while is closed: it keeps the write-ahead log of its database from being used anew. Nothing is changed.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from itertools import islice
from threading import Lock
from typing import Any

from davfs.cluster import tree_walk
from davfs.cluster.conflicts import listing
from davfs.cluster.fsck import Examination, Step
from davfs.cluster.gateway import Gateway
from davfs.cluster.replica import Replica
from davfs.cluster.replicas import Replicas
from davfs.cluster.site import Site
from davfs.core.effects import Protocol_, Sleep
from davfs.core.errors import InvalidInput, NotFound, Unavailable
from davfs.core.model import ChunkRef
from davfs.core.ports import Audit
from davfs.node.admin import Handler

MOST = 4
"""Looks that one node has open at once."""

IDLE_S = 60.0
PAUSE_S = 5.0
"""How long replicas wait for each other before a look; none of them holds a volume, so no request waits."""

STEP_S = 1.0
"""About how long one call works."""

PAGE = 500
PAGE_CHUNKS = 2000
PAGE_BYTES = 1 << 20


class _Look:
    def __init__(self, volume: str, audit: Audit, stack: ExitStack, examination: Examination) -> None:
        self.lock = Lock()
        self.volume = volume
        self.audit = audit
        self.stack = stack
        self.examination = examination
        self.steps: Iterator[Step] = examination.steps()
        self.items: Iterator[dict[str, Any]] = tree_walk.walk(audit.index)
        self.conflicts: Iterator[dict[str, Any]] = listing(audit.index)
        self.chunks: Iterator[list[ChunkRef]] = tree_walk.chunks(audit.index, PAGE_CHUNKS)
        self.used = time.monotonic()


class Looks:
    """The looks that are open on this node. Thread-safe."""

    def __init__(self, site: Site, replicas: Replicas, gateway: Gateway) -> None:
        self._site = site
        self._replicas = replicas
        self._gateway = gateway
        self._lock = Lock()
        self._open: dict[str, _Look] = {}
        self._stopped = False

    def handlers(self) -> Mapping[str, Handler]:
        """Method name -> handler."""
        return {
            "node.look_pause": _method(self.pause),
            "node.look_open": _method(self.open),
            "node.look_walk": self._of_look(self._walk),
            "node.look_examine": self._of_look(self._examine),
            "node.look_chunks": self._of_look(self._chunks),
            "node.look_conflicts": self._of_look(self._conflicts),
            "node.look_close": _method(self.close),
        }

    # --- opening ----------------------------------------------------------------------------------------------------

    def pause(self, args: Mapping[str, Any]) -> dict[str, Any]:
        """Let this node's replica stay where it is for a moment; its position."""
        replica = self._replicas.get(self._volume(args))
        at = replica.pause(replica.store.committed.seq, PAUSE_S)
        return {"committed": [list(at.epoch), at.seq]}

    def open(self, args: Mapping[str, Any]) -> dict[str, Any]:
        """Open a look. ``current``: only as the volume's holder (taking it if it is free), so that all that was answered
        before is in it; :class:`NotHolder` says who is. ``at``: a seq that a paused replica is to go to."""
        volume = self._volume(args)
        if args.get("current"):
            self._gateway.holder(str(args["volume"]))
        replica = self._replicas.get(volume)
        if args.get("at") is not None:
            self._go_to(replica, int(args["at"]))
        self._sweep()
        stack = ExitStack()
        try:
            audit = stack.enter_context(replica.store.audit())
            committed = audit.index.committed  # from its first read on, the state stays this one
            if args.get("at") not in (None, committed.seq):
                raise Unavailable(f"the replica on {self._site.node} is at {committed} already; try again")
            look = _Look(volume, audit, stack, Examination(audit, self._site.documents, volume))
            number = secrets.token_hex(16)
            with self._lock:
                if len(self._open) >= MOST or self._stopped:
                    raise Unavailable(f"{self._site.node} has {MOST} looks open already; wait until one has ended")
                self._open[number] = look
        except BaseException:
            stack.close()
            raise
        finally:
            replica.pause(0, 0.0)
        files, size = audit.index.usage()
        return {"look": number, "committed": [list(committed.epoch), committed.seq], "files": files, "bytes": size}

    def _go_to(self, replica: Replica, seq: int) -> None:
        replica.pause(seq, PAUSE_S)
        ends = time.monotonic() + PAUSE_S
        while replica.store.committed.seq < seq:
            if broken := replica.store.broken:
                raise Unavailable(f"the replica on {self._site.node} is of no use: {broken}")
            if time.monotonic() > ends:
                raise Unavailable(f"the replica on {self._site.node} does not get to record {seq}; it is behind")
            time.sleep(0.01)

    def close(self, args: Mapping[str, Any]) -> dict[str, Any]:
        """End a look. No error if it has ended."""
        with self._lock:
            look = self._open.pop(str(args.get("look")), None)
        if look is not None:
            with look.lock:
                look.stack.close()
        return {}

    def keep(self) -> Protocol_[None]:
        """The background task that closes what was forgotten."""
        while not self._stopped:
            yield Sleep(IDLE_S / 6)
            self._sweep()

    def stop(self) -> None:
        """Close all of them, before the stores are closed."""
        self._stopped = True
        for number in list(self._open):
            self.close({"look": number})

    def _sweep(self) -> None:
        now = time.monotonic()
        for number, look in list(self._open.items()):
            if now - look.used > IDLE_S:
                self.close({"look": number})

    # --- looking ----------------------------------------------------------------------------------------------------

    def _walk(self, look: _Look) -> dict[str, Any]:
        """The next items of the tree (``cluster/tree_walk.py``)."""
        items: list[dict[str, Any]] = []
        size = 0
        for item in look.items:
            items.append(item)
            size += 200 + 100 * len(item.get("chunks", ())) + 100 * len(item.get("more", ()))
            size += sum(map(len, item.get("properties", {}).values()))
            if len(items) >= PAGE or size >= PAGE_BYTES:
                return {"items": items, "done": False}
        return {"items": items, "done": True}

    def _examine(self, look: _Look) -> dict[str, Any]:
        """Go on examining for about a second: what was found, and how far it is."""
        ends = time.monotonic() + STEP_S
        problems: list[list[str]] = []
        phase, done = "", 0
        for step in look.steps:
            phase, done = step.phase, step.done
            problems += [list(problem) for problem in step.problems]
            if time.monotonic() >= ends or len(problems) >= PAGE:
                return {"phase": phase, "count": done, "problems": problems, "digest": ""}
        return {"phase": phase, "count": done, "problems": problems, "digest": look.examination.digest}

    def _chunks(self, look: _Look) -> dict[str, Any]:
        """The next chunks that manifests name."""
        page = [chunk for run in islice(look.chunks, 1) for chunk in run]
        return {"chunks": [[c.digest, c.size, list(c.nodes)] for c in page], "done": not page}

    def _conflicts(self, look: _Look) -> dict[str, Any]:
        """The next conflict copies and late records that were dropped."""
        page = list(islice(look.conflicts, PAGE))
        return {"conflicts": page, "done": not page}

    # --- inside -----------------------------------------------------------------------------------------------------

    def _of_look(self, answer: Callable[[_Look], dict[str, Any]]) -> Handler:
        def handler(peer: str, args: dict[str, Any], blob: bytes) -> tuple[Any, bytes]:
            with self._lock:
                look = self._open.get(str(args.get("look")))
            if look is None:
                raise NotFound("that look has ended: nothing was asked of it for a while, or the node was restarted")
            with look.lock:
                look.used = time.monotonic()
                try:
                    with look.audit.translated():
                        return answer(look), b""
                finally:
                    look.used = time.monotonic()

        return handler

    def _volume(self, args: Mapping[str, Any]) -> str:
        name = args.get("volume")
        if not isinstance(name, str):
            raise InvalidInput("volume must be a volume's name")
        return self._site.state.volume_named(name).id


def _method(answer: Callable[[Mapping[str, Any]], Any]) -> Handler:
    return lambda _peer, args, _blob: (answer(args), b"")
