"""Questions to the cluster: whichever node answers first, the one that answered last before the others.

Every question stands being asked twice: changes carry a request id, so that asking another node again does it once. A program
that goes on for months has its certificate renewed meanwhile, at two thirds of its life.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Mapping
from typing import Any

from davfs.client.profile import Profile, renew_in_use
from davfs.core.errors import CallTimeout, DavfsError, NotFound, Unavailable
from davfs.rpc.client import RpcClient

SILENT_S = 5.0
"""How long a node that did not answer in time is asked last, unless it answers meanwhile (the log asks it all the time)."""


DUE = 2 / 3
"""The share of its life after which the certificate is renewed."""

RENEW_AGAIN_S = 3600.0

log = logging.getLogger(__name__)


class Link:
    """The connections of one program. Thread-safe."""

    def __init__(self, profile: Profile) -> None:
        self.name = profile.identity.name
        self._profile = profile
        self._renewing = threading.Lock()
        self._not_before = 0.0
        self._addresses = dict(profile.nodes)
        self._order = list(profile.nodes)
        self._silent: dict[str, float] = {}  # node -> until when
        self._client = RpcClient(profile.identity, self._resolve)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def up(self, node: str) -> bool:
        """Whether a node answers, as far as is known."""
        return self._client.up(node) and time.monotonic() >= self._silent.get(node, 0.0)

    def call(
        self, node: str, method: str, args: Mapping[str, Any], blob: bytes | memoryview = b"", *, timeout: float
    ) -> tuple[Any, bytes]:
        """One request to one node (see ``rpc.client``)."""
        try:
            answer = self._client.call(node, method, args, blob, timeout=timeout)
        except CallTimeout:
            self._silent[node] = time.monotonic() + SILENT_S
            raise
        except DavfsError:
            self._silent.pop(node, None)
            raise
        self._silent.pop(node, None)
        return answer

    def ask(self, method: str, args: Mapping[str, Any], timeout: float) -> dict[str, Any]:
        """The answer of the first node that can give one, within ``timeout`` seconds. A refusal is an answer.

        :class:`Unavailable` with what each node said.
        """
        self._keep_certificate()
        args = {"request_id": secrets.token_hex(12), **args}
        ends = time.monotonic() + timeout
        troubles: dict[str, str] = {}
        # A node that hangs must leave time to ask another, and one without a leader a moment ago may have one now.
        patience = max(0.2, timeout / 3)
        while True:
            for node in list(self._order):
                left = ends - time.monotonic()
                if left <= 0:
                    raise Unavailable("no node could answer. " + "; ".join(f"{n}: {t}" for n, t in troubles.items()))
                try:
                    value, _ = self.call(node, method, args, timeout=min(left, patience))
                except Unavailable as error:
                    troubles[node] = error.message
                    continue
                self._learn(node, value)
                answer: dict[str, Any] = value
                return answer
            time.sleep(min(0.05, max(0.0, ends - time.monotonic())))

    def _keep_certificate(self) -> None:
        """Renew the certificate beside what is asked for, if it is time."""
        own, now = self._profile.identity.own, time.time()
        if now < own.made + DUE * (own.ends - own.made) or now < self._not_before:
            return
        if self._renewing.acquire(blocking=False):
            self._not_before = now + RENEW_AGAIN_S
            threading.Thread(target=self._renew, name="certificate", daemon=True).start()

    def _renew(self) -> None:
        try:
            renew_in_use(self._profile, self._client, list(self._order))
            self._not_before = 0.0
            log.info("%s has a new certificate", self.name)
        except DavfsError as error:
            log.warning("the certificate of %s could not be renewed: %s", self.name, error.message)
        finally:
            self._renewing.release()

    def _learn(self, answered: str, value: Any) -> None:
        """Note who answered, and the nodes that it named."""
        for node in value.get("nodes", ()):
            host, port = node["rpc"]
            self._addresses[node["name"]] = (host, port)
        if self._order[0] != answered or len(self._order) != len(self._addresses):
            self._order = [answered, *(name for name in self._addresses if name != answered)]

    def _resolve(self, node: str) -> tuple[str, int]:
        try:
            return self._addresses[node]
        except KeyError:
            raise NotFound(f"no address of a node {node} is known") from None
