"""What a node does for other nodes: the requests of the flows, as handlers over its replicas and chunks.

A handler gets (the peer's name, arguments, blob) and is a protocol of its own that ends in a ``Reply``. Arguments come
from authenticated peers but are checked all the same; a malformed request is :class:`InvalidInput` and harms nothing.
Nodes trust each other; a program may touch a volume only with the token that holds it now.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from davfs.cluster.assign import unpack
from davfs.cluster.collecting import Collecting, ReplicaSource
from davfs.cluster.departure import Departure
from davfs.cluster.lagging import Credentials
from davfs.cluster.replica import Replica
from davfs.cluster.site import Site
from davfs.cluster.snapshots import catch_up, offer, piece
from davfs.core import grants
from davfs.core.chunking import digest_of
from davfs.core.effects import Protocol_, Reply, Wait
from davfs.core.errors import (
    ChunkMissing,
    CorruptData,
    DavfsError,
    InvalidInput,
    StaleEpoch,
    Unavailable,
    VolumeNotFound,
)
from davfs.core.model import Epoch, position
from davfs.core.record import decode

Handler: TypeAlias = Callable[[str, Mapping[str, Any], bytes], Protocol_[Reply]]


class Service:
    """The handlers of one node; ``handlers`` maps a method's name to its handler."""

    def __init__(self, site: Site, replicas: ReplicaSource) -> None:
        self._site = site
        self._replicas = replicas
        self.collecting = Collecting(site, replicas)
        self.departure = Departure(site, replicas)
        self.handlers: dict[str, Handler] = {
            "replica.seal": self._checked(self._seal),
            "replica.append": self._checked(self._append),
            "replica.standing": self._checked(self._standing),
            "replica.confirm": self._checked(self._confirm),
            "replica.read_log": self._checked(self._read_log),
            "replica.read_late": self._checked(self._read_late),
            "replica.take_late": self._checked(self._take_late),
            "replica.catch_up": self._checked(self._catch_up),
            "replica.snapshot": self._checked(self._snapshot),
            "replica.snapshot_read": self._checked(self._snapshot_read),
            "chunk.put": self._checked(self._chunk_put),
            "chunk.get": self._checked(self._chunk_get),
            "chunk.check": self._checked(self._chunk_check),
            "chunk.free": self._checked(self._chunk_free),
            "chunk.held": self._checked(self.collecting.held),
            "chunk.keep": self._checked(self.collecting.keep),
            "chunk.collect_begin": self._checked(self.collecting.begin),
            "chunk.collect_page": self._checked(self.collecting.page),
            "chunk.collect_remove": self._checked(self.collecting.remove),
            "replica.named": self._checked(self.collecting.named),
            "node.needs": self._checked(self.departure.needs),
            "node.holds": self._checked(self.departure.holds),
        }

    @staticmethod
    def _checked(handler: Handler) -> Handler:
        def checked(peer: str, args: Mapping[str, Any], blob: bytes) -> Protocol_[Reply]:
            try:
                return (yield from handler(peer, args, blob))
            except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
                raise InvalidInput(f"a malformed request from {peer}: {error!r}") from error

        return checked

    # --- records ----------------------------------------------------------------------------------------------------

    def _seal(self, peer: str, args: Mapping[str, Any], blob: bytes) -> Protocol_[Reply]:
        replica = yield from self._replicas.wait_for(args["volume"])
        status = yield from replica.seal(Epoch(*args["epoch"]), digest_of(args["token"]))
        return Reply(status.wire())

    def _append(self, peer: str, args: Mapping[str, Any], blob: bytes) -> Protocol_[Reply]:
        """A replica that logs a record durably holds the small chunks that came with it (section 2, Records)."""
        replica = yield from self._replicas.wait_for(args["volume"])
        epoch, digest = Epoch(*args["epoch"]), digest_of(args["token"])
        parts = unpack(blob, [*args["records"], *(size for _, size in args["chunks"])])
        records, chunks = parts[: len(args["records"])], parts[len(args["records"]) :]
        named = [(str(name), data) for (name, _), data in zip(args["chunks"], chunks, strict=True)]
        if any(digest_of(data) != name for name, data in named):
            raise CorruptData(f"{peer} sent a chunk of another digest")
        trim, firm = int(args.get("trim", 0)), args.get("firm")
        if grants.is_program(peer):
            replica.refuse_bad(epoch, digest, position(args["previous"]), records)
        status = replica.append(epoch, digest, position(args["previous"]), records, args["committed"], named, trim, firm)
        return Reply(status.wire())

    def _confirm(self, peer: str, args: Mapping[str, Any], blob: bytes) -> Protocol_[Reply]:
        """Whether this replica is still sealed to the caller's epoch: what a read of policy ``confirmed`` asks."""
        replica = yield from self._replicas.wait_for(args["volume"])
        replica.check_sealed(Epoch(*args["epoch"]), digest_of(args["token"]))
        return Reply(replica.status().wire())

    def _standing(self, peer: str, args: Mapping[str, Any], blob: bytes) -> Protocol_[Reply]:
        """Where the replicas of some volumes stand here: their last positions; nil for one that cannot be used."""
        last: list[Any] = []
        for volume in args["volumes"]:
            try:
                if volume not in self._site.state.volumes:
                    raise VolumeNotFound(f"there is no volume {volume}")
                store = (yield from self._replicas.wait_for(volume)).store
                last.append(None if store.broken else [list(store.last.epoch), store.last.seq])
            except DavfsError:
                last.append(None)
        return Reply({"last": last})

    def _read_late(self, peer: str, args: Mapping[str, Any], blob: bytes) -> Protocol_[Reply]:
        """Late records of this replica that nobody has settled, as far as it knows, by position."""
        replica = yield from self._replicas.wait_for(args["volume"])
        replica.check_sealed(Epoch(*args["epoch"]), digest_of(args["token"]))
        replica.store.drop_late()
        page = replica.store.late_page(position(args["after"]), int(args["limit"]))
        places = [[list(at.epoch), at.seq] for at, _ in page]
        return Reply({"positions": places, "records": [len(data) for _, data in page]}, b"".join(data for _, data in page))

    def _take_late(self, peer: str, args: Mapping[str, Any], blob: bytes) -> Protocol_[Reply]:
        """Keep records of a replica that goes away (``retiring.py``), which the holder settles like any late ones."""
        replica = yield from self._replicas.wait_for(args["volume"])
        grant = self._site.state.volume(replica.volume).tenure.grant
        places = [position(at) for at in args["positions"]]
        records = list(zip(places, unpack(blob, args["records"]), strict=True))
        for at, data in records:
            if decode(data, replica.volume).position != at:
                raise CorruptData(f"{peer} sent another late record than {at}")
        with replica.store.view() as view:
            records = [one for one in records if not view.is_settled(one[0])]
        if grant is not None and any(at.epoch >= grant.epoch for at, _ in records):
            raise Unavailable("the holder of these records may still be committing them; try again later")
        if records:
            replica.store.add_late(records)
        return Reply({})

    def _read_log(self, peer: str, args: Mapping[str, Any], blob: bytes) -> Protocol_[Reply]:
        replica = yield from self._replicas.wait_for(args["volume"])
        replica.check_sealed(Epoch(*args["epoch"]), digest_of(args["token"]))
        records = replica.store.read_log(int(args["first"]), int(args["limit"]))
        return Reply({"records": [len(data) for data in records]}, b"".join(records))

    def _catch_up(self, peer: str, args: Mapping[str, Any], blob: bytes) -> Protocol_[Reply]:
        replica = yield from self._sealed(args)
        credentials = Credentials(args["volume"], Epoch(*args["epoch"]), args["token"])
        return Reply((yield from catch_up(self._site, replica, credentials, str(args["source"]), int(args["least"]))))

    def _snapshot(self, peer: str, args: Mapping[str, Any], blob: bytes) -> Protocol_[Reply]:
        replica = yield from self._sealed(args)
        return Reply((yield from offer(self._site, replica, int(args["least"]))))

    def _snapshot_read(self, peer: str, args: Mapping[str, Any], blob: bytes) -> Protocol_[Reply]:
        replica = yield from self._sealed(args)
        return piece(self._site, replica, str(args["id"]), int(args["offset"]), int(args["size"]))

    def _sealed(self, args: Mapping[str, Any]) -> Protocol_[Replica]:
        """The replica that a holder means, which it must have sealed."""
        replica = yield from self._replicas.wait_for(args["volume"])
        replica.check_sealed(Epoch(*args["epoch"]), digest_of(args["token"]))
        return replica

    # --- chunks -----------------------------------------------------------------------------------------------------

    def _chunk_put(self, peer: str, args: Mapping[str, Any], blob: bytes) -> Protocol_[Reply]:
        yield from self._check_program(peer, args)
        if not args.get("repair"):
            self._check_epoch(args["volume"], Epoch(*args["epoch"]), digest_of(args["token"]))
            if self._site.node in self._site.state.membership.leaving:
                raise Unavailable(f"{self._site.node} leaves the cluster and takes no new chunks")
        elif not blob or digest_of(blob) != args["digest"]:
            raise CorruptData("a repair came with bytes of another digest")
        self._site.chunks.put(args["volume"], args["digest"], blob)
        return Reply({})

    def _chunk_get(self, peer: str, args: Mapping[str, Any], blob: bytes) -> Protocol_[Reply]:
        yield from self._check_program(peer, args)
        return Reply({}, self._site.chunks.get(args["volume"], args["digest"]))

    def _chunk_free(self, peer: str, args: Mapping[str, Any], blob: bytes) -> Protocol_[Reply]:
        """What this node's disk has free."""
        yield from ()
        return Reply({"free": self._site.chunks.free_bytes()})

    def _chunk_check(self, peer: str, args: Mapping[str, Any], blob: bytes) -> Protocol_[Reply]:
        """The same as ``chunk.get`` without the bytes: verified here, the digest says what is right. A copy that the
        collector has set aside is none: whoever asks believes that it is named, and brings it back."""
        reply = yield from self._chunk_get(peer, args, blob)
        if not self._site.chunks.has(args["volume"], args["digest"]):
            raise ChunkMissing(f"chunk {args['digest']} was set aside here")
        return Reply({"size": len(reply.blob)})

    def _check_program(self, peer: str, args: Mapping[str, Any]) -> Protocol_[None]:
        """Refuse a program that does not bear the token of the volume that it names (see ``grants.check``)."""
        if not grants.is_program(peer):
            return
        volume_id, epoch = args["volume"], Epoch(*args["epoch"])
        digest = digest_of(args["token"])
        state = self._site.state

        def granted() -> bool:
            volume = state.volumes.get(volume_id)
            return volume is not None and volume.tenure.last >= epoch

        if not granted():  # this node may hear of a new grant a moment later than its bearer
            yield Wait(self._site.applied, granted, self._site.timing.call / 2)
        grants.check(state.volume(volume_id).tenure, epoch, digest)

    def _check_epoch(self, volume_id: str, epoch: Epoch, digest: str) -> None:
        """Refuse chunks of a holder that this node knows to be one no longer, or whose token is not the grant's."""
        tenure = self._site.state.volume(volume_id).tenure
        if tenure.last > epoch:
            raise StaleEpoch(f"the volume was granted at {tenure.last} since", last=list(tenure.last))
        if tenure.grant is not None and tenure.grant.epoch == epoch:
            grants.require_same_digest(tenure.grant.digest, digest)
