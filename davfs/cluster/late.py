"""Late records: the holder fetches them from the replicas that have some, and settles each once (design, section 3).

A record that a replica cut from its log never enters as it is. In a ``strict`` volume nobody was promised it: a PUT whose
chunks all verify becomes a conflict copy, anything else is dropped and listed. In an ``available`` volume it may have been
acknowledged, and is merged (``core/merge.py``). Either is one record of this holder, which also says which late records it
settles: so each is settled once whoever brings it, and a replica forgets those that it sees settled.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

from davfs.cluster.adopted import spread
from davfs.cluster.attempts import settled_etag, settled_id
from davfs.cluster.files import SMALL_BYTES, may_travel
from davfs.cluster.holder import RECORD_ROOM, Holder
from davfs.cluster.keeping import confirm
from davfs.cluster.tail import Attachment
from davfs.core import keys, late, locks, values
from davfs.core.chunking import digest_of
from davfs.core.conflict_names import conflict_name, label_of
from davfs.core.effects import Call, Protocol_, Reply, Sleep
from davfs.core.errors import CorruptData, DavfsError
from davfs.core.late import Outcome, WholePut
from davfs.core.merge import LOST
from davfs.core.model import DIRECTORY, FILE, MIB, ORIGIN, ROOT, ROOTS, ChunkRef, Path, Position, position
from davfs.core.namespace import Edits
from davfs.core.ports import IndexView
from davfs.core.record import OPERATION, Record, decode
from davfs.core.references import of_records
from davfs.core.settling import settle
from davfs.core.values import NameEntry

log = logging.getLogger(__name__)

Build: TypeAlias = Callable[[IndexView, Edits], Any]

TOGETHER = 64
"""So many late records are merged by one record."""

CARRIED_BYTES = 2 * MIB
"""Small chunks of so many bytes travel with it."""

RETRY_S = 2.0

GIVE_UP_S = 600.0
"""How long a late PUT waits for a node that may have its chunks."""


class Late(NamedTuple):
    """A late record and the replica that has it."""

    node: str
    at: Position
    record: Record


class LateRecords:
    """The task of one holder."""

    def __init__(self, holder: Holder) -> None:
        self._holder = holder
        self._site = holder.site
        self._waiting: dict[Position, float] = {}  # since when a PUT waits for its chunks

    def run(self) -> Protocol_[None]:
        """Settle what replicas have, for as long as the grant lasts."""
        holder = self._holder
        while not holder.log.stopped:
            yield Sleep(self._site.timing.heartbeat)
            nodes = [f.node for f in holder.log.followers.by_node.values() if f.late and not f.failing]
            if not nodes or not holder.leased:
                continue
            try:
                for node in nodes:
                    yield from self._settle_all(node)
            except DavfsError as error:
                log.info("volume %s: late records are settled later: %s", holder.credentials.volume, error)
            if self._waiting:
                yield Sleep(RETRY_S)

    def _settle_all(self, node: str) -> Protocol_[None]:
        after = ORIGIN
        while records := (yield from self._fetch(node, after)):
            after = records[-1].at
            yield from self._settle_page(records)

    def _fetch(self, node: str, after: Position) -> Protocol_[list[Late]]:
        """The next late records of a replica that nobody settled, by position: no record before those it builds on."""
        args = {**self._holder.credentials.wire(), "after": [list(after.epoch), after.seq], "limit": MIB}
        reply: Reply = yield Call(node, "replica.read_late", args, timeout=self._site.timing.transfer)
        sizes, places = reply.value["records"], [position(at) for at in reply.value["positions"]]
        if sum(sizes) != len(reply.blob) or len(sizes) != len(places) or any(at <= after for at in places):
            raise CorruptData(f"{node} sent late records that do not fit together")
        found, start = [], 0
        for at, size in zip(places, sizes, strict=True):
            record = decode(reply.blob[start : start + size], self._holder.credentials.volume)
            if record.position != at:
                raise CorruptData(f"{node} sent another late record than {at}")
            found.append(Late(node, at, record))
            start += size
        return found

    def _settle_page(self, records: Sequence[Late]) -> Protocol_[None]:
        available = self._holder.available
        while records:
            with self._holder.replica.store.view() as view:
                records = [one for one in records if not view.is_settled(one.at)]
            malformed = [one for one in records if not late.is_sound(one.record)]
            for one in malformed:
                yield from self._drop(one)
            records = [one for one in records if one not in malformed]
            count = self._together(records) if available else 1
            if records:
                yield from (self._merge(records[:count]) if available else self._settle_strict(records[0]))
            records = records[count:]

    @staticmethod
    def _together(records: Sequence[Late]) -> int:
        """How many of them one record can merge."""
        size = 0
        for count, one in enumerate(records[:TOGETHER]):
            size += sum(len(key) + len(value) for key, value in late.words_of(one.record).puts)
            if count and size > RECORD_ROOM // 4:
                return count
        return min(len(records), TOGETHER)

    # --- available volumes ------------------------------------------------------------------------------------------

    def _merge(self, records: Sequence[Late]) -> Protocol_[None]:
        """Merge some late records by one record."""
        holder = self._holder
        use = self._site.in_use.begin(holder.credentials.volume)
        use.add(of_records(one.record for one in records))
        attachments: dict[str, Attachment] = {}
        for one in records:
            for chunk in _chunks(one.record):
                if chunk.digest in attachments:
                    continue
                try:
                    room = CARRIED_BYTES - sum(len(a.data) for a in attachments.values())
                    if (data := (yield from self._small(one.node, chunk, room))) is not None:
                        attachments[chunk.digest] = Attachment(chunk.digest, data)
                    else:
                        yield from self._secure(one.node, chunk)
                except DavfsError as error:  # it stays where it is, and is fetched when that node can be asked
                    log.warning("volume %s: a chunk of late record %s: %s", holder.credentials.volume, one.at, error)

        def build(view: IndexView, edits: Edits) -> None:
            merged = [one for one in records if one.record.kind == OPERATION and late.is_plain(one.record)]
            words = [late.words_of(one.record) for one in merged]
            find = _finder(view)
            if words:
                edits.take(*settle(view.merging(), words, edits.version, edits.new_inode()))
            for one in records:
                what = late.describe(one.record, find)
                kind = late.MERGED if one in merged else _unsettled(one.record)
                _note(edits, one, Outcome(kind, what, one.record.who, one.record.at_ns))

        yield from self._commit(records, build, tuple(attachments.values()))
        use.end()

    def _small(self, node: str, chunk: ChunkRef, room: int) -> Protocol_[bytes | None]:
        """The bytes of a chunk that may travel with the record that merges it, one sync for all of them; None if it may not."""
        state = self._holder.state()
        if chunk.size > min(SMALL_BYTES, room) or not may_travel(state.policy.write_quorum, chunk.nodes, state.replicas):
            return None
        args = {"volume": self._holder.credentials.volume, "digest": chunk.digest}
        reply: Reply = yield Call(node, "chunk.get", args, timeout=self._site.timing.call)
        return reply.blob if len(reply.blob) == chunk.size and digest_of(reply.blob) == chunk.digest else None

    # --- strict volumes ---------------------------------------------------------------------------------------------

    def _settle_strict(self, one: Late) -> Protocol_[None]:
        """Make a conflict copy of a PUT, or drop what it is otherwise."""
        record = one.record
        use = self._site.in_use.begin(self._holder.credentials.volume)
        use.add(of_records([record]))
        put = late.whole_put(record) if late.is_plain(record) else None
        with self._holder.replica.store.view() as view:
            again = _is_done(view, record, put)
            chunks = None if put is None or again else _all_chunks(view, put)
        sound = chunks is not None and (yield from self._verified(one, chunks))
        if sound is None or self._locked(put):
            return  # later
        segments = all(keys.parse(key).kind == keys.SEGMENT for key, _ in late.words_of(record).puts)

        def build(view: IndexView, edits: Edits) -> list[str] | None:
            find = _finder(view)
            what = late.describe(record, find)
            edits.answers = False  # unless there is a copy, which another attempt may have to find
            if _is_done(view, record, put) or record.kind != OPERATION or (segments and record.changes):
                if segments:  # the chunk list of a large file, which its PUT will name
                    edits.take(late.words_of(record).puts, [])
                _note(edits, one, Outcome(late.NOTHING, what, record.who, record.at_ns))
                return None
            inode = "" if put is None or not sound else _copy(view, edits, put, one.at)
            kind = late.COPY if inode else late.DROPPED
            _note(edits, one, Outcome(kind, what, record.who, record.at_ns, inode))
            if put is None or not inode:
                return None
            edits.answers = True
            return [inode, put.manifest.etag]

        yield from self._commit([one], build, request_id=settled_id(record.request_id))
        use.end()

    def _locked(self, put: WholePut | None) -> bool:
        """Whether a DAV lock forbids a new member where the copy would be (RFC 4918, 7.4); locks end."""
        if put is None:
            return False
        with self._holder.replica.store.view() as view:
            parent, name = _beside(view, put)
            path: Path = tuple(late.path_of(_finder(view), parent, name).split("/"))[1:]
        held = self._holder.locks()
        return bool(locks.covering(held, path)) or any(lock.path == path[:-1] for lock in held)

    def _verified(self, one: Late, chunks: Sequence[ChunkRef]) -> Protocol_[bool | None]:
        """Whether all chunks are sound, and now have their copies; None if that cannot be said yet."""
        for chunk in chunks:
            try:
                yield from self._secure(one.node, chunk)
            except DavfsError as error:
                since = self._waiting.setdefault(one.at, self._site.clock.now())
                away = [node for node in chunk.nodes if not self._site.up(node)]
                if away and self._site.clock.now() - since < GIVE_UP_S:
                    return None
                log.warning("volume %s: late record %s: %s", self._holder.credentials.volume, one.at, error)
                self._waiting.pop(one.at, None)
                return False
        self._waiting.pop(one.at, None)
        return True

    def _drop(self, one: Late) -> Protocol_[None]:
        """Settle a record whose words no record can say: nobody can have applied or acknowledged it."""
        record = one.record
        log.warning("volume %s: late record %s is malformed and dropped", self._holder.credentials.volume, one.at)
        outcome = Outcome(late.DROPPED, "a malformed record", record.who, record.at_ns)
        yield from self._commit([one], lambda view, edits: _note(edits, one, outcome))

    # --- both -------------------------------------------------------------------------------------------------------

    def _secure(self, node: str, chunk: ChunkRef) -> Protocol_[None]:
        """See to W copies of a chunk; the replica that has the record is asked too, it may have it beside the record."""
        nodes = chunk.nodes if node in chunk.nodes else (*chunk.nodes, node)
        policy = self._holder.state().policy
        wanted = ChunkRef(chunk.digest, chunk.size, nodes)
        yield from spread(self._site, self._holder.credentials.volume, wanted, policy.write_quorum)
        yield from confirm(self._site, self._holder.credentials, [wanted], policy.write_quorum)

    def _commit(
        self, records: Sequence[Late], build: Build, attachments: Sequence[Attachment] = (), request_id: str = ""
    ) -> Protocol_[None]:
        """One record, while no other change is under way."""
        holder = self._holder
        ticket = yield from holder.gates.enter([()], self._site.timing.gate)
        try:
            with holder.replica.store.view() as view:
                if any(view.is_settled(one.at) for one in records):
                    return  # the next look knows

            def built(edits: Edits) -> Any:
                with holder.replica.store.view() as view:
                    return build(view, edits)

            yield from holder.commit(built, request_id, attachments)
        finally:
            holder.gates.leave(ticket)
        log.warning(
            "volume %s: %d late records from %s on are settled", holder.credentials.volume, len(records), records[0].at
        )


def _is_done(view: IndexView, record: Record, put: WholePut | None) -> bool:
    """Whether another attempt of its request was acknowledged since, or is a conflict copy of the same content already."""
    if not record.request_id:
        return False
    if view.reply(record.request_id) is not None:
        return True
    return put is not None and settled_etag(view, record.request_id) == put.manifest.etag


def _finder(view: IndexView) -> late.Find:
    merging = view.merging()

    def find(inode: str) -> NameEntry | None:
        stored = merging.stored_name(inode)
        return None if stored is None else stored[1]

    return find


def _note(edits: Edits, one: Late, outcome: Outcome) -> None:
    edits.put(keys.SETTLED, keys.version_of(one.at), outcome.encode())


def _unsettled(record: Record) -> str:
    """What a record of an available volume is called that cannot be merged: one of format 1 says too little."""
    return late.NOTHING if record.kind != OPERATION or not record.changes else late.DROPPED


def _chunks(record: Record) -> Iterator[ChunkRef]:
    """The chunks that a record itself names."""
    for key, value in late.words_of(record).puts:
        kind = keys.parse(key).kind
        if kind == keys.MANIFEST:
            yield from values.decode_manifest(value).chunks
        elif kind == keys.SEGMENT:
            yield from values.decode_segment(value)


def _all_chunks(view: IndexView, put: WholePut) -> list[ChunkRef] | None:
    """All chunks of a file that was written whole; None if a part of its list is missing."""
    chunks = list(put.manifest.chunks)
    for number in range(put.manifest.segments):
        segment = view.segment(put.manifest.content_of(number), number)
        if segment is None:
            return None
        chunks += values.decode_segment(segment[1])
    return chunks


def _beside(view: IndexView, put: WholePut) -> tuple[str, str]:
    """The directory and the name that a late PUT was for; "" for a directory that is there no more."""
    merging = view.merging()
    parent, name = put.parent, put.name
    if not name:
        stored = merging.stored_name(put.inode)
        entry = None if stored is None else stored[1]
        if entry is None:
            return "", put.inode
        parent, name = (entry.deleted or (entry.parent, entry.name))[:2]
    at = parent
    for _ in range(1000):
        if at in ROOTS:
            return (parent if at == ROOT else ""), name
        stored = merging.stored_name(at)
        if stored is None or stored[1].kind != DIRECTORY:
            break
        at = stored[1].parent
    return "", name


def _copy(view: IndexView, edits: Edits, put: WholePut, at: Position) -> str:
    """Make the conflict copy beside the file, or in ``lost+found``; its inode, "" if its file shows the same content."""
    parent, name = _beside(view, put)
    there = view.child(parent, name) if parent else None
    if there is not None and there.etag == put.manifest.etag:
        return ""
    version = keys.version_of(at)
    inode = late.copy_of(put, at)
    if not parent:
        lost = view.child(ROOT, LOST)
        if lost is None or lost.kind != DIRECTORY:
            attempt = 1
            while view.child(ROOT, spare := LOST if attempt == 1 else f"{LOST} {attempt}") is not None:
                attempt += 1
            parent = edits.create(ROOT, spare, DIRECTORY, 0)
        else:
            parent = lost.inode
    attempt = 1
    while view.child(parent, spare := conflict_name(name, label_of(version, put.inode), attempt)) is not None:
        attempt += 1
    edits.put(keys.NAME, inode, values.encode_name(parent, spare, FILE, put.manifest.mtime_ns))
    edits.put(keys.MANIFEST, inode, put.text)
    return inode
