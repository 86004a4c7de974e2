"""When the collector runs on this node: by itself now and then, for the volumes that it holds or may borrow, and when it
is asked to. The last report of each volume is kept, over restarts too; one run of a volume at a time.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from threading import Lock

from davfs.cluster import books, trash, uploads
from davfs.cluster.collector import Collection, Report
from davfs.cluster.holder import Holder
from davfs.cluster.maintenance import Loan, Maintenance
from davfs.cluster.replica import Replica
from davfs.cluster.replicas import Replicas
from davfs.cluster.site import Site
from davfs.core.book_port import Book
from davfs.core.chunk_port import References
from davfs.core.effects import Protocol_, Sleep
from davfs.core.errors import DavfsError, Unavailable, VolumeHeld

log = logging.getLogger(__name__)

LEAST_PATIENCE_S = 1800.0
"""Longer than all records of the largest file take, each within its limit."""

LOOK_S = 60.0
"""How often it is looked whether a run is due, at the most."""


def _emptied(report: Report, count: int) -> None:
    report.emptied += count


@dataclass(frozen=True, slots=True)
class Done:
    """The last run of a volume that came to its end, and when it began by this node's clock."""

    report: Report
    began: float


class CollectorRuns:
    """The runs of one node. ``interval_s``: between two runs of one volume; ``book`` keeps the last report of each."""

    def __init__(
        self,
        site: Site,
        replicas: Replicas,
        maintenance: Maintenance,
        open_references: Callable[[], References],
        interval_s: float = 3600.0,
        book: Book | None = None,
    ) -> None:
        self._site = site
        self._replicas = replicas
        self._maintenance = maintenance
        self._open_references = open_references
        self._interval = interval_s
        self._lock = Lock()
        self._superseded: dict[str, dict[str, float]] = {}  # volume -> name of a segment -> since when
        self._running: dict[str, Report] = {}
        self._done: dict[str, Done] = {}
        self._book = book
        self._last = {report.volume: report for report in books.taken(book, Report.of_wire)}
        # (the last seq, how many uploads had begun) when it was seen last, and since when that is so
        self._changed: dict[str, tuple[tuple[int, int], float]] = {}
        self._began = site.clock.now()
        self._stopped = False

    def reports(self) -> Mapping[str, Report]:
        """volume id -> the run that is under way, else the last one, failed or not."""
        with self._lock:
            return {**self._last, **self._running}

    def _save(self) -> None:
        with self._lock:
            known = self._site.state.volumes
            kept = [report.wire() for report in self._last.values() if report.volume in known]
        books.keep(self._book, kept)

    def collect(self, holder: Holder, dry_run: bool = False) -> Protocol_[Report]:
        """One run, now; :class:`Unavailable` while one is under way."""
        report = self._claim(holder.credentials.volume, dry_run)
        yield from self._work(holder, report)
        return report

    def prepare(self, volume: str, dry_run: bool, anyone: bool = False) -> Protocol_[tuple[Protocol_[None], Report]]:
        """(the work of one run, to be driven by somebody, its report). :class:`VolumeHeld` if it is another node's.
        ``anyone``: also if another node is the one to run, which does not know what this node does."""
        loan = yield from self._maintenance.borrow(volume, anyone)
        if loan is None:
            raise VolumeHeld("this node does not hold the volume and cannot take it now")
        try:
            report = self._claim(volume, dry_run)
        except DavfsError:
            yield from loan.end()
            raise
        return self._borrowed(loan, report), report

    def _borrowed(self, loan: Loan, report: Report) -> Protocol_[None]:
        try:
            yield from self._work(loan.holder, report)
        except DavfsError as error:
            log.info("volume %s: nothing more was collected: %s", report.volume, error)
        else:
            log.info("volume %s: collected: %s", report.volume, report.wire())
        yield from loan.end()  # whatever else may happen, its grant yields to whoever asks

    def _claim(self, volume: str, dry_run: bool) -> Report:
        with self._lock:
            if volume in self._running:
                raise Unavailable("the collector is at work on this volume already; `davfs gc status` shows how far it is")
            report = self._running[volume] = Report(volume, dry_run, self._site.clock.wall_ns())
        return report

    def _work(self, holder: Holder, report: Report) -> Protocol_[None]:
        volume, began = report.volume, self._site.clock.now()
        try:
            references = self._open_references()
            try:
                if not report.dry_run:
                    report.step = "empty the trash"
                    yield from trash.empty(holder, partial(_emptied, report))
                    yield from uploads.expire(holder)
                yield from Collection(holder, references, report, partial(self._ripe, volume)).run()
            finally:
                references.close()
        except DavfsError as error:
            report.error = report.error or error.message
            raise
        else:
            with self._lock:
                if not report.dry_run:
                    self._done[volume] = Done(report, began)
        finally:
            with self._lock:
                self._last[volume] = self._running.pop(volume)
            self._save()

    def _ripe(self, volume: str, superseded: list[str]) -> list[str]:
        """Those of the names that were superseded for long: whoever wrote a segment ahead has named it by then, or failed."""
        now, known = self._site.clock.now(), self._superseded.get(volume, {})
        since = self._superseded[volume] = {name: known.get(name, now) for name in superseded}
        patience = max(self._site.timing.quarantine, LEAST_PATIENCE_S)
        return [name for name, at in since.items() if now - at >= patience]

    def due(self, replica: Replica) -> bool:
        """Whether a run is due: once in an interval, while anything may be new. Without changes or uploads (which may fail)
        there is nothing new once a run has begun that came a grace after the last one and has left nothing, but for what
        ripens in the trash, old uploads, and superseded segments."""
        now, volume = self._site.clock.now(), replica.volume
        seen = replica.store.last.seq, self._site.in_use.uploads(volume)
        known, changed_at = self._changed.get(volume, (seen, self._began))
        if known != seen:
            changed_at = now
        self._changed[volume] = seen, changed_at
        done = self._done.get(volume)
        if now - (self._began if done is None else done.began) < self._interval:
            return False
        fresh = done is None or done.began <= changed_at + self._site.timing.grace
        left = done is not None and done.report.is_left(self._site.up)
        return fresh or left or bool(self._superseded.get(volume)) or self._is_brought(replica) or self._ripened(replica)

    def _is_brought(self, replica: Replica) -> bool:
        """Whether a snapshot brought chunks here that no run of this node has judged. They may have been set aside at its
        source meanwhile, and no other node knows that they are here."""
        done, at = self._done.get(replica.volume), replica.installed_at
        return at is not None and (done is None or done.began <= at + self._site.timing.grace)

    def _ripened(self, replica: Replica) -> bool:
        """Whether something in the trash may go by now, or an upload that nobody goes on with."""
        state = self._site.state.volumes.get(replica.volume)
        if state is None:
            return False
        with replica.store.view() as view:
            return trash.any_due(self._site, state.policy, view) or bool(uploads.expired(view, self._site.clock.wall_ns()))

    def run(self) -> Protocol_[None]:
        """The background task."""
        while not self._stopped:
            yield Sleep(min(LOOK_S, self._interval / 2))
            for replica in self._replicas.all():
                if self.due(replica):
                    yield from self._try(replica)

    def _try(self, replica: Replica) -> Protocol_[None]:
        volume = replica.volume
        try:
            work, _ = yield from self.prepare(volume, False, self._is_brought(replica))
            yield from work
        except DavfsError as error:
            log.debug("volume %s: not collected here now: %s", volume, error)

    def stop(self) -> None:
        self._stopped = True
