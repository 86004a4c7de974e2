"""Checksums in headers and properties: OC-Checksum and oc:checksums as ownCloud, Nextcloud and rclone write them, Digest
(RFC 3230), Content-MD5 (RFC 1864), Content-Digest and Repr-Digest (RFC 9530). Pure.

Bodies have no content coding here, so content and representation are the same bytes.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator

from davfs.cluster.api import Reader
from davfs.core.digests import HEX_LENGTH, Digests, Hashing
from davfs.core.errors import ChecksumMismatch, InvalidInput
from davfs.dav.request import Headers, Request

OC = "{http://owncloud.org/ns}"
OC_CHECKSUMS = OC + "checksums"

# Names in the registry of RFC 9530 and, for Digest, of RFC 3230. What is not here is ignored, as both say.
_HTTP_NAMES = {
    "adler": "ADLER32",
    "adler32": "ADLER32",
    "md5": "MD5",
    "sha": "SHA1",
    "sha-256": "SHA256",
    "sha-512": "SHA512",
}
# ownCloud keeps these whichever it was sent, and rclone's vendor of that name compares the first.
_KEPT_WITH_OC = {"MD5": "", "SHA1": ""}
_FIELD_NAMES = {"ADLER32": "adler", "MD5": "md5", "SHA1": "sha", "SHA256": "sha-256", "SHA512": "sha-512"}
_DIGEST_NAMES = {"ADLER32": "adler32", "MD5": "MD5", "SHA1": "SHA", "SHA256": "SHA-256", "SHA512": "SHA-512"}
_STRUCTURED = re.compile(r"\s*([a-z*][a-z0-9_.*-]*)\s*=\s*:([A-Za-z0-9+/=]*):\s*")
_PREFERENCE = re.compile(r"\s*+([A-Za-z0-9-]++)\s*+(?:;\s*+q\s*+)?(?:=\s*+([0-9.]++))?\s*+")


def announced(request: Request) -> Digests:
    """The checksums that the request's body must have; :class:`InvalidInput` when one of them is malformed."""
    found: dict[str, str] = {}
    for name, value in _announced(request):
        if found.setdefault(name, value) != value:
            raise ChecksumMismatch(f"the request announces two different checksums of its body ({name})")
    if found and request.header("OC-Checksum") is not None:
        found = {**_KEPT_WITH_OC, **found}
    return tuple(sorted(found.items()))


def checked(request: Request) -> Reader:
    """The body of a part of a file, read and compared with what Content-Digest and Content-MD5 say of it: at its end, and so
    before anything is changed. The other headers are about whole files."""
    wanted = tuple(sorted(set(_of_content(request))))
    if not wanted:
        return request.body.read
    hashing = Hashing(name for name, _ in wanted)
    left = request.body.length or 0

    def read(size: int) -> bytes:
        nonlocal left
        data = request.body.read(size)
        hashing.update(data)
        left -= len(data)
        if left == 0:
            hashing.require(wanted)
        return data

    return read


def _announced(request: Request) -> Iterator[tuple[str, str]]:
    yield from oc_checksums(request.header("OC-Checksum") or "")
    for member in _members(request.header("Digest")):
        name, _, value = member.partition("=")
        yield from _encoded("Digest", name.strip().lower(), value.strip())
    yield from _dictionary(request, "Repr-Digest")
    yield from _of_content(request)


def _of_content(request: Request) -> Iterator[tuple[str, str]]:
    yield from _dictionary(request, "Content-Digest")
    md5 = request.header("Content-MD5")
    if md5 is not None:
        yield from _encoded("Content-MD5", "md5", md5.strip())


def _dictionary(request: Request, header: str) -> Iterator[tuple[str, str]]:
    for member in _members(request.header(header)):
        parts = _STRUCTURED.fullmatch(member)
        if parts is None:
            raise InvalidInput(f"{header} is no dictionary of byte sequences (RFC 9530)")
        yield from _encoded(header, *parts.groups())


def oc_checksums(text: str) -> Iterator[tuple[str, str]]:
    """(algorithm, hex) of each ``SHA1:hex``, separated by blanks; unknown algorithms are left out."""
    for part in text.split():
        kind, _, value = part.partition(":")
        name, value = kind.upper(), value.lower()
        if name not in HEX_LENGTH:
            continue
        if name == "ADLER32":
            value = value.zfill(HEX_LENGTH[name])  # ownCloud's client leaves zeros in front away
        if len(value) != HEX_LENGTH[name] or not set("0123456789abcdef").issuperset(value):
            raise InvalidInput(f"the {name} in the checksum is not {HEX_LENGTH[name]} hex digits")
        yield name, value


def _members(header: str | None) -> list[str]:
    return [member for member in (header or "").split(",") if member.strip()]


def _encoded(header: str, label: str, value: str) -> Iterator[tuple[str, str]]:
    name = _HTTP_NAMES.get(label)
    if name is None:
        return
    length = HEX_LENGTH[name]
    try:
        # RFC 3230 writes adler32 in hex, RFC 9530 everything in base64.
        plain = bytes.fromhex(value.zfill(length)) if label == "adler32" else base64.b64decode(value, validate=True)
    except (ValueError, binascii.Error):
        raise InvalidInput(f"{header}: {label} is not encoded as it must be") from None
    if len(plain) * 2 != length:
        raise InvalidInput(f"{header}: {label} has {length // 2} bytes, not {len(plain)}")
    yield name, plain.hex()


def header_value(digests: Digests) -> str:
    """The value of OC-Checksum and of the property: ``MD5:hex SHA1:hex``."""
    return " ".join(f"{name}:{value}" for name, value in digests)


def element(digests: Digests) -> str | None:
    """The property oc:checksums, None for a file without any."""
    if not digests:
        return None
    return (
        '<oc:checksums xmlns:oc="http://owncloud.org/ns">'
        f"<oc:checksum>{header_value(digests)}</oc:checksum></oc:checksums>"
    )


def headers(request: Request, digests: Digests) -> Headers:
    """What GET and HEAD say of a file's checksums: OC-Checksum always, Repr-Digest and Digest to whoever wants them."""
    if not digests:
        return []
    fields: Headers = [("OC-Checksum", header_value(digests))]
    known = dict(digests)
    wanted = _wanted(request.header("Want-Repr-Digest"), known)
    if wanted:
        values = [f"{_FIELD_NAMES[name]}=:{_base64(known[name])}:" for name in wanted]
        fields.append(("Repr-Digest", ", ".join(values)))
    wanted = _wanted(request.header("Want-Digest"), known)
    if wanted:
        values = [f"{_DIGEST_NAMES[n]}={known[n] if n == 'ADLER32' else _base64(known[n])}" for n in wanted]
        fields.append(("Digest", ",".join(values)))
    return fields


def _wanted(header: str | None, known: dict[str, str]) -> list[str]:
    """The algorithms that a Want-* field asks for and that are known, those with a weight of 0 left out."""
    names: list[str] = []
    for member in _members(header):
        parts = _PREFERENCE.fullmatch(member)
        if parts is None or (parts[2] is not None and not parts[2].strip("0.")):
            continue
        name = _HTTP_NAMES.get(parts[1].lower())
        if name in known and name not in names:
            names.append(name)
    return names


def _base64(digest: str) -> str:
    return base64.b64encode(bytes.fromhex(digest)).decode()
