"""Between URLs and paths of the drive: request targets, Destination, tags of If headers, and hrefs (RFC 3986, RFC 4918 8.3).

A URL is taken apart first and unquoted then, so that ``q%3Fx`` is a name with a question mark. Pure: no WSGI in here.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import quote, unquote_to_bytes, urlsplit

from davfs.core.errors import DavfsError, InvalidInput
from davfs.core.model import HIDDEN, Path
from davfs.core.names import check_path

MAX_PREFIX = 1024  # characters
MAX_KNOWN = 512  # characters of a URL that is remembered
FILES_PREFIX = "/remote.php/dav/files"
"""Before the drive's own paths in the addresses that Nextcloud's clients use; what they have as a user's name is a volume's."""

UPLOADS_PREFIX = "/remote.php/dav/uploads"

_FILES, _UPLOADS = FILES_PREFIX[1:].split("/"), UPLOADS_PREFIX[1:].split("/")
_SAFE = "!$'()*+,:@~"


class OtherServer(DavfsError):
    """The destination is on another server or volume; copy the file there with GET and PUT (RFC 4918, 9.8.5)."""

    code = "other-server"
    status = 502


class Target(NamedTuple):
    """What a URL names: a path in a volume, or the list of volumes (``volume`` None). ``slash``: it ended with one;
    ``alias``: what it had before the drive's own path."""

    volume: str | None
    path: Path
    slash: bool = False
    alias: str = ""


ROOT_TARGET = Target(None, (), True)


def parse_target(url: str, prefix: str = "") -> Target:
    """The target of a request: an absolute path, or an absolute URL whose server is ignored (RFC 9112, 3.2), below ``prefix``.

    ``url`` holds bytes as Latin-1, as WSGI hands them on, or plain ASCII. :class:`InvalidInput` if no name of the
    drive can be meant.
    """
    return _known_target(url, prefix) if len(url) <= MAX_KNOWN else _target_of(url, prefix)


def _target_of(url: str, prefix: str) -> Target:
    if url == "*":
        return ROOT_TARGET
    if not url.startswith("/"):
        scheme, separator, rest = url.partition("://")
        if not separator or not scheme.isalnum():
            raise InvalidInput("the request target is neither an absolute path nor a URL")
        url = "/" + rest.partition("/")[2]
    path = below_prefix(url.partition("#")[0].partition("?")[0], prefix)
    if path is None:
        raise InvalidInput(f"the URL is not below {prefix}/")
    return _parse_path(path)


_known_target = lru_cache(maxsize=1024)(_target_of)


def parse_destination(header: str, hosts: Collection[str], prefix: str = "") -> Target:
    """The target of a Destination header: an absolute path, or a URL on one of ``hosts`` (names without ports), below
    ``prefix`` (see :func:`parse_prefix`).

    Port and scheme are not compared: a reverse proxy shows others than the server sees, and all nodes serve one drive.
    """
    header = header.strip()
    if header.startswith("/") and not header.startswith("//"):
        return _parse_path(_inside(header.partition("#")[0].partition("?")[0], prefix))
    try:
        parts = urlsplit(header)
        host = (parts.hostname or "").lower()
    except ValueError:
        raise InvalidInput("the Destination is no URL") from None
    if not parts.scheme or not host:
        raise InvalidInput("the Destination is neither an absolute path nor a URL")
    if hosts and host not in hosts:
        raise OtherServer(f"the destination is on another server ({host})")
    return _parse_path(_inside(parts.path or "/", prefix))


def _inside(path: str, prefix: str) -> str:
    rest = below_prefix(path, prefix)
    if rest is None:
        raise OtherServer(f"the destination is not below {prefix}/, where this drive is")
    return rest


def parse_prefix(text: str) -> str:
    """A path that proxies put before all paths of the drive, quoted as hrefs are and without a slash at its end; "" for none.

    :class:`InvalidInput` for what is no absolute path of plain names.
    """
    if not text.strip("/"):
        return ""
    names = [_unquote(piece) for piece in text.split("/") if piece]
    if not text.startswith("/") or len(text) > MAX_PREFIX or any(_no_name(name) for name in names):
        raise InvalidInput(f"the prefix {text[:100]!r} is no path such as /files: one begins with a slash, without . and ..")
    return "".join("/" + quote(name, safe=_SAFE) for name in names)


def below_prefix(path: str, prefix: str) -> str | None:
    """What is left of an absolute path without a prefix that :func:`parse_prefix` gave; None if it does not lie below it."""
    rest = path
    for name in prefix.split("/")[1:]:
        piece, _, rest = rest.lstrip("/").partition("/")
        try:
            if _unquote(piece) != _unquote(name):
                return None
        except InvalidInput:
            return None
    return rest if not prefix else "/" + rest.lstrip("/")


def host_name(authority: str) -> str:
    """The name in ``name:port`` or ``[address]:port``, in lower case."""
    authority = authority.strip().lower()
    if authority.startswith("["):
        return authority[1:].partition("]")[0]
    return authority.partition(":")[0]


def href(volume: str | None, path: Path, collection: bool, prefix: str = "") -> str:
    """The absolute path that names a resource, quoted; collections end with a slash. ``prefix``: what proxies put before it."""
    if volume is None:
        return f"{prefix}/"
    parts = "/".join(quote(name, safe=_SAFE) for name in (volume, *path))
    return f"{prefix}/{parts}/" if collection else f"{prefix}/{parts}"


def quote_name(name: str) -> str:
    """One name as a piece of an href."""
    return quote(name, safe=_SAFE)


def _parse_path(path: str) -> Target:
    pieces = [_unquote(piece) for piece in path.split("/") if piece]
    slash, alias = path.endswith("/"), ""
    if pieces[:3] == _FILES:
        del pieces[:3]
        alias = FILES_PREFIX
    elif pieces[:3] == _UPLOADS and len(pieces) > 3:
        return Target(check_path(pieces[3:4])[0], (HIDDEN, *check_path(pieces[4:])), slash, UPLOADS_PREFIX)
    if not pieces:
        return ROOT_TARGET._replace(alias=alias)
    return Target(check_path(pieces[:1])[0], check_path(pieces[1:]), slash, alias)


def _no_name(name: str) -> bool:
    return name in (".", "..") or "/" in name or any(ord(character) < 32 or character == "\x7f" for character in name)


def _unquote(piece: str) -> str:
    try:
        if "%" not in piece and piece.isascii():
            return piece
        return unquote_to_bytes(piece.encode("latin-1")).decode("utf-8")
    except UnicodeError:
        raise InvalidInput("the names in a URL must be UTF-8") from None
