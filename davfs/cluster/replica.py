"""One volume's replica on this node: sealed, appended to and caught up by holders; applies what is committed.

The log follows Raft's rules (Ongaro and Ousterhout, 2014, section 5.3) with the holder as leader and the epoch as term:
records are appended only behind a matching predecessor, identical ones are skipped, and the tail is cut only where it
really differs. Only what the commit mark has passed enters documents and index.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Lock, RLock
from typing import Any

from davfs.cluster.site import Site
from davfs.core import grants
from davfs.core.effects import Protocol_, Sleep, Submit, Wait
from davfs.core.errors import CorruptData, DavfsError, LogMismatch, NotSealed, StaleEpoch
from davfs.core.model import MIB, Epoch, Position
from davfs.core.ports import AppliedRecord, Document, DocumentUpdate, IndexUpdate, ReplicaStore
from davfs.core.record import COMPACT, DocumentChange, Record, decode

log = logging.getLogger(__name__)

SNAPSHOT_EVERY = 32
"""A document's tail of changes is folded into a snapshot when it has grown to this many."""

GROWN_NAMES = 10_000
"""So many are remembered for compaction; it finds the others too, later."""

RECENT_RECORDS = 256
RECENT_BYTES = 32 * 1024
"""What may be kept in memory between log and index: so many requests' records, of so many bytes a request."""

TRIM_RECORDS = 500
TRIM_PAGES = 256
TRIM_PAUSE_S = 0.02

FROZEN_KEPT_S = 600.0
"""How long a snapshot is kept for others after somebody last asked for it."""

_NO_ACTOR = bytes(16)


@dataclass(frozen=True, slots=True)
class ReplicaStatus:
    """Where a replica stands, as it tells whoever seals it or asks."""

    incarnation: str
    sealed: Epoch
    last: Position
    committed: Position
    floor: Position  # before the oldest record that its log still has
    firm: Position  # up to here what is committed can be taken back by no holder
    late: int  # late records that are not handled yet

    def wire(self) -> dict[str, Any]:
        return {
            "incarnation": self.incarnation,
            "sealed": list(self.sealed),
            "last": [list(self.last.epoch), self.last.seq],
            "committed": [list(self.committed.epoch), self.committed.seq],
            "firm": [list(self.firm.epoch), self.firm.seq],
            "late": self.late,
            "floor": [list(self.floor.epoch), self.floor.seq],
        }


class Replica:
    """A volume replica. Thread-safe; its store makes each step atomic and durable."""

    def __init__(
        self,
        site: Site,
        volume: str,
        store: ReplicaStore,
        applied: Callable[[str, ReplicaStore, Sequence[AppliedRecord]], None] = lambda volume, store, records: None,
        installed: Callable[[str, ReplicaStore], None] = lambda volume, store: None,
    ) -> None:
        self.volume = volume
        self._installed = installed  # told (volume, store) when a snapshot has replaced everything
        self._applied = applied  # told (volume, store, records) after they are in documents and index
        self.store = store
        self.progress = site.make_signal()  # notified when there is something to apply
        self._site = site
        self._log_lock = Lock()  # seal and append, one at a time
        self._apply_lock = RLock()  # the documents and the commit mark
        self._digest = ""  # token digest of the epoch that is sealed; "" until someone seals after a start
        self._commit_target = 0
        self._firm: int | None = None
        self._told = False  # whether a holder has said since the start what is firm: a seal alone says nothing
        self._trim_below = 0
        self.grown: dict[str, int] = {}  # documents that were saved anew, with their size: what compaction looks at first
        self._pause = (0, 0.0)  # (a seq, until when nothing behind it is applied)
        self.installed_at: float | None = None  # when a snapshot has replaced everything, by this node's clock
        self.catching: tuple[int, int] | None = None  # a snapshot is on its way: bytes that are here, of how many
        self.freezing = False  # a snapshot is being made
        self.frozen_used = 0.0  # when it was last asked for
        self._documents: OrderedDict[str, tuple[Document, int]] = OrderedDict()
        self._recent: dict[int, Record] = {}  # appended here and not yet applied, to spare reading them back

    def status(self) -> ReplicaStatus:
        store = self.store
        return ReplicaStatus(store.incarnation, store.sealed, store.last, store.committed, store.floor, store.firm, store.late)

    # --- seal -------------------------------------------------------------------------------------------------------

    def seal(self, epoch: Epoch, digest: str) -> Protocol_[ReplicaStatus]:
        """Refuse every epoch below this one from now on; only then say what is here (design, section 2, Assign 3)."""
        state = self._site.state

        def caught_up() -> bool:
            volume = state.volumes.get(self.volume)
            return volume is not None and volume.tenure.last >= epoch

        yield Wait(self._site.applied, caught_up, self._site.timing.call / 2)
        with self._log_lock:
            grants.check(state.volume(self.volume).tenure, epoch, digest)
            sealed = self.store.sealed
            if sealed <= epoch:
                if sealed < epoch:
                    self.store.seal(epoch)
                self._digest = digest
                return self.status()
        # If Raft never granted what is sealed here, it was restored from an older state: it goes on above everything.
        raised = (self._site.request_id(), "epochs_raise", self.volume, list(sealed))
        yield Submit(raised, self._site.timing.call)
        raise StaleEpoch(f"sealed at {sealed} already", sealed=list(sealed))

    def check_sealed(self, epoch: Epoch, digest: str) -> None:
        """Whether whoever sends this is the holder that sealed last."""
        if epoch < self.store.sealed:
            raise StaleEpoch(f"sealed at {self.store.sealed}", sealed=list(self.store.sealed))
        if epoch > self.store.sealed or not self._digest:
            raise NotSealed(f"this replica is not sealed to {epoch} yet")
        grants.require_same_digest(self._digest, digest)

    # --- append -----------------------------------------------------------------------------------------------------

    def append(
        self,
        epoch: Epoch,
        digest: str,
        previous: Position,
        records: Sequence[bytes],
        committed: int,
        chunks: Sequence[tuple[str, bytes]] = (),
        trim: int = 0,
        firm: int | None = None,
    ) -> ReplicaStatus:
        """Durably append records that follow ``previous``; everything up to ``committed`` may then be applied.

        ``firm``: a majority has what is committed up to there, or (None) all of it.

        ``chunks``: (digest, data) of small chunks of these records: durable with them, in one transaction. Records
        before ``trim`` are needed by nobody and go from the log by and by.
        """
        whole = [decode(data, self.volume) for data in records]
        decoded = [record.position for record in whole]
        with self._log_lock:
            self.check_sealed(epoch, digest)
            if any(at.epoch > epoch for at in decoded):
                raise CorruptData(f"a holder of epoch {epoch} sent a record of a later epoch")  # nothing could follow it
            if self.store.position_at(previous.seq) != previous:
                raise LogMismatch("the log does not continue there", **self.status().wire())
            self._check_contiguous(previous, decoded)
            known = next((n for n, at in enumerate(decoded) if not self._has(at)), len(decoded))
            fresh = list(zip(decoded[known:], records[known:], strict=True))
            if fresh or chunks:
                first = fresh[0][0].seq if fresh else self.store.last.seq + 1
                cut_from = first if first <= self.store.last.seq else None
                if cut_from is not None and cut_from <= self.store.firm.seq:
                    raise CorruptData(f"a holder wants to replace committed record {cut_from}")
                if cut_from is None:
                    self.store.append(fresh, None, chunks)
                else:
                    self._cut(fresh, cut_from, chunks)
                if len(self._recent) < RECENT_RECORDS and sum(map(len, records)) < RECENT_BYTES:
                    self._recent.update((record.position.seq, record) for record in whole[known:])
            matched = previous.seq + len(records)
            self._commit_target = max(self._commit_target, min(committed, matched))
            self._firm = None if firm is None else max(self._firm or 0, min(firm, matched))
            self._told = True
            self._trim_below = max(self._trim_below, trim)
            status = self.status()
        if self._commit_target > self.store.committed.seq:
            self.progress.notify()
        return status

    def _cut(self, fresh: Sequence[tuple[Position, bytes]], cut_from: int, chunks: Sequence[tuple[str, bytes]]) -> None:
        """Put the holder's records in the place of what it has not adopted, which becomes late; the caller has the log lock.

        What was applied of it (policy ``available``) is taken back with it.
        """
        with self._apply_lock:
            taken_back = cut_from <= self.store.committed.seq
            if taken_back:
                last = self.store.last.seq
                log.warning("volume %s: records %d to %d are taken back, to be merged", self.volume, cut_from, last)
            self._commit_target = min(self._commit_target, cut_from - 1)
            try:
                self.store.append(fresh, cut_from, chunks)
            finally:
                self._recent.clear()
                if taken_back:
                    self._documents.clear()

    def cut(self, first: int) -> None:
        """Make the records from ``first`` on late ones: whoever follows begins before them."""
        with self._log_lock:
            self._cut([], first, ())

    def _has(self, at: Position) -> bool:
        return at.seq <= self.store.last.seq and self.store.position_at(at.seq) == at

    @staticmethod
    def _check_contiguous(previous: Position, positions: Sequence[Position]) -> None:
        for at in positions:
            if at.seq != previous.seq + 1 or at.epoch < previous.epoch:
                raise CorruptData(f"record {at} cannot follow {previous}")
            previous = at

    # --- apply ------------------------------------------------------------------------------------------------------

    def behind(self) -> bool:
        return self._wanted() > self.store.committed.seq

    def apply_committed(self) -> None:
        """Enter everything that the commit mark has passed into documents and index."""
        while self.behind():
            self.advance(self._wanted())

    def _wanted(self) -> int:
        seq, until = self._pause
        return self._commit_target if self._site.clock.now() >= until else min(self._commit_target, seq)

    def pause(self, seq: int, seconds: float) -> Position:
        """Apply nothing behind ``seq`` for so long, so that several replicas can be looked at in one state; where this one
        stands. A holder's own commits go on: only what other holders told waits."""
        with self._apply_lock:
            self._pause = (seq, self._site.clock.now() + seconds)
        self.progress.notify()
        return self.store.committed

    def advance(self, seq: int) -> None:
        """Apply records up to ``seq``, which a majority is known to hold, or as many as a holder could reach."""
        with self._apply_lock:
            while (done := self.store.committed.seq) < seq:
                batch = self._read(done + 1, seq)
                if not batch:
                    raise CorruptData(f"record {done + 1} of volume {self.volume} is missing from the log")
                try:
                    applied = [self._apply(record) for record in batch]
                    self.store.commit(applied, self._firm)
                except BaseException:
                    self._documents.clear()  # they may be ahead of what is stored
                    raise
                for record in batch:
                    self._recent.pop(record.position.seq, None)
                while len(self._documents) > self._site.bounds.documents:  # only now: before, they were ahead of the store
                    self._documents.popitem(last=False)
                self._site.in_use.applied(self.volume, applied)
                self._applied(self.volume, self.store, applied)

    def refuse_bad(self, epoch: Epoch, digest: str, previous: Position, records: Sequence[bytes]) -> None:
        """Refuse records that continue the log and that no replica could apply, before they are durable: nodes trust each other
        to have applied what they send, a program's records are tried."""
        self.check_sealed(epoch, digest)
        have = self.store.last
        fresh = [data for data in records if decode(data, self.volume).position.seq > have.seq]
        if fresh and self.store.position_at(previous.seq) == previous and (bad := self.trial(fresh)) is not None:
            raise CorruptData(f"record {bad} of a program cannot be applied: nothing of this request was taken")

    def trial(self, fresh: Sequence[bytes] = ()) -> int | None:
        """The first of the records that are logged and not applied, and of ``fresh`` ones behind them, that no replica could
        apply; None if all of them can be. Nothing changes. A document that is damaged here is an error of its own."""
        with self._apply_lock:
            first = self.store.committed.seq + 1
            records = [] if first > self.store.last.seq else self._tail(first)
            records += [decode(data, self.volume) for data in fresh]
            applied: list[AppliedRecord] = []
            try:
                for record in records:
                    if record.kind != COMPACT:
                        for change in record.changes:
                            self._document(change.document)  # if this fails it is not the record's fault
                    try:
                        applied.append(self._apply(record))
                    except (CorruptData, ValueError, KeyError):
                        return record.position.seq
                return self._rehearsed(applied)
            finally:
                self._documents.clear()  # they are ahead of what is stored

    def _tail(self, first: int) -> list[Record]:
        records: list[Record] = []
        while first <= self.store.last.seq:
            batch = [decode(data, self.volume) for data in self.store.read_log(first, MIB)]
            records += batch
            first += len(batch)
        return records

    def _rehearsed(self, applied: Sequence[AppliedRecord]) -> int | None:
        """The first that cannot be entered into the index, found by halving."""
        good, bad = 0, len(applied) + 1  # so many can be entered, so many cannot
        count = len(applied)
        while bad - good > 1:
            try:
                self.store.rehearse(applied[:count])
                good = count
            except CorruptData:
                bad = count
            count = (good + bad) // 2
        return None if good == len(applied) else applied[good].record.position.seq

    def _read(self, first: int, last: int) -> list[Record]:
        held = []
        for seq in range(first, last + 1):
            record = self._recent.get(seq)
            if record is None:
                break
            held.append(record)
        records = held or [decode(data, self.volume) for data in self.store.read_log(first, MIB)]
        return [record for record in records if record.position.seq <= last]

    def _apply(self, record: Record) -> AppliedRecord:
        updates: list[IndexUpdate] = []
        documents: list[DocumentUpdate] = []
        for change in record.changes:
            if record.kind == COMPACT:
                documents.append(self._replace(change))
                continue
            document, tail = self._document(change.document)
            document.apply(change.change, change.heads)
            updates.extend(IndexUpdate(key, document.get(key)) for key in change.keys)
            snapshot = document.save() if tail + 1 >= SNAPSHOT_EVERY else None
            if snapshot is not None and len(self.grown) < GROWN_NAMES:
                self.grown[change.document] = len(snapshot)
            self._documents[change.document] = (document, 0 if snapshot is not None else tail + 1)
            documents.append(DocumentUpdate(change.document, change.change, snapshot))
        return AppliedRecord(record, documents, updates)

    def _replace(self, change: DocumentChange) -> DocumentUpdate:
        """Take a document over without its history, as the holder made it."""
        document = self._site.documents.load(change.change or None, (), _NO_ACTOR)
        if document.heads() != change.heads:
            raise CorruptData(f"the compacted document {change.document} is not the one that its record names")
        self._documents[change.document] = (document, 0)
        self.grown.pop(change.document, None)
        return DocumentUpdate(change.document, b"", change.change)

    def _document(self, name: str) -> tuple[Document, int]:
        if name in self._documents:
            self._documents.move_to_end(name)
            return self._documents[name]
        stored = self.store.load_document(name)
        loaded = (self._site.documents.load(stored.snapshot, stored.changes, _NO_ACTOR), len(stored.changes))
        self._documents[name] = loaded
        return loaded

    # --- snapshots --------------------------------------------------------------------------------------------------

    def install(self) -> None:
        """Put the snapshot that has arrived in the place of everything here (``snapshots.py``)."""
        with self._log_lock, self._apply_lock:
            try:
                self.store.install(self.volume)
            finally:
                self._documents.clear()
                self._recent.clear()
                self._commit_target = min(self._commit_target, self.store.committed.seq)  # of what is here no more
            self.installed_at = self._site.clock.now()
            log.info("volume %s: a snapshot at %s is installed", self.volume, self.store.committed)
        self._installed(self.volume, self.store)

    def close(self) -> None:
        """Close the store, after what is being applied."""
        with self._log_lock, self._apply_lock:
            self.store.close()

    def trim(self) -> Protocol_[None]:
        """Forget what the holder said is needed no longer, and give its space back, in short steps."""
        while self.store.trim(self._trim_below, TRIM_RECORDS):
            yield Sleep(TRIM_PAUSE_S)
        while self.store.give_back(TRIM_PAGES):
            yield Sleep(TRIM_PAUSE_S)

    def keep_trimming(self, stopped: Callable[[], bool]) -> Protocol_[None]:
        """The background task that keeps log and database small. ``stopped()`` ends it."""
        while not stopped():
            yield Sleep(self._site.timing.tidy)
            try:
                if self._firm is None:
                    self.store.make_firm(self.store.committed.seq if self._told else 0)
                else:
                    self.store.make_firm(self._firm)
                self.store.drop_late()
                if self.store.frozen and self._site.clock.now() - self.frozen_used > FROZEN_KEPT_S:
                    self.store.thaw()
                yield from self.trim()
            except DavfsError as error:
                log.info("volume %s: the log is trimmed later: %s", self.volume, error)

    def keep_applying(self, stopped: Callable[[], bool]) -> Protocol_[None]:
        """The background task that applies what holders commit. ``stopped()`` ends it."""
        while not stopped():
            yield Wait(self.progress, lambda: (self.behind() and not self.store.broken) or stopped(), 5.0)
            if self.store.broken:
                continue  # it said so; nothing is applied any more unless a snapshot replaces it
            # Nobody waits for this: what comes meanwhile is entered in one transaction, and the holder's requests go first.
            yield Sleep(self._site.timing.gather)
            try:
                self.apply_committed()
            except DavfsError:
                log.exception("volume %s: a committed record could not be applied", self.volume)
                yield Wait(self.progress, stopped, 5.0)
