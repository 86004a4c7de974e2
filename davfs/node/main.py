"""The composition root: builds a node from its configuration, runs it, and takes it down in order.

The one place where all layers meet. Nothing here decides anything about files or volumes.
"""

from __future__ import annotations

import itertools
import logging
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from davfs.cluster.clock import BootClock, SystemRandom
from davfs.cluster.collector_runs import CollectorRuns
from davfs.cluster.compaction import Compaction
from davfs.cluster.deleted import DeletedVolumes
from davfs.cluster.expiry import Expiry
from davfs.cluster.fetcher import Fetcher
from davfs.cluster.gateway import Gateway
from davfs.cluster.replicas import Replicas
from davfs.cluster.scrub import Scrub
from davfs.cluster.service import Service
from davfs.cluster.site import Bounds, Site, Timing
from davfs.cluster.standing import Standing
from davfs.cluster.threads import ThreadRuntime, ThreadSignal
from davfs.cluster.unheld import UnheldLate
from davfs.cluster.voters import Voters
from davfs.consensus.raft import RaftNode
from davfs.core.accounts import Accounts
from davfs.core.cluster_state import ClusterState
from davfs.core.errors import ConfigError, DavfsError
from davfs.core.membership import MOST_NODES
from davfs.core.model import MIB
from davfs.crdt.documents import AutomergeDocuments
from davfs.dav.application import DavApplication
from davfs.dav.authenticator import Authenticator
from davfs.dav.request import DavSettings
from davfs.dav.server import DavServer
from davfs.node import memory, open_files
from davfs.node.account_admin import AccountAdmin
from davfs.node.addresses import Addresses
from davfs.node.admin import Admin
from davfs.node.admission import Admission, members_only
from davfs.node.certificates import Certificates
from davfs.node.collector_admin import CollectorAdmin
from davfs.node.config import Limits, NodeConfig
from davfs.node.departure import Removal
from davfs.node.http_api import HttpApi
from davfs.node.imports import Imports
from davfs.node.join import Joining
from davfs.node.looks import Looks
from davfs.node.past import Past
from davfs.node.programs import VOLUME_METHODS, Programs
from davfs.node.renewal import Ended, Renewal, load_own, renew_by_hand
from davfs.node.replica_admin import ReplicaAdmin
from davfs.node.scrub_admin import ScrubAdmin
from davfs.node.trash_admin import TrashAdmin
from davfs.node.usage_admin import UsageAdmin
from davfs.rpc.admission import has_authority
from davfs.rpc.client import RpcClient
from davfs.rpc.forward import Forwarder
from davfs.rpc.frames import HttpFrameNetwork
from davfs.rpc.identity import NodeIdentity, peer_name, peer_of, public_context
from davfs.rpc.server import RpcServer
from davfs.storage.age_clock import NAME, AgeClock
from davfs.storage.book import COLLECTIONS, SCRUBS, DiskBook
from davfs.storage.chunk_store import DiskChunkStore
from davfs.storage.data_dir import DataDirectory
from davfs.storage.files import TEMPORARY
from davfs.storage.raft_journal import RaftJournal
from davfs.storage.reference_set import ReferenceSet
from davfs.storage.replica_db import ReplicaDb

log = logging.getLogger(__name__)

SWITCH_INTERVAL_S = 0.002
"""Raft's tick thread shares the interpreter with the requests' threads: none may keep it for long (section 3)."""

DRAIN_S = 0.5
"""How long requests that are on their way keep a volume when its holder is told to stop."""


def serve(config: NodeConfig, stop: threading.Event) -> int:
    """Run a node until ``stop`` is set; 0, or 1 with the reason logged when it could not run or had to end."""
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    memory.tune()
    open_files.allow()
    with ExitStack() as stack:
        node = Node(config, stack)
        node.start(stop)
        stop.wait()
        log.info("stopping")
    return 1 if node.failure else 0


class Node:
    """One node's parts. Everything that must be closed is on ``stack``, in the order in which it was opened."""

    def __init__(self, config: NodeConfig, stack: ExitStack) -> None:
        if len(config.cluster.nodes) > MOST_NODES:
            raise ConfigError(f"{config.file}: cluster.nodes: at most {MOST_NODES} nodes are possible so far")
        self.config = config
        self.failure = ""
        self._stack = stack
        self._identity = self._load_identity()
        directory = DataDirectory(config.data, config.name)
        stack.callback(directory.close)
        self._numbers = itertools.count(1)  # of scratch files
        self._ages = AgeClock(directory.path / NAME, BootClock().now)
        stack.callback(self._ages.save)
        self.state = ClusterState()
        self.addresses = Addresses(config, self.state)
        self.client = RpcClient(self._identity, self.addresses.rpc)
        stack.callback(self.client.close)

        network = HttpFrameNetwork(self._identity, self.addresses.rpc)
        # One that joined begins without a vote, and learns from the log who votes.
        founders = [member.name for member in config.cluster.nodes if not (config.joined and member.name == config.name)]
        journal = RaftJournal(directory.raft / "journal.db")
        self.raft = RaftNode(config.name, founders, journal, self.state, network, cautious=True)
        stack.callback(self.raft.close)
        self.runtime = ThreadRuntime(config.name, self.client, self.raft.submit, reconfigure=self.raft.reconfigure)
        stack.callback(self.runtime.close)

        self.site = self._make_site(directory)
        self.fetcher = Fetcher(self.site)
        self.replicas = Replicas(self.site, self.fetcher)
        stack.callback(self.replicas.stop)
        self.gateway = Gateway(self.site, self.replicas, self.runtime)
        self.service = Service(self.site, self.replicas)
        self.runtime.handlers = self.service.handlers
        self.certificates = Certificates(config, self.state, self.raft, self.site.request_id)
        self._identity.refuses = self.certificates.refuses
        self.renewal = Renewal(
            config, self._identity, self.state, self.client, self.certificates, lambda: self.raft.leader is not None
        )
        self.expiry = Expiry(self.site, lambda: self.raft.is_leader, lambda: self.raft.term)
        self.admin = Admin(
            config, self.state, self.raft, self.gateway.create_volume, self.site.request_id,
            lambda: self.raft.members.voters, self.renewal.status, self.gateway.alone, self.expiry.remaining,
        )  # fmt: skip
        self.looks = Looks(self.site, self.replicas, self.gateway)
        stack.callback(self.looks.stop)
        self.imports = Imports(self.gateway, self.runtime)
        self.trash = TrashAdmin(self.gateway, self.runtime)
        self.usage = UsageAdmin(self.state, self.raft, self.gateway.sessions, self.site.request_id, self.replicas.standing)
        self.accounts = AccountAdmin(config.dav, self.state, self.raft, self.site.clock, self.site.request_id)
        self.programs = Programs(config, self.state, self.raft, self.expiry.remaining, self.site.request_id)
        self.admission = Admission(config, self.state, self.raft, self.client, self.site.request_id)
        self.past = Past(config, self.state, self.raft, self.client, directory.incarnation)
        self.removal = Removal(self.service.departure, lambda: self.raft.members, self.runtime.run)
        self.replica_admin = ReplicaAdmin(self.site, self.raft, self.client, self.gateway.followers)
        limits = config.limits
        self.collector, self.collecting = self._make_collector(directory)
        self.deleted = DeletedVolumes(self.site, self._folders, self.replicas, limits.deleted_volume_hours * 3600.0)
        self.scrub = self._make_scrub(directory)
        self.scrubbing = ScrubAdmin(self.state, self.scrub, self.replicas, self.runtime.start)
        self.voters = Voters(config.name, self.raft, self.state, self.site.request_id)
        handlers = self._handlers()
        self.rpc = RpcServer(
            *config.rpc.listen, self._identity, handlers, network.deliver, config.limits.rpc_threads,
            api=HttpApi(handlers, self.state), for_programs=[*VOLUME_METHODS, *self.programs.handlers(), "node.renew"],
            for_joiners=["node.join", "node.renew"], admit=self.certificates.admit_peer,
        )  # fmt: skip
        self.compaction = Compaction(self.site, self.replicas, self.gateway.maintenance)
        self.unheld = UnheldLate(self.site, self.replicas, self.gateway.maintenance)
        self.standing = Standing(self.site, self.replicas, self.gateway.maintenance)
        self.joining = Joining(config, self.client, self.runtime, self.site, self.past, directory.incarnation)

    def _make_site(self, directory: DataDirectory) -> Site:
        applied, cluster = ThreadSignal(), self.config.cluster
        self._folders = DiskChunkStore(directory.chunks, self._ages.now_ns)
        self.raft.on_applied(applied.notify)
        return Site(
            node=self.config.name,
            clock=BootClock(),
            random=SystemRandom(),
            state=self.state,
            applied=applied,
            chunks=self._folders,
            documents=AutomergeDocuments(),
            open_store=lambda volume: ReplicaDb(directory.volume_database(volume), self._ages.now_ns),
            make_signal=ThreadSignal,
            up=self._up,
            timing=Timing(
                ttl=cluster.token_ttl, idle=cluster.session_idle,
                grace=cluster.chunk_grace, quarantine=cluster.chunk_quarantine,
            ),
            bounds=_bounds(self.config.limits),
            leader_known=lambda: self.raft.leader is not None,
            stored=directory.stored_volumes,
            drop_store=directory.drop_volume,
        )

    def _make_scrub(self, directory: DataDirectory) -> Scrub:
        limits, book = self.config.limits, DiskBook(directory.path, SCRUBS)
        return Scrub(self.site, self.replicas, limits.scrub_hours * 3600.0, limits.scrub_mib_per_s * MIB, book)

    def _make_collector(self, directory: DataDirectory) -> tuple[CollectorRuns, CollectorAdmin]:
        def scratch() -> ReferenceSet:
            return ReferenceSet(directory.path / f"{TEMPORARY}{next(self._numbers)}")

        interval_s = self.config.limits.collect_minutes * 60.0
        book = DiskBook(directory.path, COLLECTIONS)
        runs = CollectorRuns(self.site, self.replicas, self.gateway.maintenance, scratch, interval_s, book)
        return runs, CollectorAdmin(self.state, runs, self.service.collecting, self.runtime.run, self.runtime.start)

    def _up(self, name: str) -> bool:
        """Whether a node answers, as far as is known: Raft's messages and the last connects reach it."""
        return name == self.config.name or (self.client.up(name) and name in self.raft.connected_peers)

    def _peer(self, certificate: dict[str, Any] | None) -> str | None:
        """The name of the node that connects, None for one that may not."""
        peer = peer_of(certificate)
        return None if peer is None or self.certificates.gone(peer) else peer_name(certificate)

    def _load_identity(self) -> NodeIdentity:
        """The node's own; one that has ended is renewed if the authority's key is on this machine."""
        try:
            return load_own(self.config)
        except Ended:
            if not has_authority(self.config.authority):
                raise
        log.warning("the certificate had ended: renewed with the key in %s", self.config.authority)
        return renew_by_hand(self.config, self.config.authority)

    def _handlers(self) -> dict[str, Any]:
        def of(method: str) -> Any:
            return lambda peer, args, blob: self.runtime.handle(method, peer, args, blob)

        own = {
            **self.admin.handlers(), **self.usage.handlers(), **self.accounts.handlers(), **self.programs.handlers(),
            **self.admission.handlers(), **self.removal.handlers(),
            **self.replica_admin.handlers(), **self.past.handlers(), **self.looks.handlers(),
            **self.certificates.handlers(), **self.renewal.handlers(), **self.imports.handlers(), **self.trash.handlers(),
            **self.collecting.handlers(), **self.scrubbing.handlers(),
        }  # fmt: skip
        return {method: of(method) for method in self.service.handlers} | own

    # --- start ------------------------------------------------------------------------------------------------------

    def start(self, stop: threading.Event) -> None:
        """Open all listeners and start the background tasks."""

        def fail(reason: str) -> None:
            log.error("%s", reason)
            self.failure = reason
            stop.set()

        self.joining.check_peers()
        self.rpc.start()
        self._stack.callback(self.rpc.stop)
        self._stack.callback(self.raft.resign)  # while messages still come in
        runtime = self.runtime
        runtime.start(self.joining.run(fail), "join")
        runtime.start(self.replicas.keep(), "replicas")
        runtime.start(self.fetcher.run(), "fetch")
        runtime.start(self.expiry.run(), "expire")
        runtime.start(self.scrub.run(), "scrub")
        runtime.start(self.compaction.run(), "compact")
        self._stack.callback(self.compaction.stop)
        runtime.start(self.unheld.run(), "late")
        self._stack.callback(self.unheld.stop)
        runtime.start(self.standing.run(), "standing")
        self._stack.callback(self.standing.stop)
        runtime.start(self.collector.run(), "collect")
        runtime.start(self.deleted.run(), "deleted")
        runtime.start(self.service.collecting.run(self._ages.save), "sweep")
        runtime.start(self.gateway.keep_tokens(), "tokens")
        runtime.start(self.gateway.expire_uploads(), "uploads")
        runtime.start(self.voters.run(fail), "voters")
        runtime.start(self.looks.keep(), "looks")
        runtime.start(self.renewal.run(fail), "certificates")
        collector = (self.deleted, self.collector, self.service.collecting)
        for task in (*collector, self.scrub, self.fetcher, self.expiry, self.joining, self.voters, self.renewal):
            self._stack.callback(task.stop)
        # Last to open and first to close: no request may find a part missing.
        self._start_dav()
        log.info("serving %s", self.config.member.dav)

    def _start_dav(self) -> None:
        config = self.config
        forwarder = Forwarder(self._identity, self.addresses.forward)
        self._stack.callback(forwarder.close)
        users = {} if config.dav.anonymous else {user.name: user.password for user in config.dav.users}

        def accounts() -> Accounts:
            return self.state.accounts

        application = DavApplication(
            self.gateway,
            DavSettings(
                ttl_s=config.cluster.token_ttl, external_names=config.dav.external_names,
                trusted_proxies=config.dav.trusted_proxies, proxy_headers=config.dav.proxy_headers, prefix=config.dav.prefix,
            ),
            forwarder,
            Authenticator(users, accounts, anonymous=config.dav.anonymous),
            accounts,
        )
        limits = config.limits
        forwarded = DavServer(
            *config.forward.listen, members_only(application, self.certificates.admit_peer), self._identity.server,
            threads=limits.forward_threads, working=limits.working_requests, peer_name=self._peer, name="forward",
        )  # fmt: skip
        public = DavServer(
            *config.dav.listen, application, self._public_tls(), threads=limits.dav_threads, working=limits.working_requests
        )
        self.renewal.changed.append(lambda: forwarded.use_tls(self._identity.server))
        self.renewal.public_changed = lambda: public.use_tls(self._public_tls())
        servers: list[DavServer] = []
        self._stack.callback(self._stop_dav, servers)
        for server in (forwarded, public):
            server.start()
            servers.append(server)

    def _public_tls(self) -> Any:
        dav = self.config.dav
        return public_context(dav.cert, dav.key) if dav.cert and dav.key else None

    def _stop_dav(self, servers: Sequence[DavServer]) -> None:
        """Take no more requests and free the volumes, without keeping the other nodes waiting for a slow client: an upload
        that goes on for longer than a moment fails, and a download has its full time, for it needs no token."""
        ending = [threading.Thread(target=server.stop, name="drain") for server in servers]
        for thread in ending:
            thread.start()
        free_at = time.monotonic() + DRAIN_S
        for thread in ending:
            thread.join(max(0.0, free_at - time.monotonic()))
        self._release()
        for thread in ending:
            thread.join()

    def _release(self) -> None:
        try:
            self.gateway.stop()
        except DavfsError as error:
            log.warning("a volume could not be freed and expires instead: %s", error)


def _bounds(limits: Limits) -> Bounds:
    return Bounds(
        limits.document_cache,
        limits.upload_window,
        log_records=limits.log_thousands * 1000,
        log_bytes=limits.log_mib * MIB,
        snapshot_rate=limits.snapshot_mib_per_s * MIB,
    )
