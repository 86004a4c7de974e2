"""Uploads in parts, as Nextcloud's clients and rclone (vendor ``nextcloud``) make them: ``/remote.php/dav/uploads/VOLUME/``.

MKCOL of a name begins an upload, PUT stores its parts, MOVE of ``.file`` puts them together at the Destination, DELETE gives
it up. Where Nextcloud has the name of a user in the address, davfs has that of a volume; each account sees its own uploads.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace

from davfs.cluster.api import Volume
from davfs.core.errors import AlreadyExists, Forbidden, InvalidInput, NotFound, ParentMissing
from davfs.core.model import DIRECTORY, HIDDEN, UPLOADS, Entry, Path
from davfs.dav import checksums, conditions, tus
from davfs.dav.errors import Refused
from davfs.dav.properties import Subject
from davfs.dav.propfind import multistatus, read_wanted
from davfs.dav.request import Request, Response
from davfs.dav.target import href, quote_name

_NUMBER = re.compile(r"\d{1,18}")
WHOLE = ".file"
"""What is moved to put an upload together."""


def serve(request: Request, volume: Volume) -> Response:
    """A request for an upload or a part of one."""
    kind = (request.method, len(request.target.path) - 1)
    handler = _HANDLERS.get(kind) or tus.HANDLERS.get(kind)
    if handler is None:
        raise Forbidden(f"uploads know MKCOL, PUT of parts, MOVE of {WHOLE} and DELETE, not {request.method}")
    return handler(request, volume)


def is_upload(path: Path) -> bool:
    """Whether a target is an upload and not a file of the drive."""
    return path[:1] == (HIDDEN,)


def _path(request: Request) -> Path:
    return (*tus.account(request), *request.target.path[1:])


def _begin(request: Request, volume: Volume) -> Response:
    if request.body.read(1):
        raise Refused(415, "MKCOL takes no body")
    path, caller = _path(request), request.caller()
    try:
        # An id of its own: the answer of this change is not that of the request.
        first = replace(caller, request_id=f"{caller.request_id}-account")
        volume.mkcol(tus.account(request), condition=lambda entry: None, caller=first)
    except AlreadyExists:
        pass
    volume.mkcol(path, condition=conditions.of(request, volume, path), caller=caller)
    return Response.empty(201)


def _put(request: Request, volume: Volume) -> Response:
    path = _path(request)
    if path[-1].startswith("."):
        raise Forbidden("a part is named by its number")
    try:
        entry, created = volume.put_upload(
            path,
            request.body.read,
            request.body.length,
            digests=checksums.announced(request),
            condition=conditions.of(request, volume, path, file_only=True),
            caller=request.caller(),
        )
    except ParentMissing as error:
        raise NotFound("there is no such upload; MKCOL begins one") from error
    return Response.empty(201 if created else 204, conditions.validators(entry))


def _move(request: Request, volume: Volume) -> Response:
    if request.target.path[-1] != WHOLE:
        raise Forbidden(f"an upload is put together by MOVE of its {WHOLE}")
    target = request.destination()
    if target.volume != request.target.volume or is_upload(target.path) or not target.path:
        raise Forbidden("an upload becomes a file of the volume that its address names")
    overwrite = (request.header("Overwrite") or "T").strip().upper()
    if overwrite not in ("T", "F"):
        raise InvalidInput("Overwrite is T or F")
    entry, created = volume.assemble(
        _path(request)[:-1],
        target.path,
        overwrite=overwrite == "T",
        total=_total(request),
        digests=checksums.announced(request),
        mtime_ns=request.mtime_ns(),
        condition=conditions.of(request, volume, target.path, file_only=True),
        caller=request.caller(),
    )
    return Response.empty(201 if created else 204, [*conditions.validators(entry), *request.mtime_headers()])


def _total(request: Request) -> int | None:
    text = request.header("OC-Total-Length")
    if text is not None and not _NUMBER.fullmatch(text.strip()):
        raise InvalidInput("OC-Total-Length is a number of bytes")
    return None if text is None else int(text.strip())


def _delete(request: Request, volume: Volume) -> Response:
    path = _path(request)
    volume.give_up(path, condition=conditions.of(request, volume, path), caller=request.caller())
    return Response.empty(204)


def _propfind(request: Request, volume: Volume) -> Response:
    wanted = read_wanted(request)
    depth = request.depth(("0", "1", "infinity"), "1")
    path = _path(request)
    entry = volume.lookup(path)
    if entry is None and len(request.target.path) > 1:
        raise NotFound("there is no such upload")
    members = volume.children(path) if entry is not None and entry.is_directory and depth != "0" else []
    shown = entry or Entry(UPLOADS, "", "", DIRECTORY, "", 0, 0)
    base = href(request.target.volume, request.target.path[1:], shown.is_directory, request.base)

    def responses() -> Iterator[str]:
        name = request.target.path[-1] if len(request.target.path) > 1 else volume.info.name
        yield wanted.response(Subject(shown, base, name))
        for member in members:
            slash = "/" if member.is_directory else ""
            yield wanted.response(Subject(member, f"{base}{quote_name(member.name)}{slash}", member.name))

    return multistatus(responses())


_HANDLERS: dict[tuple[str, int], Callable[[Request, Volume], Response]] = {
    ("MKCOL", 1): _begin,
    ("PUT", 2): _put,
    ("MOVE", 2): _move,
    ("DELETE", 1): _delete,
    ("DELETE", 2): _delete,
    ("PROPFIND", 0): _propfind,
    ("PROPFIND", 1): _propfind,
    ("PROPFIND", 2): _propfind,
}
