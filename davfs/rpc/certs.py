"""The cluster's certificate authority, and what it signs: certificates of nodes, programs and https listeners.

One authority per cluster; a certificate's common name *is* the node's name on the wire. A program's certificate has a
common name that no node can have and serves no connection. What is done with certificates is in ``identity.py``. Nothing
is signed for longer than the authority itself lives. Imports neither sockets nor HTTP.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
import re
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from davfs.core.errors import ConfigError
from davfs.core.grants import PROGRAM

AUTHORITY_CERT = "ca.pem"
AUTHORITY_KEY = "ca.key"
NODE_CERT = "node.pem"
NODE_KEY = "node.key"
PROGRAM_CERT = "program.pem"
PROGRAM_KEY = "program.key"
PUBLIC_CERT = "dav.pem"
PUBLIC_KEY = "dav.key"

YEAR = datetime.timedelta(days=365)
AUTHORITY_LIFE = 30 * YEAR
PROGRAM_LIFE = YEAR
PUBLIC_YEARS = 2  # macOS and iOS believe no server's certificate that is made for more than 825 days
NODE_LIFE = datetime.timedelta(days=90)  # unless the cluster's settings say otherwise; nodes renew theirs by themselves
BACKDATE = datetime.timedelta(days=1)  # clocks of the nodes may differ

NODE_PURPOSES = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)
PROGRAM_PURPOSES = (ExtendedKeyUsageOID.CLIENT_AUTH,)

_NODE_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")  # one DNS label: it stands in the SAN as a DNS name


def create_authority(directory: Path) -> Path:
    """Make the cluster's authority: ``ca.pem`` and ``ca.key`` in ``directory`` (mode 0600). Gives the path of ``ca.pem``.

    :class:`ConfigError` if there is one already: a second one would cut off every node of the first. A key alone, which an
    attempt left that was cut short, is used.
    """
    cert_path, key_path = directory / AUTHORITY_CERT, directory / AUTHORITY_KEY
    if cert_path.exists():
        raise ConfigError(f"{directory} holds a certificate authority already; use it or choose another directory")
    make_folder(directory)
    key = _private_key(key_path) if key_path.exists() else ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "davfs cluster authority")])
    cert = (
        _builder(name, name, key.public_key(), AUTHORITY_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(sign_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    write_private(key_path, key_bytes(key))
    write_private(cert_path, cert.public_bytes(serialization.Encoding.PEM))
    return cert_path


def issue(
    directory: Path,
    node_name: str,
    hosts: Sequence[str],
    into: Path | None = None,
    life: datetime.timedelta = NODE_LIFE,
) -> tuple[Path, Path]:
    """Sign a certificate for a node with the authority in ``directory``.

    Its common name is ``node_name``; its alternative names are the node's name, ``hosts`` and 127.0.0.1. Writes
    ``node.pem`` and ``node.key`` (mode 0600) into ``into`` (default: ``directory/node_name``) with a copy of ``ca.pem``
    beside them. Gives the paths of certificate and key.
    """
    if not _NODE_NAME.fullmatch(node_name):
        raise ConfigError(f"{node_name!r} is no node name: use a-z, 0-9 and '-', at most 63 characters")
    names, purposes = node_names(node_name, hosts), NODE_PURPOSES
    target = into if into is not None else directory / node_name
    return _sign(directory, node_name, names, purposes, life, target / NODE_CERT, target / NODE_KEY)


def node_names(node_name: str, hosts: Sequence[str]) -> x509.SubjectAlternativeName:
    """The alternative names of a node's certificate."""
    return x509.SubjectAlternativeName(_alternative_names([node_name, *hosts, "127.0.0.1"]))


def issue_program(directory: Path, program: str, into: Path) -> tuple[Path, Path]:
    """Sign a certificate for a program with the authority in ``directory``.

    Its common name is ``program:NAME`` and it is good for clients only, so it can neither be taken for a node's nor
    serve as one. Writes ``program.pem`` and ``program.key`` (mode 0600) into ``into`` with a copy of ``ca.pem``.
    :class:`ConfigError` if there is a program's certificate already.
    """
    if not _NODE_NAME.fullmatch(program):
        raise ConfigError(f"{program!r} is no program name: use a-z, 0-9 and '-', at most 63 characters")
    if (into / PROGRAM_CERT).exists():
        raise ConfigError(f"{into} holds a program's certificate already; choose another folder")
    name = PROGRAM + program
    names, purposes = program_names(name), PROGRAM_PURPOSES
    return _sign(directory, name, names, purposes, PROGRAM_LIFE, into / PROGRAM_CERT, into / PROGRAM_KEY)


def program_names(name: str) -> x509.SubjectAlternativeName:
    """The alternative names of the certificate of a program (``program:NAME``)."""
    return x509.SubjectAlternativeName([x509.UniformResourceIdentifier(name)])


def issue_public(directory: Path, hosts: Sequence[str], into: Path) -> tuple[Path, Path]:
    """Sign a certificate for the WebDAV listener of a node with the authority in ``directory``, anew if there is one.

    ``hosts``: the names and addresses that people's clients know the node under. It is good for servers only: no node
    takes whoever shows it for a node or program. Writes ``dav.pem`` and ``dav.key`` (mode 0600) into ``into``.
    """
    names = x509.SubjectAlternativeName(_alternative_names(hosts))
    purposes = [ExtendedKeyUsageOID.SERVER_AUTH]
    return _sign(directory, "davfs WebDAV", names, purposes, PUBLIC_YEARS * YEAR, into / PUBLIC_CERT, into / PUBLIC_KEY)


def hosts_of(cert: Path) -> list[str]:
    """The names and addresses that a server's certificate is for; :class:`ConfigError` if it cannot be read."""
    try:
        found = x509.load_pem_x509_certificate(cert.read_bytes()).extensions
        names = found.get_extension_for_class(x509.SubjectAlternativeName).value
    except (OSError, ValueError, x509.ExtensionNotFound) as error:
        raise ConfigError(f"cannot read the certificate {cert}: {error}") from error
    return [str(name.value) for name in names if isinstance(name, x509.DNSName | x509.IPAddress)]


def _sign(
    directory: Path,
    name: str,
    names: x509.SubjectAlternativeName,
    purposes: Sequence[x509.ObjectIdentifier],
    life: datetime.timedelta,
    cert_file: Path,
    key_file: Path,
) -> tuple[Path, Path]:
    """Make a key, sign a certificate for it, and write both with a copy of the authority's certificate beside them."""
    key = ec.generate_private_key(ec.SECP256R1())
    cert, authority = sign(directory, name, names, purposes, life, key.public_key())
    target = cert_file.parent
    make_folder(target)
    write_private(key_file, key_bytes(key))
    write_private(cert_file, cert.public_bytes(serialization.Encoding.PEM))
    if not (target / AUTHORITY_CERT).exists():
        write_private(target / AUTHORITY_CERT, authority.public_bytes(serialization.Encoding.PEM))
    return cert_file, key_file


def sign(
    directory: Path,
    name: str,
    names: x509.SubjectAlternativeName,
    purposes: Sequence[x509.ObjectIdentifier],
    good_for: datetime.timedelta,
    key: ec.EllipticCurvePublicKey,
) -> tuple[x509.Certificate, x509.Certificate]:
    """(certificate for ``key``, the authority's certificate); :class:`ConfigError` without a usable authority."""
    try:
        authority = x509.load_pem_x509_certificate((directory / AUTHORITY_CERT).read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read the certificate authority in {directory}: {error}") from error
    authority_key = _private_key(directory / AUTHORITY_KEY)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    left = authority.not_valid_after_utc - datetime.datetime.now(datetime.UTC)
    if left <= datetime.timedelta(0):
        raise ConfigError(
            f"the certificate authority in {directory} has ended; docs/OPERATIONS.md says how another takes its place"
        )
    cert = (
        _builder(subject, authority.subject, key, min(good_for, left))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(sign_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        .add_extension(names, critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    return cert, authority


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, good_for: datetime.timedelta
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATE)
        .not_valid_after(now + good_for)
    )


def _key_usage(*, sign_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not sign_certificates,
        key_cert_sign=sign_certificates,
        crl_sign=sign_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _alternative_names(hosts: Sequence[str]) -> list[x509.GeneralName]:
    names: list[x509.GeneralName] = []
    for host in dict.fromkeys(hosts):
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(host)))
        except ValueError:
            names.append(x509.DNSName(host))
    return names


def key_bytes(key: ec.EllipticCurvePrivateKey) -> bytes:
    """The key as PEM."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _private_key(file: Path) -> ec.EllipticCurvePrivateKey:
    """The key of an authority; :class:`ConfigError`."""
    try:
        key = serialization.load_pem_private_key(file.read_bytes(), password=None)
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read the key of the certificate authority {file}: {error}") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ConfigError(f"{file} is no elliptic-curve key")
    return key


def make_folder(folder: Path) -> None:
    """Make a folder that only its owner may enter, and those above it; their names are durable."""
    folder = folder.absolute()
    if not folder.parent.exists():
        make_folder(folder.parent)
    folder.mkdir(exist_ok=True, mode=0o700)
    sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_private(path: Path, data: bytes) -> None:
    """Appear whole or not at all, durably, never readable by others."""
    temporary = path.with_name(path.name + ".new")
    temporary.unlink(missing_ok=True)
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    sync_folder(path.parent)
