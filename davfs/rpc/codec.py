"""The body of a node-to-node call and how errors travel. Format 1, named by the path ``/rpc/v1/``.

A body is a 4-byte big-endian length, a msgpack header of that many bytes, and a raw blob. The header of a request is
its arguments (a map); of a good answer (200) the value; of a bad one ``{"error": code, "message": text, "data": map}``.
Pure: no sockets, no threads.
"""

from __future__ import annotations

from typing import Any

import msgpack

from davfs.core.errors import DavfsError, by_code

HEADER_LIMIT = 4 * 1024 * 1024  # bytes of a msgpack header
PREFIX = 4


class MalformedBody(ValueError):
    """The body is not of format 1."""


def pack_header(value: Any) -> bytes:
    """Length and msgpack; ``ValueError`` or ``TypeError`` for what msgpack cannot say (see :func:`unpack_header`)."""
    try:
        packed: bytes = msgpack.packb(value, use_bin_type=True)
    except OverflowError as error:
        raise ValueError(f"a number is too large for the wire: {error}") from error
    if len(packed) > HEADER_LIMIT:
        raise ValueError(f"{len(packed)} bytes of header: more than {HEADER_LIMIT}; send bulk as the blob")
    return len(packed).to_bytes(PREFIX, "big") + packed


def header_size(prefix: bytes, body_size: int) -> int:
    """The length that the first four bytes name, checked against the size of the whole body."""
    size = int.from_bytes(prefix, "big")
    if size > HEADER_LIMIT or PREFIX + size > body_size:
        raise MalformedBody(f"a header of {size} bytes does not fit into a body of {body_size}")
    return size


def unpack_header(packed: bytes | memoryview) -> Any:
    """The value: str, int, float, bytes, list, dict, bool, None; tuples arrive as lists."""
    try:
        return msgpack.unpackb(packed, raw=False, strict_map_key=False)
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
        raise MalformedBody(f"the header is no msgpack: {type(error).__name__}") from error


def pack_error(error: DavfsError) -> bytes:
    """An error as a header; data that msgpack cannot say is sent as text rather than losing the error itself."""
    said = {"error": error.code, "message": error.message, "data": error.data}
    try:
        return pack_header(said)
    except (TypeError, ValueError):
        return pack_header({**said, "data": {str(key): str(value) for key, value in error.data.items()}})


def unpack_error(value: Any, node: str) -> DavfsError:
    """The error that :func:`pack_error` packed, of the same class; ``node``: who sent it, for the message."""
    if not isinstance(value, dict) or not isinstance(value.get("error"), str):
        return DavfsError(f"{node} answered with an error that this version does not understand")
    data = value.get("data")
    error = by_code(value["error"])(str(value.get("message", "")))
    error.data = {str(key): item for key, item in data.items()} if isinstance(data, dict) else {}
    return error
