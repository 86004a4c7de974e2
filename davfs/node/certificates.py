"""Certificates given out and withdrawn while the cluster runs: the methods that sign, list and revoke.

Only a node that has the key of the cluster's authority signs, and only for whoever asks: its name is what its certificate
said, or the node that its token is for. What is signed and revoked stands in Raft's state (``core/certificates.py``), by
which every node judges each request, those of open connections too. A node's own certificate is ``renewal.py``'s.
"""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Mapping
from typing import Any

from davfs.core.cluster_state import ClusterState, value_of
from davfs.core.errors import CertificateRefused, Forbidden, InvalidInput, NodeNotFound, Unavailable
from davfs.core.grants import JOINER, is_joiner, is_program
from davfs.node.admin import COMMAND_TIMEOUT, Handler, Raft
from davfs.node.config import NodeConfig, parse_address
from davfs.rpc import admission
from davfs.rpc.identity import Peer, describe_pem


class Certificates:
    """The methods over one node's parts. ``new_id`` gives fresh request ids, ``wall`` the seconds since 1970."""

    def __init__(
        self,
        config: NodeConfig,
        state: ClusterState,
        raft: Raft,
        new_id: Callable[[], str],
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._config = config
        self._state = state
        self._raft = raft
        self._new_id = new_id
        self._wall = wall
        self._noticed: set[str] = set()
        self.unlisted: dict[str, Peer] = {}
        """Certificates that were shown here and are not listed yet: serial -> whose."""

    def handlers(self) -> Mapping[str, Handler]:
        """Method name -> handler."""
        return {
            "node.renew": self._renew,
            "admin.cert_list": self._list,
            "admin.cert_revoke": self._revoke,
        }

    def admit_peer(self, peer: Peer) -> None:
        """Refuse who was removed, and a certificate that was revoked or has ended meanwhile (``RpcServer``)."""
        if peer.name in self._state.membership.removed:
            raise Forbidden(f"{peer.name} was removed from the cluster; to come back it joins anew, under another name")
        if self.refuses(peer):
            raise CertificateRefused(self.why(peer), serial=peer.serial)
        if self._wall() > peer.ends:
            raise CertificateRefused(f"the certificate {peer.serial} of {peer.name} has ended", serial=peer.serial)
        if peer.serial not in self._noticed and not is_joiner(peer.name):
            self._noticed.add(peer.serial)
            if peer.serial not in self._state.certificates.listed:
                self.unlisted[peer.serial] = peer

    def gone(self, peer: Peer) -> bool:
        """Whether a peer is removed, or its certificate opens nothing any more."""
        return peer.name in self._state.membership.removed or self.refuses(peer)

    def refuses(self, peer: Peer) -> bool:
        """Whether the certificate was revoked, as far as this node has heard."""
        return self._state.certificates.refused(peer.name, peer.serial)

    def why(self, peer: Peer) -> str:
        """What to tell about a certificate that is refused."""
        if peer.serial in self._state.certificates.revoked:
            return f"the certificate {peer.serial} of {peer.name} was revoked"
        return (
            f"what was made for {peer.name} was revoked by name, and the certificate {peer.serial} is not listed: "
            "one that counts is signed by a node that runs"
        )

    # --- signing ------------------------------------------------------------------------------------------------------

    def sign(self, name: str, request: bytes, token_id: str = "") -> tuple[bytes, bytes]:
        """(certificate, authority's certificate), PEM, for a node or program that is known by this name; listed before it
        is given out. :class:`Unavailable` on a node without the authority's key."""
        if not admission.has_authority(self._config.authority):
            raise Unavailable(
                f"{self._config.name} does not have the key of the cluster's authority ({self._config.authority})"
            )
        life = datetime.timedelta(days=self._config.cluster.certificate_days)
        host = "" if is_program(name) else self._host(name)
        cert, authority = admission.sign_request(self._config.authority, name, host, request, life)
        signed = describe_pem(cert)
        self._command("cert_issue", signed.serial, name, int(signed.ends), token_id)
        return cert, authority

    def _renew(self, peer: str, args: dict[str, Any], _blob: bytes) -> tuple[Any, bytes]:
        """Sign for the node or program that asks; or, for the bearer of a token, for the node that the token names."""
        request = args.get("request")
        if not isinstance(request, bytes):
            raise InvalidInput("request must be the PEM of a request for a certificate")
        self._raft.barrier(COMMAND_TIMEOUT)
        token_id, name = "", peer
        if is_joiner(peer):
            token_id = peer.removeprefix(JOINER)
            name = self._state.membership.certifying.get(token_id, "")
            if not name:
                raise Forbidden("the token was used already, has expired, or is for joining (see `davfs node token --renew`)")
        cert, authority = self.sign(name, request, token_id)
        return {"name": name, "cert": cert, "authority": authority}, b""

    def _host(self, name: str) -> str:
        """What others reach a node under."""
        listed = {member.name: member.rpc[0] for member in self._config.cluster.nodes}
        if name in listed:
            return listed[name]
        info = self._state.nodes.get(name) or self._state.membership.admitted.get(name)
        if info is None:
            raise NodeNotFound(f"there is no node {name!r}")
        return parse_address(info.rpc)[0]

    # --- for the administrator ----------------------------------------------------------------------------------------

    def _list(self, _peer: str, _args: dict[str, Any], _blob: bytes) -> tuple[Any, bytes]:
        """All that are known: serial, name, ends (seconds since 1970), state (good, ended, revoked, removed)."""
        self._raft.barrier(COMMAND_TIMEOUT)
        table, removed, now = self._state.certificates, self._state.membership.removed, self._wall()
        rows = []
        for serial, issued in {**table.listed, **table.revoked}.items():
            state = "ended" if 0 < issued.ends < now else "good"
            if issued.name in removed:
                state = "removed"
            if serial in table.revoked:
                state = "revoked"
            rows.append({"name": issued.name, "serial": serial, "ends": issued.ends, "state": state})
        return sorted(rows, key=lambda row: (row["name"], row["ends"], row["serial"])), b""

    def _revoke(self, _peer: str, args: dict[str, Any], _blob: bytes) -> tuple[Any, bytes]:
        """Revoke by serial number or by name; the serial numbers."""
        what = args.get("what")
        if not isinstance(what, str) or not what:
            raise InvalidInput("what must be a serial number or a name")
        self._raft.barrier(COMMAND_TIMEOUT)
        request_id = str(args.get("request_id") or self._new_id())
        serials = value_of(self._raft.submit((request_id, "cert_revoke", what), COMMAND_TIMEOUT))
        return {"what": what, "serials": list(serials)}, b""

    def see(self, certificate: Peer) -> None:
        """List a certificate that is in use and was issued where nobody could list it."""
        self._command("cert_see", certificate.serial, certificate.name, int(certificate.ends))

    def _command(self, verb: str, *arguments: Any) -> Any:
        return value_of(self._raft.submit((self._new_id(), verb, *arguments), COMMAND_TIMEOUT))
