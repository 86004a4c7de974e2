"""Resumable uploads by tus 1.0.0 (tus.io): core, creation, creation-with-upload and termination, on uploads in parts.

POST to a collection begins an upload of the file that its metadata names, PATCH appends to it, HEAD tells how far it is.
What came of a PATCH that breaks off is kept. With the last byte the file appears at its place by one record, and the upload
is gone. Each PATCH is a part, named by where it begins.
"""

from __future__ import annotations

import base64
import binascii
import io
import json
from collections.abc import Callable
from dataclasses import dataclass, replace

from blake3 import blake3

from davfs.cluster.api import Volume
from davfs.core import locks
from davfs.core.errors import AlreadyExists, IncompleteBody, InvalidInput, NotACollection, NotFound, ParentMissing
from davfs.core.model import HIDDEN, Entry, Path
from davfs.core.names import check_path
from davfs.dav import conditions
from davfs.dav.dates import parse_seconds
from davfs.dav.errors import Refused
from davfs.dav.request import Headers, Request, Response
from davfs.dav.target import UPLOADS_PREFIX, href

VERSION = "1.0.0"
EXTENSIONS = "creation,creation-with-upload,termination"
CONTENT_TYPE = "application/offset+octet-stream"
MAX_LENGTH = 1 << 60
_TOLD = ".tus"
"""The member of an upload that holds what its creation said: JSON of format 1."""
_PART_DIGITS = 20
_NO_STORE = ("Cache-Control", "no-store")


@dataclass(frozen=True, slots=True)
class Told:
    """What the creation of an upload said: bytes of the whole, where it goes, its modification time if it has one."""

    length: int
    path: Path
    mtime_ns: int | None

    def dump(self) -> bytes:
        """As it is stored."""
        return json.dumps({"format": 1, "length": self.length, "path": self.path, "mtime_ns": self.mtime_ns}).encode()

    @classmethod
    def load(cls, data: bytes) -> Told:
        """From how it is stored."""
        found = json.loads(data)
        return cls(found["length"], tuple(found["path"]), found["mtime_ns"])


def account(request: Request) -> Path:
    """The collection of an account's uploads: its name may be longer than a name, or have a slash."""
    return (HIDDEN, blake3(request.principal.encode()).hexdigest(16))


def create(request: Request, volume: Volume) -> Response:
    """POST to a collection: begin an upload. Its address is in Location, absolute (rclone takes no other)."""
    if request.header("Tus-Resumable") is None:
        raise Refused(405, "POST begins a resumable upload (tus): it needs a header Tus-Resumable")
    _same_version(request)
    told = _asked(request)
    collection = volume.lookup(told.path[:-1])
    if collection is None:
        raise NotFound("there is no such collection")
    if not collection.is_directory:
        raise NotACollection("uploads are begun in a collection")
    caller = request.caller()
    conditions.of(request, volume, told.path, file_only=True)(volume.lookup(told.path))
    locks.require_tokens(volume.locks(told.path), caller.lock_tokens, caller.principal)
    # The request's own id: who sends it again after a takeover gets the same upload.
    path = (*account(request), f"tus-{request.request_id}")
    for step, folder in (("account", path[:-1]), ("upload", path)):
        try:
            first = replace(caller, request_id=f"{caller.request_id}-{step}")
            volume.mkcol(folder, condition=lambda entry: None, caller=first)
        except AlreadyExists:
            pass
    _store(request, volume, (*path, _TOLD), io.BytesIO(told.dump()).read, None, "told", lambda entry: None)
    where = href(request.target.volume, path[2:], False, request.prefix + UPLOADS_PREFIX)
    headers: Headers = [("Location", f"{_origin(request)}{where}"), _NO_STORE]
    with_body = _content_type(request) == CONTENT_TYPE
    return Response.empty(201, headers + _advance(request, volume, path, told, 0, with_body=with_body))


def head(request: Request, volume: Volume) -> Response:
    """How far an upload is."""
    _same_version(request)
    path = _path(request)
    told = _told(volume, path)
    return Response.empty(
        200, [("Upload-Offset", str(_offset(volume, path))), ("Upload-Length", str(told.length)), _NO_STORE]
    )


def append(request: Request, volume: Volume) -> Response:
    """PATCH: take what comes behind what is there; 409 if that is elsewhere."""
    _same_version(request)
    if _content_type(request) != CONTENT_TYPE:
        raise Refused(415, f"PATCH of an upload takes a body of type {CONTENT_TYPE}")
    path, begins = _path(request), _number(request, "Upload-Offset")
    try:
        told = _told(volume, path)
    except NotFound:
        # This very request may have put the file together before a takeover: then its record says so, else it is NotFound.
        entry, _ = _assemble(request, volume, path, Told(0, path, None), None)
        return Response.empty(204, [("Upload-Offset", str(entry.size)), *conditions.validators(entry)])
    offset = _offset(volume, path)
    # A part that begins there may be this very request's too: put_upload knows.
    if begins != offset and volume.lookup((*path, _part_name(begins))) is None:
        raise _elsewhere(offset)
    return Response.empty(204, _advance(request, volume, path, told, begins, with_body=True))


HANDLERS: dict[tuple[str, int], Callable[[Request, Volume], Response]] = {("HEAD", 1): head, ("PATCH", 1): append}
"""What an upload's own address takes, by method and the number of names in it."""


def discovery() -> Headers:
    """What OPTIONS tells."""
    return [("Tus-Resumable", VERSION), ("Tus-Version", VERSION), ("Tus-Extension", EXTENSIONS)]


# --- inside -----------------------------------------------------------------------------------------------------------


def _advance(request: Request, volume: Volume, path: Path, told: Told, offset: int, *, with_body: bool) -> Headers:
    """Store the body as the next part, and put the file together when it is whole; how far it is then."""
    length = request.body.length
    if with_body and length is not None and offset + length > told.length:
        raise Refused(413, f"the upload has {told.length} bytes, and these would be more")
    if with_body and (length is None or length):
        coming = _Coming(request, told.length - offset)
        if coming.any():

            def fresh(entry: Entry | None) -> None:
                request.recheck()
                if entry is not None:
                    raise _elsewhere(_offset(volume, path))

            try:
                offset += _store(request, volume, (*path, _part_name(offset)), coming.read, length, "part", fresh).size
            except ParentMissing as error:
                raise NotFound("the upload was given up meanwhile") from error
    headers: Headers = [("Upload-Offset", str(offset))]
    if offset == told.length:
        entry, _ = _assemble(request, volume, path, told, told.length)
        headers += conditions.validators(entry)
    return headers


def _assemble(request: Request, volume: Volume, path: Path, told: Told, total: int | None) -> tuple[Entry, bool]:
    return volume.assemble(
        path,
        told.path,
        overwrite=True,
        total=total,
        digests=(),
        mtime_ns=told.mtime_ns,
        condition=conditions.of(request, volume, told.path, file_only=True),
        caller=request.caller(),
    )


class _Coming:
    """A body up to a number of bytes. It may break off: then what came is all there is."""

    def __init__(self, request: Request, most: int) -> None:
        self._body = request.body
        self._left = most
        self._first = b""

    def any(self) -> bool:
        """Whether there is a byte at all."""
        self._first = self.read(64 * 1024)
        return bool(self._first)

    def read(self, size: int) -> bytes:
        """Up to ``size`` bytes, b"" at the end."""
        if self._first:
            data, self._first = self._first[:size], self._first[size:]
            return data
        try:
            data = self._body.read(min(size, self._left)) if self._left else b""
        except (IncompleteBody, OSError):
            data = b""
            self._left = 0
        self._left -= len(data)
        return data


def _store(
    request: Request,
    volume: Volume,
    path: Path,
    read: Callable[[int], bytes],
    expected: int | None,
    step: str,
    condition: Callable[[Entry | None], None],
) -> Entry:
    caller = replace(request.caller(), request_id=f"{request.request_id}-{step}")
    return volume.put_upload(path, read, None, digests=(), condition=condition, caller=caller, expected=expected)[0]


def _told(volume: Volume, path: Path) -> Told:
    try:
        content = volume.open((*path, _TOLD))
    except ParentMissing as error:
        raise NotFound("there is no such upload") from error
    return Told.load(b"".join(bytes(block) for block in content.read(0, content.entry.size)))


def _part_name(begins: int) -> str:
    return f"{begins:0{_PART_DIGITS}}"


def _offset(volume: Volume, path: Path) -> int:
    return sum(entry.size for entry in volume.children(path) if not entry.name.startswith("."))


def _elsewhere(offset: int) -> Refused:
    return Refused(409, f"the upload goes on at byte {offset}")


def _path(request: Request) -> Path:
    return (*account(request), *request.target.path[1:])


def _asked(request: Request) -> Told:
    if request.header("Upload-Defer-Length") is not None:
        raise InvalidInput("the length of an upload is told when it is begun (Upload-Length)")
    length = _number(request, "Upload-Length")
    if length > MAX_LENGTH:
        raise Refused(413, f"a file has {MAX_LENGTH} bytes at most")
    metadata = _metadata(request.header("Upload-Metadata") or "")
    name = metadata.get("filename") or metadata.get("name")
    if not name:
        raise InvalidInput("Upload-Metadata of an upload has a filename")
    mtime = metadata.get("mtime")
    return Told(length, check_path([*request.target.path, name]), None if not mtime else parse_seconds(mtime))


def _metadata(header: str) -> dict[str, str]:
    """``key base64,key base64`` as a mapping; a key may stand alone."""
    found = {}
    for pair in header.split(","):
        key, _, value = pair.strip().partition(" ")
        try:
            found[key] = base64.b64decode(value.strip(), validate=True).decode()
        except (binascii.Error, UnicodeDecodeError) as error:
            raise InvalidInput("Upload-Metadata is a list of names, each with a value in base64 (UTF-8)") from error
    return found


def _number(request: Request, name: str) -> int:
    text = (request.header(name) or "").strip()
    if not text.isascii() or not text.isdecimal() or len(text) > 19:
        raise InvalidInput(f"{name} is a number of bytes")
    return int(text)


def _same_version(request: Request) -> None:
    if request.header("Tus-Resumable") != VERSION:
        raise Refused(412, f"this server speaks tus {VERSION}: Tus-Resumable says so")


def _content_type(request: Request) -> str:
    return str(request.environ.get("CONTENT_TYPE") or "").partition(";")[0].strip().lower()


def _origin(request: Request) -> str:
    """Scheme and host as the client has them; "" if it told none."""
    if request.forwarded:
        scheme = request.header("X-Davfs-Scheme") or "http"
        host = (request.header("X-Davfs-Host") or "").partition(",")[0].strip()
    else:
        scheme, host = str(request.environ.get("wsgi.url_scheme", "http")), request.header("Host") or ""
    return f"{scheme}://{host}" if host else ""
