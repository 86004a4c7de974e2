"""The head of a request as nearly all clients send it, taken apart at once. Pure.

Whatever is unusual about a head is left to the parser that reads it line by line (``connection.py``), and refused there.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

FIELD_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, 5.1; what is forwarded has no other either
MAX_KNOWN_NAME = 64  # bytes of a field's name that is remembered
_LINE = re.compile(rb"([A-Z]+) ((/[!-\"$->@-~]*)(?:\?([!-\"$-~]*))?) HTTP/1\.1")
_SLASH = re.compile(rb"%2[Ff]")
_SPECIAL = frozenset((b"OPTIONS", b"CONNECT"))


class Head(NamedTuple):
    """What a plain HTTP/1.1 head says. ``path``: unquoted, ``query``: as it came; field names are in title case."""

    method: bytes
    uri: bytes
    path: bytes
    query: bytes
    fields: dict[bytes, bytes]


def parse_plain(head: bytes) -> Head | None:
    """A head with its empty line; None if anything about it needs a closer look, a field that comes twice included."""
    lines = head[:-4].split(b"\r\n")
    count = len(lines) + 1
    if head.count(b"\n") != count or head.count(b"\r") != count or b"\0" in head or not head.endswith(b"\r\n\r\n"):
        return None
    first = _LINE.fullmatch(lines[0])
    if first is None or first[1] in _SPECIAL or first[2].startswith(b"//"):
        return None
    fields: dict[bytes, bytes] = {}
    for line in lines[1:]:
        name, colon, value = line.partition(b":")
        known = (_title if len(name) <= MAX_KNOWN_NAME else _title_of)(name)
        if not colon or known is None or known in fields:
            return None
        fields[known] = value.strip(b" \t")
    path = first[3]
    if b"%" in path:
        path = b"%2F".join(unquote_to_bytes(piece) for piece in _SLASH.split(path))  # which stands inside a name
    return Head(first[1], first[2], path, first[4] or b"", fields)


def _title_of(name: bytes) -> bytes | None:
    """A field's name in title case; None for one that is malformed, or that is not handed on (it has an underscore)."""
    return name.title() if FIELD_NAME.fullmatch(name) and b"_" not in name else None


_title = lru_cache(maxsize=512)(_title_of)


def environ_key(name: bytes) -> str:
    """A field's name as WSGI has it (PEP 3333), but for the two that have no ``HTTP_``."""
    return _environ_key(name) if len(name) <= MAX_KNOWN_NAME else _environ_key_of(name)


def _environ_key_of(name: bytes) -> str:
    return "HTTP_" + name.decode("latin-1").upper().replace("-", "_")


_environ_key = lru_cache(maxsize=512)(_environ_key_of)
