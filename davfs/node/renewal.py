"""A node's own certificate: checked at the start, renewed at two thirds of its life, taken in anew when its files change.

A renewed certificate has a new key and goes into new connections; those that stand are used up. The authority's key on this
machine signs, or another node that has it. Where it cannot be renewed the node says so, in its log and in ``davfs status``,
for the last sixth of its life. A node whose certificate was revoked ends.
"""

from __future__ import annotations

import datetime
import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from davfs.core.cluster_state import ClusterState
from davfs.core.effects import Protocol_, Sleep
from davfs.core.errors import CertificateRefused, ConfigError, DavfsError
from davfs.node.admin import Handler
from davfs.node.certificates import Certificates
from davfs.node.config import NodeConfig
from davfs.rpc import admission
from davfs.rpc.client import RpcClient
from davfs.rpc.identity import NodeIdentity, authority_ends, load_identity, replace_pair

log = logging.getLogger(__name__)

LOOK_S = 5.0
RETRY_S = 900.0
DUE = 2 / 3
"""The share of its life after which a certificate is renewed."""

LATE = 5 / 6
"""The share of its life after which one that was not renewed is worth a warning."""

Watched: TypeAlias = tuple[tuple[int, int], ...]


def _marks(*files: Path | None) -> Watched:
    """What changes when one of the files is replaced or written to."""
    marks = []
    for file in files:
        try:
            stat = file.stat() if file is not None else None
        except OSError:
            stat = None
        marks.append((stat.st_mtime_ns, stat.st_ino) if stat else (0, 0))
    return tuple(marks)


def when(seconds: float) -> str:
    """A moment for people: to the minute, UTC."""
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")


def remedy(config: NodeConfig) -> str:
    """How a node gets a certificate that cannot ask for one with its own."""
    return (
        f"With the folder of the authority's key at hand: `davfs cert renew --config {config.file} --authority DIR`. "
        f"Otherwise `davfs node token --renew {config.name} --config FILE` on a machine whose node runs, then here "
        f"`davfs cert renew --config {config.file} --token TOKEN`"
    )


class Ended(ConfigError):
    """A node's certificate has ended."""


def load_own(config: NodeConfig, now: float | None = None) -> NodeIdentity:
    """The identity that the node's files give; :class:`ConfigError` if they are not this node's, :class:`Ended`."""
    files = config.rpc
    identity = load_identity(files.ca, files.cert, files.key)
    if identity.name != config.name:
        raise ConfigError(f"{files.cert} is the certificate of {identity.name!r}, not of {config.name!r}")
    if (time.time() if now is None else now) >= identity.own.ends:
        raise Ended(f"the certificate {files.cert} of {config.name} ended on {when(identity.own.ends)}. {remedy(config)}")
    return identity


def renew_by_hand(config: NodeConfig, authority: Path) -> NodeIdentity:
    """Sign a new certificate for a node with the authority in a folder, asking nobody, and put it in place."""
    key, request = admission.new_request(config.name)
    life = datetime.timedelta(days=config.cluster.certificate_days)
    cert, _ = admission.sign_request(authority, config.name, config.member.rpc[0], request, life)
    return install(config, cert, key)


def renew_by_token(config: NodeConfig, text: str) -> NodeIdentity:
    """Have a new certificate signed with a token of ``davfs node token --renew``, and put it in place."""
    key, request = admission.new_request(config.name)
    addresses = {member.name: member.rpc for member in config.cluster.nodes if member.name != config.name}
    client = RpcClient(admission.read_token(text).identity(), addresses.__getitem__)
    try:
        answer = admission.ask_to_sign(client, addresses, request)
    finally:
        client.close()
    if answer["name"] != config.name:
        raise ConfigError(f"the token is for {answer['name']}, not for {config.name}, and is spent now; make another")
    return install(config, answer["cert"], key)


def install(config: NodeConfig, cert: bytes, key: bytes) -> NodeIdentity:
    """Put a new pair in place of a node's files and load it; a running node takes it in within :data:`LOOK_S` seconds."""
    try:
        replace_pair(config.rpc.cert, config.rpc.key, cert, key)
    except OSError as error:
        raise ConfigError(f"the new certificate cannot be written to {config.rpc.cert}: {error.strerror}") from error
    return load_own(config)


class Renewal:
    """The task of one node. ``changed`` is called after another certificate was taken in; ``others``: the nodes that may
    sign; ``heard``: whether Raft hears others; ``wall``: seconds since 1970."""

    def __init__(
        self,
        config: NodeConfig,
        identity: NodeIdentity,
        state: ClusterState,
        client: RpcClient,
        certificates: Certificates,
        heard: Callable[[], bool],
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._config = config
        self._identity = identity
        self._state = state
        self._client = client
        self._certificates = certificates
        self._heard = heard
        self._wall = wall
        self._stopped = False
        self._trouble = ""
        self._not_before = 0.0
        self._seen = self._watched()
        self._public_seen = _marks(config.dav.cert, config.dav.key)
        self.changed: list[Callable[[], None]] = []
        self.public_changed: Callable[[], None] = lambda: None
        """Called when the files of the https certificate changed."""

    def handlers(self) -> Mapping[str, Handler]:
        """Method name -> handler."""
        return {
            "admin.cert_renew": self._renew_now,
        }

    def stop(self) -> None:
        self._stopped = True

    def status(self) -> dict[str, Any]:
        """This node's certificate: serial, ends and authority_ends (seconds since 1970); trouble: what keeps it from being
        renewed in time, or ""."""
        own = self._identity.own
        late = self._wall() >= own.made + LATE * (own.ends - own.made)
        trouble = self._trouble or ("it should have been renewed by now" if late else "")
        try:
            authority = authority_ends(self._config.rpc.ca, self._config.rpc.cert)
        except (OSError, ValueError, ConfigError):
            authority = 0.0
        return {"serial": own.serial, "ends": own.ends, "authority_ends": authority, "trouble": trouble if late else ""}

    def run(self, fail: Callable[[str], None]) -> Protocol_[None]:
        """The background task; ``fail`` ends a node whose certificate was revoked."""
        while not self._stopped:
            try:
                self.look()
            except CertificateRefused as error:
                fail(f"{error.message}. {remedy(self._config)}")
                return
            except DavfsError as error:
                log.debug("certificates: %s", error.message)
            own = self._identity.own
            yield Sleep(min(LOOK_S, (own.ends - own.made) / 50))

    def look(self) -> None:
        """Do what is due; :class:`CertificateRefused` if this node's certificate opens nothing any more."""
        self._take_in()
        self._take_in_public()
        own, now = self._identity.own, self._wall()
        if self._certificates.refuses(own):
            raise CertificateRefused(self._certificates.why(own))
        if now >= own.made + DUE * (own.ends - own.made) and now >= self._not_before:
            self._try_to_renew(now)
        if not self._heard():
            self._ask_why()
            return
        if own.serial not in self._state.certificates.listed:
            self._certificates.see(self._identity.own)
        for serial, peer in list(self._certificates.unlisted.items()):
            self._certificates.see(peer)
            del self._certificates.unlisted[serial]

    def renew(self) -> None:
        """Have a new certificate signed, put it in place, and use it from now on."""
        key, request = admission.new_request(self._config.name)
        if admission.has_authority(self._config.authority):
            cert, _ = self._certificates.sign(self._config.name, request)
        else:
            others = [name for name in self._state.nodes if name != self._config.name]
            cert = admission.ask_to_sign(self._client, others, request)["cert"]
        install(self._config, cert, key)
        self._take_in()

    def _try_to_renew(self, now: float) -> None:
        own = self._identity.own
        try:
            if now >= own.ends and admission.has_authority(self._config.authority):
                renew_by_hand(self._config, self._config.authority)  # everybody's may have ended: Raft answers no more
                self._take_in()
            else:
                self.renew()
        except CertificateRefused:
            raise
        except DavfsError as error:
            self._trouble = error.message
            self._not_before = now + min(RETRY_S, (own.ends - own.made) / 50)
            log.warning("the certificate ends on %s and could not be renewed: %s", when(own.ends), error.message)

    def _take_in(self) -> None:
        """Use what the files hold now, if they changed."""
        seen = self._watched()
        if seen == self._seen:
            return
        try:
            loaded = load_own(self._config, self._wall())
        except ConfigError as error:
            log.warning("the changed certificate is not used: %s", error.message)
            self._seen = seen
            return
        self._identity.replace_by(loaded)
        self._seen, self._trouble, self._not_before = self._watched(), "", 0.0
        log.info("using the certificate %s, which ends on %s", loaded.own.serial, when(loaded.own.ends))
        for changed in self.changed:
            changed()

    def _take_in_public(self) -> None:
        """The same for the https certificate, which is the operator's business to renew."""
        seen = _marks(self._config.dav.cert, self._config.dav.key)
        if seen != self._public_seen:
            self._public_seen = seen
            try:
                self.public_changed()
                log.info("using the https certificate %s as it is now", self._config.dav.cert)
            except ConfigError as error:
                log.warning("the changed https certificate is not used: %s", error.message)

    def _watched(self) -> Watched:
        return _marks(self._config.rpc.cert, self._config.rpc.key, self._config.rpc.ca)

    def _ask_why(self) -> None:
        """Who hears nobody may have been cut off: the word that its certificate was revoked did not reach it then."""
        for name in self._state.nodes:
            if name != self._config.name:
                try:
                    self._client.call(name, "node.status", {}, timeout=1.0)
                except CertificateRefused:
                    raise
                except DavfsError:
                    continue

    def _renew_now(self, _peer: str, _args: dict[str, Any], _blob: bytes) -> tuple[Any, bytes]:
        """An administrator wants this node to have a new certificate now."""
        self.renew()
        own = self._identity.own
        return {"name": own.name, "serial": own.serial, "ends": own.ends}, b""
