"""The collector: finds the chunks of a volume that nothing names, and has every node set them aside (design, section 3).

One run, by the volume's holder, in this order, which is what makes it safe:

1. every node that answers says what time it is on its own clock: what it promises from then on it will spare;
2. what is in use here is noted (running uploads, open files), and from now on all that records name as they are applied;
3. every record that was sent before is waited for, and a majority confirms that this is still the holder: whoever
   follows it begins its uploads later, and the nodes will spare those;
4. the late records of a majority are read, of every replica if the volume's holders may acknowledge alone;
5. the whole index is walked, the trash, segments written ahead and all. If any of this fails, nothing is done at all;
6. node by node, page by page: what is old there and not named is ordered to be set aside, the lease checked each time.

A new name for an old chunk (COPY, MOVE) comes from an entry that named it all the while, so it is in the set; a chunk
that is named for the first time was promised after step 1, or was in use in step 2.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from davfs.cluster.holder import Holder
from davfs.cluster.in_use import Watch
from davfs.cluster.pace import Pace
from davfs.core import keys
from davfs.core.chunk_port import References
from davfs.core.effects import Call, Gather, Outcomes, Protocol_, Reply, Wait
from davfs.core.errors import DavfsError, LeaseLost, QuorumLost
from davfs.core.model import position
from davfs.core.namespace import Edits
from davfs.core.quorum import is_joint_majority
from davfs.core.references import of_manifest, segment_name
from davfs.core.values import decode_segment

log = logging.getLogger(__name__)

MANIFESTS = 200
"""Manifests that are read in one view."""

SEGMENTS = 16
DROPPED_AT_ONCE = 64
MOST_SUPERSEDED = 10_000
"""Names that are noted in one run; the others have their turn in the next."""

SETTLE_S = 10.0
"""How long records that were sent before the scan may take to be committed."""


@dataclass(slots=True)
class Found:
    """One node: its chunks and their bytes, those of them that nothing names, and those that it has set aside. ``young``:
    those that were promised too recently to be judged."""

    seen: int = 0
    seen_bytes: int = 0
    unused: int = 0
    unused_bytes: int = 0
    removed: int = 0
    removed_bytes: int = 0
    young: int = 0


@dataclass(slots=True)
class Report:
    """What a run did, or how far it has come. ``began_ns`` is for people; ``skipped``: nodes that did not answer, and why.

    ``emptied``: entries that were taken out of the trash; ``dropped``: segments that no manifest named for long enough;
    ``superseded``: names of segments that no manifest names; ``seq``: of the last record when it began; ``in_use``: names that
    uploads and open files had in use then.
    """

    volume: str
    dry_run: bool
    began_ns: int
    seq: int = 0
    step: str = "begin"
    seconds: float = 0.0
    error: str = ""
    names: int = 0
    nodes: dict[str, Found] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    superseded: list[str] = field(default_factory=list)
    emptied: int = 0
    dropped: int = 0
    in_use: int = 0

    @property
    def unused(self) -> int:
        return sum(found.unused for found in self.nodes.values())

    def is_left(self, up: Callable[[str], bool]) -> bool:
        """Whether another run may find more although nothing changes: chunks that are older by then, or not in use any more,
        or nodes that answer now."""
        spared = any(found.young or found.unused > found.removed for found in self.nodes.values())
        return spared or bool(self.in_use) or any(up(node) for node in self.skipped)

    def wire(self) -> dict[str, Any]:
        """As plain values."""
        return {**asdict(self), "superseded": len(self.superseded)}

    @classmethod
    def of_wire(cls, values: Mapping[str, Any]) -> Report:
        """From plain values, without the names; :class:`TypeError` or :class:`KeyError` if they are none of a report."""
        nodes = {node: Found(**found) for node, found in dict(values["nodes"]).items()}
        made = cls(**{**values, "nodes": nodes, "superseded": [""] * min(values["superseded"], MOST_SUPERSEDED)})
        if not (type(made.volume) is str and type(made.began_ns) is int):
            raise TypeError("its volume or its time is of a wrong type")
        return made


class Collection:
    """One run over one volume, by its ``holder``. ``references`` is this run's own and is closed by whoever made it."""

    def __init__(
        self,
        holder: Holder,
        references: References,
        report: Report,
        ripe: Callable[[list[str]], list[str]] = lambda names: [],
    ) -> None:
        self._ripe = ripe
        self._holder = holder
        self._site = holder.site
        self._volume = holder.credentials.volume
        self._references = references
        self._report = report
        self._pace = Pace(holder.site.clock)
        self._starts: dict[str, Mapping[str, Any]] = {}

    def run(self) -> Protocol_[None]:
        """Do it all; an error means that the rest was left undone, which harms nothing."""
        report, in_use = self._report, self._site.in_use
        began = self._site.clock.now()
        report.seq = self._holder.log.last.seq
        watch: Watch | None = None
        try:
            yield from self._begin()
            watch = in_use.watch(self._volume)
            used = in_use.names(self._volume)
            report.in_use = len(used)
            self._references.add(used)
            report.step = "settle"
            yield from self._settle()
            yield from self._holder.confirm()
            yield from self._late()
            report.step = "scan"
            yield from self._manifests()
            yield from self._segments(watch)
            yield from self._drop(self._ripe(self._report.superseded), watch)
            report.names = self._references.count()
            report.step = "collect"
            for node in self._starts:
                yield from self._node(node, watch)
            report.step = "done"
        except DavfsError as error:
            report.error = error.message
            raise
        finally:
            report.seconds = round(self._site.clock.now() - began, 3)
            if watch is not None:
                in_use.unwatch(watch)

    # --- before the scan --------------------------------------------------------------------------------------------

    def _begin(self) -> Protocol_[None]:
        args = self._holder.credentials.wire()
        nodes = list(self._site.state.nodes)
        calls = [Call(node, "chunk.collect_begin", args, timeout=self._site.timing.call) for node in nodes]
        outcomes: Outcomes = yield Gather(calls)
        for node in nodes:
            outcome = outcomes.get(node)
            if isinstance(outcome, Reply):
                self._starts[node] = outcome.value
            else:
                self._report.skipped[node] = outcome.message if outcome is not None else "it did not answer"

    def _settle(self) -> Protocol_[None]:
        """What was sent before the uploads were noted may be in no upload any more: it must be in the index."""
        log_ = self._holder.log
        sent = log_.last.seq
        yield Wait(log_.progress, lambda: log_.committed >= sent or log_.stopped, SETTLE_S)
        if log_.committed < sent:
            raise QuorumLost("a record that was sent is not committed yet; nothing is collected")

    def _late(self) -> Protocol_[None]:
        """The late records of enough replicas, each of them known to have no other tail than this log."""
        table = self._holder.state().replica_set
        args = self._holder.credentials.wire()
        calls = [Call(node, "replica.named", args, timeout=self._site.timing.transfer) for node in table.members]
        outcomes: Outcomes = yield Gather(calls)
        known = []
        for node, outcome in outcomes.items():
            if isinstance(outcome, Reply) and self._is_known(node, outcome.value):
                self._references.add(outcome.value["names"])
                known.append(node)
        everyone = self._holder.state().policy.consistency != "strict"
        if not (len(known) == len(table.members) if everyone else is_joint_majority(known, table.deciding)):
            who = "every replica" if everyone else "a majority of the replicas"
            raise QuorumLost(f"the late records of {who} must be known; only {', '.join(known) or 'none'} told theirs")

    def _is_known(self, node: str, told: Mapping[str, Any]) -> bool:
        last = position(told["last"])
        voting = self._holder.state().replica_set.incarnations.get(node) == told["incarnation"]
        return voting and self._holder.replica.store.position_at(last.seq) == last

    # --- the scan ---------------------------------------------------------------------------------------------------

    def _manifests(self) -> Protocol_[None]:
        after: str | None = ""
        with self._holder.replica.store.view() as view:
            self._references.add(name for manifest in view.hidden_manifests() for name in of_manifest(manifest))
        while after is not None:
            self._holder.check_lease()
            with self._holder.replica.store.view() as view:
                page = view.manifests(after, MANIFESTS)
            self._references.add(name for _, manifest in page for name in of_manifest(manifest))
            after = page[-1][0] if page else None
            yield from self._pace.rest()

    def _segments(self, watch: Watch) -> Protocol_[None]:
        """Segments name their chunks also while no manifest names them; those that none names now are noted."""
        after: tuple[str, int] | None = ("", -1)
        while after is not None:
            self._holder.check_lease()
            with self._holder.replica.store.view() as view:
                page = view.segments(after, SEGMENTS)
            self._references.add(chunk.digest for _, _, _, text in page for chunk in decode_segment(text))
            names = [segment_name(content, number) for content, number, _, _ in page]
            if len(self._report.superseded) < MOST_SUPERSEDED:
                self._report.superseded.extend(self.unnamed(names, watch))
            after = (page[-1][0], page[-1][1]) if page else None
            yield from self._pace.rest()

    def _drop(self, ripe: list[str], watch: Watch) -> Protocol_[None]:
        """Take segments out of the documents that nothing has named for longer than any record is on its way."""
        for start in range(0, len(ripe), DROPPED_AT_ONCE):
            if self._report.dry_run:
                return
            names = self.unnamed(ripe[start : start + DROPPED_AT_ONCE], watch)

            def build(edits: Edits, names: list[str] = names) -> None:
                with self._holder.replica.store.view() as view:
                    for name in names:
                        content, _, number = name.removeprefix("s/").rpartition("/")
                        held = view.segment(content, int(number))
                        if held is not None:
                            edits.delete(keys.SEGMENT, content, held[0], number)

            if names:
                yield from self._holder.commit(build, "")
                self._report.dropped += len(names)
            yield from self._pace.rest()

    def unnamed(self, names: Iterable[str], watch: Watch) -> list[str]:
        """Those that nothing names now: asked in this order, nothing is in use no more and not yet in the set."""
        asked = list(names)
        used = self._site.in_use.among(self._volume, set(asked))
        self._references.add(self._site.in_use.take(watch))
        return [name for name in self._references.missing(asked) if name not in used]

    # --- the nodes --------------------------------------------------------------------------------------------------

    def _node(self, node: str, watch: Watch) -> Protocol_[None]:
        found = self._report.nodes[node] = Found()
        args = {**self._holder.credentials.wire(), **self._starts[node]}
        after: str | None = ""
        try:
            while after is not None:
                self._holder.check_lease()  # it is a use of the volume too, which is not idle meanwhile
                page: Reply = yield Call(
                    node, "chunk.collect_page", {**args, "after": after}, timeout=self._site.timing.transfer
                )
                found.seen += page.value["seen"]
                found.seen_bytes += page.value["bytes"]
                sizes = {str(digest): int(size) for digest, size in page.value["old"]}
                found.young += page.value["seen"] - len(sizes)
                unused = self.unnamed(sizes, watch)
                found.unused += len(unused)
                found.unused_bytes += sum(sizes[digest] for digest in unused)
                if unused and not self._report.dry_run:
                    self._holder.check_lease()
                    order = {**args, "digests": unused}
                    reply: Reply = yield Call(node, "chunk.collect_remove", order, timeout=self._site.timing.transfer)
                    found.removed += reply.value["count"]
                    found.removed_bytes += reply.value["bytes"]
                after = page.value["after"]
                yield from self._pace.rest()
        except LeaseLost:
            raise
        except DavfsError as error:  # the other nodes are none the worse for it
            self._report.skipped[node] = error.message
