"""COPY and MOVE (RFC 4918, 9.8 and 9.9), within a volume."""

from __future__ import annotations

from davfs.cluster.api import Volume
from davfs.core.errors import Forbidden, InvalidInput
from davfs.core.model import Path
from davfs.dav import conditions
from davfs.dav.request import Request, Response
from davfs.dav.target import OtherServer
from davfs.dav.uploads import is_upload


def copy(request: Request, volume: Volume) -> Response:
    """Copy a file or collection; Depth 0 copies the collection alone, with its properties."""
    source, target = _paths(request)
    shallow = request.depth(("0", "infinity"), "infinity") == "0"
    _check_overlap(source, target, contains=not shallow)
    condition = conditions.of(request, volume, source)
    with conditions.before_not_found(condition):
        created = volume.copy(
            source,
            target,
            overwrite=_overwrite(request),
            shallow=shallow,
            mtime_ns=request.mtime_ns(),
            condition=condition,
            caller=request.caller(),
        )
    return Response.empty(201 if created else 204, request.mtime_headers())


def move(request: Request, volume: Volume) -> Response:
    """Move or rename a file or collection. Locks stay behind and end (RFC 4918, 7.5)."""
    source, target = _paths(request)
    condition = conditions.of(request, volume, source)
    request.depth_of_all(lambda: (entry := volume.lookup(source)) is not None and entry.is_directory)
    _check_overlap(source, target, contains=True)
    with conditions.before_not_found(condition):
        created = volume.move(
            source,
            target,
            overwrite=_overwrite(request),
            mtime_ns=request.mtime_ns(),
            condition=condition,
            caller=request.caller(),
        )
    return Response.empty(201 if created else 204, request.mtime_headers())


def _paths(request: Request) -> tuple[Path, Path]:
    target = request.destination()
    source = request.target
    if not source.path and request.method == "MOVE":
        raise Forbidden("a volume cannot be moved")
    if target.volume is None or (not target.path and target.volume != source.volume):
        raise Forbidden("volumes are made with 'davfs volume create', not over WebDAV")
    if target.volume != source.volume:
        raise OtherServer(f"{request.method} works within one volume; copy with GET and PUT instead")
    if not target.path:
        raise Forbidden("the volume itself cannot be overwritten")
    if is_upload(target.path):
        raise Forbidden("nothing is moved or copied into an upload; parts are PUT")
    return source.path, target.path


def _check_overlap(source: Path, target: Path, *, contains: bool) -> None:
    if source == target:
        raise Forbidden("source and destination are the same")
    if contains and target[: len(source)] == source:
        raise Forbidden("a collection cannot go into itself")
    if source[: len(target)] == target:
        raise Forbidden("the destination contains the source, and would be overwritten with it")


def _overwrite(request: Request) -> bool:
    value = (request.header("Overwrite") or "T").strip().upper()
    if value not in ("T", "F"):
        raise InvalidInput("Overwrite is T or F")
    return value == "T"
