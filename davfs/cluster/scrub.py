"""The scrub: a node walks its volume replicas and makes sure of every copy that their manifests say it has.

Right after a start it looks only whether the copies are there, for what a restart forgot to fetch; later, once a day
unless told otherwise, it verifies each against its digest, so that rot is found and repaired while other copies are good
(invariants 4 and 7). Slow on purpose: ``rate`` bytes a second. A verifying pass also compares the documents of this node's
replica with its index, page by page: what it finds there is told, and repaired by nobody (docs/OPERATIONS.md).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from davfs.cluster import books
from davfs.cluster.chunk_read import fetch_missing, read_chunk
from davfs.cluster.fsck import page
from davfs.cluster.manifests import chunk_page, named_up_to
from davfs.cluster.replicas import Replicas
from davfs.cluster.site import Site
from davfs.core.book_port import Book
from davfs.core.effects import Call, Gather, Outcomes, Protocol_, Reply, Sleep
from davfs.core.errors import ChunkMissing, CorruptData, DavfsError
from davfs.core.model import MIB, ChunkRef, Position
from davfs.core.ports import ReplicaStore

log = logging.getLogger(__name__)

START_DELAY_S = 10.0
PAGE_S = 0.2
"""How long a pass rests after each page of documents, which takes some tens of milliseconds."""
LOOK_S = 0.0005
"""What looking at one copy is reckoned to take, beside its bytes."""
DUE_S = 600.0
"""How often a node looks whether a verifying pass is due, at the least."""

COUNTED_AT_ONCE = 2000
EXAMPLES = 20


@dataclass(slots=True)
class Findings:
    """What one pass over one volume found: copies looked at, missing or wrong ones, those that were repaired.

    By the first of the volume's replicas that is up and can be used, for all: ``short``, chunks that fewer than W of their
    nodes say they have (those that do not answer do not count), with some ``examples``. ``damage``: of how many entries this
    node's replica shows something else than its documents say; some examples are among the others.
    """

    copies: int = 0
    bad: int = 0
    repaired: int = 0
    short: int = 0
    damage: int = 0
    examples: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Pass:
    """A pass over one volume, or how far it has come. By the wall clock: when it ``began_ns``, and when the last verifying pass
    that came to its end did (``verified_ns``; the first one is reckoned from when the node first looked at the volume)."""

    volume: str
    verify: bool
    began_ns: int
    verified_ns: int = 0
    found: Findings = field(default_factory=Findings)
    done: bool = False
    error: str = ""

    def wire(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)

    @classmethod
    def of_wire(cls, values: Mapping[str, Any]) -> Pass:
        """From plain values; :class:`TypeError` or :class:`KeyError` if they are none of a pass."""
        made = cls(**{**values, "found": Findings(**values["found"])})
        if not (type(made.volume) is str and type(made.verified_ns) is int and type(made.began_ns) is int):
            raise TypeError("its volume or its times are of a wrong type")
        return made


class _Page:
    """Manifests that a pass is at: those whose inode follows ``after``, up to ``last``."""

    def __init__(self, store: ReplicaStore, after: str, last: str) -> None:
        self._store = store
        self._after = after
        self._last = last
        self._at: Position | None = None
        self._named: set[str] = set()

    def names(self, chunk: ChunkRef) -> bool:
        """Whether one of them names a chunk by now. They are read again only after a change, for a disk may have lost all."""
        at = self._store.committed
        if at != self._at:
            with self._store.view() as view:
                self._named = named_up_to(view, self._after, self._last)
            self._at = at
        return chunk.digest in self._named


class Scrub:
    """The background task of one node. ``interval_s``: between verifying passes, also over restarts if there is a ``book``;
    ``rate``: bytes a second."""

    def __init__(
        self, site: Site, replicas: Replicas, interval_s: float = 86_400.0, rate: int = 16 * MIB, book: Book | None = None
    ) -> None:
        self._site = site
        self._replicas = replicas
        self._interval = interval_s
        self._rate = rate
        self._stopped = False
        self._book = book
        self.passes = {made.volume: made for made in books.taken(book, Pass.of_wire)}  # volume -> its last pass

    def stop(self) -> None:
        self._stopped = True

    def run(self) -> Protocol_[None]:
        """Look for missing copies once, then verify all copies again and again."""
        yield Sleep(START_DELAY_S)
        yield from self._look(verify=False)
        while not self._stopped:
            yield from self._look(verify=True)
            yield Sleep(min(self._interval, DUE_S))

    def _look(self, verify: bool) -> Protocol_[None]:
        for replica in self._replicas.all():
            if self.is_at_work(replica.volume):
                continue  # somebody asked for it, and waits for that pass to be done
            if not verify or self._is_due(replica.volume):
                yield from self.go(self.begin(replica.volume, verify), replica.store)

    def _is_due(self, volume: str) -> bool:
        """Whether a verifying pass is; also when the wall clock is before the last one."""
        last = self.passes.get(volume)
        return last is None or not 0 <= self._site.clock.wall_ns() - last.verified_ns < self._interval * 1e9

    def is_at_work(self, volume: str) -> bool:
        """Whether a pass over the volume has begun and not ended."""
        last = self.passes.get(volume)
        return last is not None and not last.done and not last.error

    def begin(self, volume: str, verify: bool) -> Pass:
        """A pass that ``go`` makes."""
        now, last = self._site.clock.wall_ns(), self.passes.get(volume)
        self.passes[volume] = made = Pass(volume, verify, now, now if last is None else last.verified_ns)
        return made

    def go(self, made: Pass, store: ReplicaStore) -> Protocol_[None]:
        """Make a pass; its errors stand in it."""
        try:
            yield from self.volume(made.volume, store, made.verify, made.found)
            made.done = not self._stopped
            if made.done and made.verify:
                made.verified_ns = made.began_ns
        except DavfsError as error:
            made.error = error.message
            log.warning("volume %s: the scrub ended early: %s", made.volume, error)
        if made.found.bad or made.found.short or made.found.damage or made.verify:
            log.warning("volume %s: scrub: %s", made.volume, made.found)
        self._save()

    def _save(self) -> None:
        known = self._site.state.volumes
        made = [one for one in list(self.passes.values()) if one.volume in known and (one.done or one.error)]
        books.keep(self._book, [one.wire() for one in made])

    def volume(self, volume: str, store: ReplicaStore, verify: bool, found: Findings | None = None) -> Protocol_[Findings]:
        """One pass over one volume."""
        found = Findings() if found is None else found
        if verify:
            yield from self._documents(volume, store, found)
        after: str | None = ""
        while after is not None and not self._stopped:
            page_after = after
            with store.view() as view:
                after, chunks = chunk_page(view, after)
            here = _Page(store, page_after, after or "")
            budget = 0.0
            for chunk in chunks:
                for node in self._nodes_of(volume, chunk):
                    found.copies += 1
                    budget += LOOK_S + (chunk.size / self._rate if verify else 0.0)
                    yield from self._copy(volume, here, chunk, node, verify, found)
                if budget > 0.1:
                    yield Sleep(budget)
                    budget = 0.0
            if self._replicas.leads(volume):
                wanted = list({chunk.digest: chunk for chunk in chunks}.values())
                for start in range(0, len(wanted), COUNTED_AT_ONCE):
                    yield from self._count(volume, wanted[start : start + COUNTED_AT_ONCE], found)
        return found

    def _documents(self, volume: str, store: ReplicaStore, found: Findings) -> Protocol_[None]:
        """Compare documents and index. No state is held from one page to the next: what is written meanwhile needs none."""
        after: str | None = ""
        while after is not None and not self._stopped:
            with store.audit() as audit, audit.translated():
                after, problems = page(audit, self._site.documents, volume, after)
            found.damage += len(problems)
            for problem in problems:
                log.error("volume %s: the replica of this node is damaged: %s: %s", volume, problem.kind, problem.text)
                if len(found.examples) < EXAMPLES:
                    found.examples.append(f"the replica on {self._site.node}: {problem.kind}: {problem.text}")
            yield Sleep(PAGE_S)

    def _nodes_of(self, volume: str, chunk: ChunkRef) -> list[str]:
        """The nodes whose copy this node looks at: itself, and, if it leads, those that keep no replica."""
        state = self._site.state.volumes.get(volume)
        if state is None:
            return []
        leads = self._replicas.leads(volume)
        return [n for n in chunk.nodes if n == self._site.node or (leads and n not in state.replicas and self._site.up(n))]

    def _count(self, volume: str, wanted: Sequence[ChunkRef], found: Findings) -> Protocol_[None]:
        """Find the chunks that fewer than W of their nodes have, as far as they answer (invariant 4)."""
        asked: dict[str, list[str]] = {}
        for chunk in wanted:
            for node in chunk.nodes:
                if node in self._site.state.nodes:
                    asked.setdefault(node, []).append(chunk.digest)
        calls = [
            Call(node, "chunk.held", {"volume": volume, "digests": digests}, timeout=self._site.timing.transfer)
            for node, digests in asked.items()
        ]
        outcomes: Outcomes = yield Gather(calls)
        copies: dict[str, list[str]] = {chunk.digest: [] for chunk in wanted}
        for node, outcome in outcomes.items():
            if isinstance(outcome, Reply):
                for digest, there in zip(asked[node], outcome.value["held"], strict=True):
                    if there:
                        copies[digest].append(node)
        quorum = self._site.state.volume(volume).policy.write_quorum
        for chunk in wanted:
            held = copies[chunk.digest]
            if len(held) < quorum:
                found.short += 1
                if len(found.examples) < EXAMPLES:
                    found.examples.append(f"{chunk.digest}: on {', '.join(held) or 'no node'} of {', '.join(chunk.nodes)}")

    def _copy(
        self, volume: str, here: _Page, chunk: ChunkRef, node: str, verify: bool, found: Findings
    ) -> Protocol_[None]:
        try:
            if node == self._site.node and not verify:
                if self._site.chunks.has(volume, chunk.digest):
                    return
            else:
                args = {"volume": volume, "digest": chunk.digest}
                yield Call(node, "chunk.check", args, timeout=self._site.timing.transfer)
                return
        except (ChunkMissing, CorruptData) as error:
            log.warning("volume %s: the copy of chunk %s on %s: %s", volume, chunk.digest, node, error)
        except DavfsError as error:
            log.info("volume %s: chunk %s on %s was not checked: %s", volume, chunk.digest, node, error)
            return
        if not here.names(chunk):
            return  # it was deleted meanwhile, and may just have been collected
        found.bad += 1
        try:
            yield from self._repair(volume, chunk, node)
            found.repaired += 1
        except DavfsError as error:
            log.warning("volume %s: chunk %s on %s is not repaired yet: %s", volume, chunk.digest, node, error)

    def _repair(self, volume: str, chunk: ChunkRef, node: str) -> Protocol_[None]:
        if node == self._site.node:
            yield from fetch_missing(self._site, volume, chunk, even_if_there=True)
            return
        data = yield from read_chunk(self._site, volume, chunk)
        args = {"volume": volume, "digest": chunk.digest, "repair": True}
        yield Call(node, "chunk.put", args, data, self._site.timing.transfer)
