"""A node's entry into the cluster: compare settings with every peer, then tell Raft who this node is.

A node whose cluster settings differ from a peer's does not join; the error names the difference (design, section 3).
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from davfs.cluster.site import Site
from davfs.cluster.threads import ThreadRuntime
from davfs.core.cluster_state import value_of
from davfs.core.effects import Protocol_, Sleep, Submit
from davfs.core.errors import ConfigError, DavfsError, Forbidden
from davfs.node.config import NodeConfig, cluster_settings
from davfs.node.past import Past
from davfs.rpc.client import RpcClient

log = logging.getLogger(__name__)

MEET_TIMEOUT_S = 2.0
RETRY_S = 0.3


class Joining:
    """The peers that were met, and the task that meets the rest."""

    def __init__(
        self,
        config: NodeConfig,
        client: RpcClient,
        runtime: ThreadRuntime,
        site: Site,
        past: Past,
        incarnation: str,
    ) -> None:
        self._past = past
        self._config = config
        self._incarnation = incarnation
        self._client = client
        self._runtime = runtime
        self._site = site
        self._unmet = {member.name for member in config.cluster.nodes} - {config.name}
        self._stopped = False

    def stop(self) -> None:
        self._stopped = True

    def check_peers(self) -> None:
        """Compare settings with every peer that answers now; :class:`ConfigError` with the difference."""
        settings = cluster_settings(self._config)
        for name in sorted(self._unmet):
            try:
                self._client.call(name, "node.meet", {"settings": settings}, timeout=MEET_TIMEOUT_S)
            except (ConfigError, Forbidden):
                raise
            except DavfsError as error:
                log.debug("%s was not met yet: %s", name, error)
            else:
                self._unmet.discard(name)

    def run(self, fail: Callable[[str], None]) -> Protocol_[None]:
        """The background task: register this node, and meet the peers that were not there at the start."""
        info = self._config.member.info(self._incarnation)
        known = None
        while not self._stopped and (self._unmet or known != info):
            self._unmet.difference_update(self._site.state.membership.removed)
            try:
                self.check_peers()
                if not self._past.settled():
                    yield Sleep(RETRY_S)
                    continue
                known = self._site.state.nodes.get(info.name)
                if known != info:
                    where = (info.rpc, info.forward)
                    command = ("node_set", info.name, info.dav, info.zone, info.weight, info.incarnation, *where)
                    value_of((yield Submit((self._site.request_id(), *command), self._site.timing.call)))
                    known = info
            except (ConfigError, Forbidden) as error:
                fail(f"this node does not join: {error.message}")
                return
            except DavfsError as error:
                log.debug("not registered yet: %s", error)
            yield Sleep(RETRY_S)
