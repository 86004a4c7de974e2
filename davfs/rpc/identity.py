"""Who a node or program is on the wire: its certificate with two TLS contexts, which a renewed one replaces in place.

Both ends of every node-to-node connection show a certificate of the cluster's authority (TLS 1.3, mutual). Whoever makes
or takes connections asks the :class:`NodeIdentity` for the context each time; connections that stand keep theirs. A new
pair of key and certificate is put beside the old one first, and a half-done change is completed when it is next loaded.
Imports neither sockets nor HTTP.
"""

from __future__ import annotations

import contextlib
import os
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.x509.oid import NameOID

from davfs.core.errors import ConfigError
from davfs.core.grants import is_joiner, is_program
from davfs.rpc import certs

_NEXT = ".next"


@dataclass(frozen=True, slots=True)
class Peer:
    """What a certificate says: the name of a node, program or joiner; its serial number (lower-case hex); when it was made
    and when it ends (seconds since 1970)."""

    name: str
    serial: str
    made: float
    ends: float


@dataclass(slots=True)
class NodeIdentity:
    """A node's (or program's) name and its two TLS contexts: as a server and as a client of other nodes.

    ``own``: its certificate; ``generation`` grows whenever that is replaced; ``refuses(peer)``: whether a node that shows
    this certificate is not to be believed (it was revoked).
    """

    name: str
    server: ssl.SSLContext
    client: ssl.SSLContext
    own: Peer = field(default_factory=lambda: Peer("", "", 0.0, 0.0))
    generation: int = 0
    refuses: Callable[[Peer], bool] = field(default=lambda peer: False)

    def replace_by(self, other: NodeIdentity) -> None:
        """Use another certificate of the same name from now on: contexts first, so that no new connection is told apart
        from the old ones while it still has their certificate."""
        self.server, self.client, self.own = other.server, other.client, other.own
        self.generation += 1


def load_identity(authority: Path, cert: Path, key: Path) -> NodeIdentity:
    """The identity that a node's or program's files give; :class:`ConfigError` names the file that is wrong."""
    _complete(cert, key)
    try:
        own = read_certificate(cert)
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read the certificate {cert}: {error}") from error
    return NodeIdentity(own.name, server_context(authority, cert, key), client_context(authority, cert, key), own)


def read_certificate(file: Path) -> Peer:
    """What the certificate in a PEM file says; ``OSError``, ``ValueError``."""
    return _described(x509.load_pem_x509_certificate(file.read_bytes()))


def describe_pem(data: bytes) -> Peer:
    """The same of PEM text."""
    return _described(x509.load_pem_x509_certificate(data))


def _described(cert: x509.Certificate) -> Peer:
    made = cert.not_valid_before_utc + certs.BACKDATE
    return Peer(_common_name(cert), f"{cert.serial_number:x}", made.timestamp(), cert.not_valid_after_utc.timestamp())


def authority_ends(authority: Path, cert: Path) -> float:
    """When the authority that signed a certificate ends (seconds since 1970). ``authority`` may hold several."""
    own = x509.load_pem_x509_certificate(cert.read_bytes())
    for candidate in x509.load_pem_x509_certificates(authority.read_bytes()):
        try:
            own.verify_directly_issued_by(candidate)
        except (ValueError, TypeError, InvalidSignature):
            continue
        return candidate.not_valid_after_utc.timestamp()
    raise ConfigError(f"{cert} is not signed by {authority}")


def replace_pair(cert_file: Path, key_file: Path, cert: bytes, key: bytes) -> None:
    """Put a new certificate and its key in place of the old ones, whole or not at all, whenever the process dies.

    ``OSError`` when the folder cannot be written.
    """
    next_cert, next_key = (file.with_name(file.name + _NEXT) for file in (cert_file, key_file))
    next_cert.unlink(missing_ok=True)  # what is left of an attempt before must not be taken for this one's
    certs.write_private(next_key, key)
    certs.write_private(next_cert, cert)  # from here on the new pair is complete
    _complete(cert_file, key_file)


def _complete(cert_file: Path, key_file: Path) -> None:
    """Finish a replacement that was begun, if its new pair is complete; forget it if not."""
    next_cert, next_key = (file.with_name(file.name + _NEXT) for file in (cert_file, key_file))
    with contextlib.suppress(OSError):  # another process completes it just now, or this one may only read
        if next_cert.exists():
            if next_key.exists():
                os.replace(next_key, key_file)
            certs.sync_folder(key_file.parent)  # a power loss must not undo this and leave what follows
            os.replace(next_cert, cert_file)
            certs.sync_folder(cert_file.parent)


def server_context(authority: Path, cert: Path, key: Path) -> ssl.SSLContext:
    """TLS 1.3 for listeners: only peers with a certificate of the cluster's authority finish the handshake."""
    context = _context(ssl.PROTOCOL_TLS_SERVER, authority, cert, key)
    # Session tickets would arrive unasked: a client could no longer read "readable" as "closed or answered".
    context.num_tickets = 0
    return context


def client_context(authority: Path, cert: Path, key: Path) -> ssl.SSLContext:
    """TLS 1.3 for connections to other nodes; wrap with ``server_hostname`` = the name of the node that is wanted."""
    context = _context(ssl.PROTOCOL_TLS_CLIENT, authority, cert, key)
    context.check_hostname = True
    return context


def public_context(cert: Path, key: Path) -> ssl.SSLContext:
    """TLS for the listener that people's clients reach: the server's own certificate, none asked of clients."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(cert, key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"cannot use the certificate {cert} with the key {key}: {error}") from error
    return context


def peer_name(certificate: dict[str, Any] | None) -> str | None:
    """The node's name in a verified certificate (as ``SSLSocket.getpeercert()`` gives it); None without one.

    None for a program's or a joiner's too: whoever asks with this function takes every peer with a name for a node.
    """
    name = caller_name(certificate)
    return None if name is None or is_program(name) or is_joiner(name) else name


def peer_of(certificate: dict[str, Any] | None) -> Peer | None:
    """What a verified certificate says (as ``SSLSocket.getpeercert()`` gives it), None without one or without a name."""
    name = caller_name(certificate)
    if not certificate or not name:
        return None
    made, ends = (ssl.cert_time_to_seconds(certificate[key]) for key in ("notBefore", "notAfter"))
    return Peer(name, f"{int(certificate['serialNumber'], 16):x}", made + certs.BACKDATE.total_seconds(), ends)


def caller_name(certificate: dict[str, Any] | None) -> str | None:
    """The name of a node or program (``program:NAME``) in a verified certificate, None without one."""
    for part in (certificate or {}).get("subject", ()):
        for key, value in part:
            if key == "commonName":
                return str(value)
    return None


def _context(protocol: int, authority: Path, cert: Path, key: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    try:
        context.load_verify_locations(cafile=str(authority))
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"cannot read the cluster's authority {authority}: {error}") from error
    try:
        context.load_cert_chain(str(cert), str(key))
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"cannot use the certificate {cert} with the key {key}: {error}") from error
    return context


def _common_name(cert: x509.Certificate) -> str:
    values = cert.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    if len(values) != 1:
        raise ValueError("it has no common name")
    return str(values[0].value)
