"""GET and HEAD of files (RFC 9110, 9.3.1), whole and in ranges, streamed in blocks. Collections are browse.py's."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Iterator

from davfs.cluster.api import Content, Volume
from davfs.core.errors import Forbidden, NotFound
from davfs.core.model import Entry
from davfs.dav import checksums, conditions
from davfs.dav.properties import content_type
from davfs.dav.ranges import ByteRange, Multipart, content_range, parse_range
from davfs.dav.request import Headers, Request, Response

SMALL = 64 * 1024  # bytes of a file that is read whole before its answer begins: nothing is then left to wait for

Browse = Callable[[Request, Volume], Response]


def head(request: Request, volume: Volume) -> Response:
    """The fields of a file or collection, no body."""
    path = request.target.path
    entry = volume.lookup(path)
    conditions.of(request, volume, path)(entry)
    if entry is None:
        raise NotFound(f"there is nothing at {request.href}")
    if entry.is_directory:
        return Response(200, [*conditions.validators(entry), ("Content-Type", "text/html; charset=utf-8")])
    known = checksums.headers(request, volume.digests(entry))
    return Response(200, [*_file_headers(entry), *known, ("Content-Length", str(entry.size))])


def get(request: Request, volume: Volume, browse: Browse) -> Response:
    """A file's bytes; ``browse`` answers for collections."""
    path = request.target.path
    try:
        content = volume.open(path)
    except NotFound:
        conditions.of(request, volume, path)(None)
        raise
    except Forbidden:
        entry = volume.lookup(path)
        if entry is None or not entry.is_directory:
            raise
        conditions.of(request, volume, path)(entry)
        return browse(request, volume)
    entry = content.entry
    conditions.of(request, volume, path)(entry)
    header = request.header("Range")
    if header is not None and conditions.range_applies(request, entry):
        ranges = parse_range(header, entry.size)
        if ranges is not None:
            return _partial(request, content, ranges)
    blocks = content.read(0, entry.size)
    body: Iterable[bytes | memoryview] = list(blocks) if entry.size <= SMALL else _begun(blocks)
    known = checksums.headers(request, content.digests)
    return Response(200, [*_file_headers(entry), *known, ("Content-Length", str(entry.size))], body)


def _partial(request: Request, content: Content, ranges: list[ByteRange]) -> Response:
    entry = content.entry
    headers = [*_file_headers(entry), *checksums.headers(request, content.digests)]
    if not ranges:
        return Response(416, [("Content-Range", f"bytes */{entry.size}"), ("Content-Length", "0")])
    if len(ranges) == 1:
        one = ranges[0]
        headers += [("Content-Range", content_range(one, entry.size)), ("Content-Length", str(one.stop - one.start))]
        return Response(206, headers, _begun(content.read(one.start, one.stop)))
    parts = Multipart(ranges, entry.size, content_type(entry.name), secrets.token_hex(16))
    headers = [(name, value) for name, value in headers if name != "Content-Type"]
    headers += [("Content-Type", parts.content_type), ("Content-Length", str(parts.length))]
    return Response(206, headers, parts.blocks(content.read))


def _begun(blocks: Iterable[bytes | memoryview]) -> Iterator[bytes | memoryview]:
    """The blocks, the first of them read already: what fails there is still an answer, not a broken connection."""
    rest = iter(blocks)
    first = next(rest, b"")
    return _chain(first, rest)


def _chain(first: bytes | memoryview, rest: Iterable[bytes | memoryview]) -> Iterator[bytes | memoryview]:
    yield first
    del first  # a block is up to a whole chunk
    yield from rest


def _file_headers(entry: Entry) -> Headers:
    return [
        *conditions.validators(entry),
        ("Content-Type", content_type(entry.name)),
        ("Accept-Ranges", "bytes"),
    ]
