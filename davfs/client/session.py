"""One grant of a program: the parts of a holder put together over the network, with a working copy on this machine.

The flows are the nodes' own (``cluster``): assign, seal, adopt, commit, quorum writes. What a node does through Raft a
program asks a node to do; what a node keeps in its replica a program keeps in a temporary database, filled from the
records of the sealed replicas, which counts in no majority.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from davfs.client.bearer import Bearer
from davfs.client.link import Link
from davfs.client.mirror import Mirror
from davfs.cluster import replacing
from davfs.cluster.assign import take
from davfs.cluster.clock import BootClock, SystemRandom
from davfs.cluster.entering import CONFIRMED
from davfs.cluster.holder import Holder
from davfs.cluster.lagging import Credentials
from davfs.cluster.replica import Replica
from davfs.cluster.service import Service
from davfs.cluster.site import Site, Timing
from davfs.cluster.threads import ThreadRuntime, ThreadSignal
from davfs.core.chunk_port import ChunkPage
from davfs.core.cluster_state import VolumeState
from davfs.core.effects import Protocol_
from davfs.core.errors import ChunkMissing, DavfsError, InvalidInput, StaleEpoch, TokenRefused, VolumeNotFound
from davfs.core.grants import Grant, Tenure
from davfs.core.model import Epoch
from davfs.core.ports import ReplicaStore
from davfs.crdt.documents import AutomergeDocuments
from davfs.storage.replica_db import ReplicaDb

log = logging.getLogger(__name__)

WORKERS = 32


class NoChunks:
    """Port: ``core.chunk_port.ChunkStore``, of a machine that keeps none: all chunks are on the nodes."""

    def put(self, volume: str, digest: str, data: bytes | memoryview) -> None:
        raise InvalidInput("a program keeps no chunks")

    def get(self, volume: str, digest: str) -> bytes:
        raise ChunkMissing("a program keeps no chunks")

    def has(self, volume: str, digest: str) -> bool:
        return False

    def free_bytes(self) -> int:
        """As good as endless: the nodes say when theirs are full."""
        return 1 << 60

    def keep(self, volume: str, digest: str) -> int:
        raise ChunkMissing("a program keeps no chunks")

    def age_ns(self) -> int:
        return 0

    def page(self, volume: str, after: str, limit: int, before: int) -> ChunkPage:
        return ChunkPage([], 0, 0, None)

    def remove(self, volume: str, digests: Sequence[str], before: int) -> tuple[int, int]:
        return 0, 0

    def sweep(self, volume: str, before: int) -> tuple[int, int]:
        return 0, 0


class WorkingCopy:
    """Where this program's own requests find the replica: it has one."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica

    def wait_for(self, volume_id: str) -> Protocol_[Replica]:
        yield from ()
        if volume_id != self._replica.volume:
            raise VolumeNotFound(f"this program works in another volume than {volume_id}")
        return self._replica

    def store_here(self, volume_id: str) -> ReplicaStore | None:
        return self._replica.store if volume_id == self._replica.volume else None


class Session:
    """A volume that this program holds, until it is freed or lost. ``open`` takes it."""

    def __init__(self, link: Link, answer: Mapping[str, Any], ttl: float) -> None:
        self._link = link
        self._mirror = Mirror()
        self.volume = self._mirror.learn(answer)
        self._directory = TemporaryDirectory(prefix="davfs-program-")
        self._bearer = Bearer(link)
        self.runtime = ThreadRuntime(link.name, self._bearer, self._submit, WORKERS)
        self._applied = ThreadSignal()
        store = ReplicaDb(Path(self._directory.name) / "volume.db")
        self.site = Site(
            node=link.name,
            clock=BootClock(),
            random=SystemRandom(),
            state=self._mirror,
            applied=self._applied,
            chunks=NoChunks(),
            documents=AutomergeDocuments(),
            open_store=lambda volume: store,
            make_signal=ThreadSignal,
            up=link.up,
            timing=Timing(ttl=ttl),
        )
        self._replica = Replica(self.site, self.volume.id, store)
        self.runtime.handlers = Service(self.site, WorkingCopy(self._replica)).handlers
        self._holder: Holder | None = None
        self._since = 0.0  # when the grant or its last good refresh was first sent
        self._ended = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="token", daemon=True)

    # --- the beginning ----------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Assign the volume and load its tree. Errors: see ``cluster.assign.take``; nothing is left behind then."""
        try:
            holder = self.runtime.run(take(self.site, self.volume, self._replica, self._granted))
            holder.refreshed(self._since)
            self._holder = holder
            self.runtime.start(self._replica.keep_trimming(self._ended.is_set), "trim")
        except BaseException:
            self._close()
            raise

    def _granted(self, credentials: Credentials, digest: str, since: float) -> None:
        """The grant is there, nothing is loaded yet: from now on it is refreshed, however long loading takes."""
        self._since = since
        self._bearer.credentials = credentials
        self._keeper.start()

    @property
    def holder(self) -> Holder:
        """The holder; :class:`LeaseLost` (from its own check) tells whether it may still be used."""
        if self._holder is None:
            raise InvalidInput("the volume was freed")
        return self._holder

    def reading(self) -> Holder:
        """The holder, for a read that begins: its lease is checked, or a majority asked if the policy wants that."""
        holder = self.holder
        holder.check_lease()
        if holder.state().policy.reads == CONFIRMED:
            self.runtime.run(holder.confirm())
        return holder

    @property
    def held(self) -> bool:
        """Whether the volume may be used right now."""
        return self._holder is not None and self._holder.leased

    @property
    def epoch(self) -> Epoch:
        """The epoch of the grant."""
        return self.holder.credentials.epoch

    # --- Raft, asked through a node ---------------------------------------------------------------------------------

    def _submit(self, command: tuple[Any, ...], timeout: float) -> Any:
        request_id, verb, *arguments = command
        if verb == "assign":
            _, digest, address, ttl = arguments
            args = {"name": self.volume.name, "token_digest": digest, "ttl": ttl, "request_id": request_id}
            answer = self._link.ask("token.assign", args, timeout)
            epoch = Epoch(*answer["epoch"])
            self._mirror.granted(self._learn(answer), Tenure(epoch, Grant(epoch, digest, address, ttl)))
            return ("ok", answer["epoch"])
        proof = {**self._proof(), "request_id": request_id}
        if verb == "free":
            self._link.ask("token.free", proof, timeout)
        elif verb in ("replicas_join", "replicas_done"):
            _, _, version, *incarnation = arguments
            step = {"step": verb.removeprefix("replicas_"), "version": version, "incarnation": "".join(incarnation)}
            self._learn(self._link.ask("token.replicas", {**proof, **step}, timeout))
        elif verb == "replica_admit":
            _, node, incarnation, _ = arguments
            self._learn(self._link.ask("token.admit", {**proof, "node": node, "incarnation": incarnation}, timeout))
        else:
            raise InvalidInput(f"a program does not ask for {verb!r}")
        return ("ok", None)

    def _proof(self) -> dict[str, Any]:
        if self._bearer.credentials is None:
            raise InvalidInput("the volume is not assigned")
        return self._bearer.credentials.wire()

    def _learn(self, answer: Mapping[str, Any]) -> VolumeState:
        volume = self._mirror.learn(answer)
        self._applied.notify()
        return volume

    def _keep(self) -> None:
        """The background thread: refresh the token; it ends when the grant does.

        A holder that stopped by itself (a record's fate is unknown) is of no use any more: its token may expire.
        """
        ttl = self.site.timing.ttl
        while not self._ended.wait(ttl / 5) and (self._holder is None or not self._holder.log.stopped):
            first_sent = self.site.clock.now()
            try:
                self._learn(self._link.ask("token.refresh", self._proof(), ttl / 2))
            except (StaleEpoch, TokenRefused) as error:
                log.warning("volume %s: its token is no longer good: %s", self.volume.name, error)
                if self._holder is not None:
                    self._holder.depose(error.message)
                return
            except DavfsError as error:
                log.info("volume %s: its token could not be refreshed: %s", self.volume.name, error)
                continue
            self._since = first_sent
            if self._holder is not None:
                self._holder.refreshed(first_sent)
                if replacing.is_due(self._holder):
                    self.runtime.start(replacing.carry_out(self._holder), "replace")

    # --- the end ----------------------------------------------------------------------------------------------------

    def free(self) -> None:
        """Flush what was written to all replicas that answer, give the volume back, end all threads.

        Once; the second time it does nothing. An error means that the token ends by itself within its ttl.
        """
        holder, self._holder = self._holder, None
        if holder is None:
            return
        try:
            if holder.log.stopped:
                self.runtime.run(holder.give_back())
            else:
                self.runtime.run(holder.release())
        except (StaleEpoch, TokenRefused) as error:
            log.info("volume %s: its token had ended: %s", self.volume.name, error)
        finally:
            holder.log.stop()
            self._close()

    def _close(self) -> None:
        self._ended.set()
        if self._keeper.ident is not None:
            self._keeper.join(self.site.timing.ttl)
        self.runtime.close()
        self._replica.close()
        self._directory.cleanup()
