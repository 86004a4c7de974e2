"""Join tokens and what a new node does with one: reach the cluster, and have a certificate signed for its own key.

A join token holds a key and a certificate of the cluster's authority for it, good for hours and for one request
(``core.grants.JOINER``), with the authority's certificate: so a new node speaks mutual TLS from its first byte on, it knows
whom it speaks to, and no listener has to let anybody in who shows no certificate. Whoever has a token's text can let one
machine in. Knows one method, that which signs.
"""

from __future__ import annotations

import base64
import datetime
import socket
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgpack
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from davfs.core.errors import ConfigError, InvalidInput, Unavailable, Unreachable
from davfs.core.grants import JOINER, is_program
from davfs.rpc import certs
from davfs.rpc.client import RpcClient
from davfs.rpc.identity import NodeIdentity, load_identity, peer_name
from davfs.rpc.pool import describe

FORMAT = 1
PREFIX = "davfs-join-"
SIGN_TIMEOUT = 5.0

_DER = serialization.Encoding.DER
_PEM = serialization.Encoding.PEM


@dataclass(frozen=True, slots=True)
class JoinToken:
    """What a token's text says: PEM of the authority's certificate, and certificate and key of the joiner."""

    authority: bytes
    cert: bytes
    key: bytes

    def identity(self) -> NodeIdentity:
        """The identity to ask the cluster with."""
        with tempfile.TemporaryDirectory(prefix="davfs-join-") as name:
            folder = Path(name)
            files = [folder / "ca.pem", folder / "join.pem", folder / "join.key"]
            for file, data in zip(files, (self.authority, self.cert, self.key), strict=True):
                certs.write_private(file, data)
            return load_identity(*files)


def make_token(authority: Path, token_id: str, ttl_s: float) -> str:
    """A token's text, signed by the authority in a folder; :class:`ConfigError` if that is not there."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = JOINER + token_id
    names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(name)])
    good_for = datetime.timedelta(seconds=ttl_s) + certs.BACKDATE  # clocks may differ; Raft ends the token in time
    cert, ca = certs.sign(authority, name, names, [ExtendedKeyUsageOID.CLIENT_AUTH], good_for, key.public_key())
    secret = key.private_numbers().private_value.to_bytes(32, "big")
    body = msgpack.packb([ca.public_bytes(_DER), cert.public_bytes(_DER), secret], use_bin_type=True)
    return f"{PREFIX}{FORMAT}." + base64.urlsafe_b64encode(body).decode().rstrip("=")


def read_token(text: str) -> JoinToken:
    """The token in a text; :class:`InvalidInput` for anything else."""
    head, _, body = text.strip().partition(".")
    if head != f"{PREFIX}{FORMAT}":
        raise InvalidInput(f"this is no join token (it would begin with {PREFIX}{FORMAT}.); `davfs node token` makes one")
    try:
        ca, cert, secret = msgpack.unpackb(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)), raw=False)
        key = ec.derive_private_key(int.from_bytes(secret, "big"), ec.SECP256R1())
        authority, own = x509.load_der_x509_certificate(ca), x509.load_der_x509_certificate(cert)
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise InvalidInput("the join token is damaged; copy it whole") from error
    return JoinToken(authority.public_bytes(_PEM), own.public_bytes(_PEM), certs.key_bytes(key))


def who_is_at(identity: NodeIdentity, host: str, port: int, limit: float = 5.0) -> tuple[str, str]:
    """(name of the node that listens there, proven by the authority; the address of this machine on the way to it)."""
    context = identity.client
    context.check_hostname = False  # its name is what is asked for; the chain to the authority is checked all the same
    try:
        with socket.create_connection((host, port), timeout=limit) as plain:
            here = str(plain.getsockname()[0])
            with context.wrap_socket(plain) as tls:
                name = peer_name(tls.getpeercert())
    except (OSError, ValueError) as error:
        raise Unreachable(f"no node of the token's cluster answers at {host}:{port}: {describe(error)}") from error
    finally:
        context.check_hostname = True
    if name is None:
        raise Unreachable(f"what answers at {host}:{port} is no node")
    return name, here


def new_request(name: str) -> tuple[bytes, bytes]:
    """(a new key, PEM; the request to certify it, PEM)."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return certs.key_bytes(key), request.public_bytes(_PEM)


def sign_request(
    authority: Path, name: str, host: str, request: bytes, life: datetime.timedelta = certs.NODE_LIFE
) -> tuple[bytes, bytes]:
    """(a certificate for the request's key, the authority's certificate), PEM. The name is ours, not the request's: a
    node's, then ``host`` is what the others reach it under; or a program's."""
    try:
        wanted = x509.load_pem_x509_csr(request)
        key = wanted.public_key()
    except ValueError as error:
        raise InvalidInput(f"the request for a certificate is not readable: {error}") from error
    if not wanted.is_signature_valid or not isinstance(key, ec.EllipticCurvePublicKey):
        raise InvalidInput("the request for a certificate is not signed by an elliptic-curve key of its own")
    if is_program(name):
        cert, ca = certs.sign(authority, name, certs.program_names(name), certs.PROGRAM_PURPOSES, certs.PROGRAM_LIFE, key)
    else:
        cert, ca = certs.sign(authority, name, certs.node_names(name, [host]), certs.NODE_PURPOSES, life, key)
    return cert.public_bytes(_PEM), ca.public_bytes(_PEM)


def ask_to_sign(client: RpcClient, nodes: Iterable[str], request: bytes) -> Any:
    """The answer of the first node that signs; :class:`Unavailable` with what each of them said. A refusal is an answer."""
    troubles = []
    for node in nodes:
        try:
            answer, _ = client.call(node, "node.renew", {"request": request}, timeout=SIGN_TIMEOUT)
            return answer
        except Unavailable as error:
            troubles.append(f"{node}: {error.message}")
    raise Unavailable("no node could sign a certificate. " + "; ".join(troubles))


def has_authority(folder: Path) -> bool:
    """Whether the authority's key is in a folder."""
    return (folder / certs.AUTHORITY_KEY).is_file()


def write_identity(folder: Path, authority: bytes, cert: bytes, key: bytes) -> None:
    """Write a node's three files into ``folder`` and see that they fit; :class:`ConfigError` if not."""
    if (folder / certs.NODE_CERT).exists():
        raise ConfigError(f"{folder} holds a node's certificate already; choose another folder")
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for name, data in ((certs.NODE_KEY, key), (certs.NODE_CERT, cert), (certs.AUTHORITY_CERT, authority)):
        certs.write_private(folder / name, data)
    load_identity(folder / certs.AUTHORITY_CERT, folder / certs.NODE_CERT, folder / certs.NODE_KEY)
