"""PROPFIND (RFC 4918, 9.1), streamed. Depth infinity is refused with ``propfind-finite-depth``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from xml.etree.ElementTree import Element

from davfs.cluster.api import Volume
from davfs.core.canonical import canonical
from davfs.core.errors import InvalidInput, NotFound
from davfs.core.model import DavLock, Entry, Path
from davfs.dav import conditions, xml
from davfs.dav.errors import Refused
from davfs.dav.properties import QUOTA, Subject, Wanted
from davfs.dav.request import Request, Response
from davfs.dav.target import quote_name

MAX_NAMES = 1000  # properties that a request may name
BLOCK = 64 * 1024  # characters of an answer that are gathered before they are sent
START = f'{xml.HEAD}<D:multistatus xmlns:D="DAV:">\n'
END = "</D:multistatus>\n"
_ALL = Wanted(None)
_ALL_OF_ONE = Wanted(None, sorted(QUOTA))


def propfind(request: Request, volume: Volume) -> Response:
    """Properties of a resource and, with Depth 1, of its members."""
    path = request.target.path
    wanted = read_wanted(request)
    entry = volume.lookup(path)
    conditions.of(request, volume, path)(entry)
    if entry is None:
        raise NotFound(f"there is nothing at {request.href}")
    depth = check_depth(request, collection=entry.is_directory)
    return multistatus(_responses(request, volume, entry, wanted, members=depth == "1" and entry.is_directory))


def read_wanted(request: Request) -> Wanted:
    """What the body asks for; an empty one means allprop (RFC 4918, 9.1).

    With Depth 0 it brings the quota too: Node's webdav asks for that so, as sabre/dav answers it. RFC 4331 (section 2) would
    rather not have it in allprop, for what it may cost: so it is not in a listing, nor where allprop is asked for by name.
    """
    root = xml.parse(request.xml_body(xml.MAX_BODY))
    if root is None:
        return _ALL_OF_ONE if request.header("Depth") == "0" else _ALL
    if root.tag != xml.DAV + "propfind":
        raise InvalidInput("the body of PROPFIND is a DAV: propfind element")
    prop, include = root.find(xml.DAV + "prop"), root.find(xml.DAV + "include")
    kinds = [child.tag for child in root if child.tag in (xml.DAV + "prop", xml.DAV + "allprop", xml.DAV + "propname")]
    if len(kinds) != 1:
        raise InvalidInput("a propfind element holds one of prop, allprop and propname")
    if prop is not None:
        return Wanted(names_in(prop))
    return Wanted(None, names_in(include) if include is not None else (), names_only=kinds[0] == xml.DAV + "propname")


def check_depth(request: Request, *, collection: bool) -> str:
    """``0`` or ``1``. For a file infinity is 0.

    None at all means infinity (RFC 4918, 9.1), and who sends none (webdav4 does, to see whether a folder is there) does not
    mean it: they get the one level that sabre/dav and Nextcloud give them.
    """
    depth = request.depth(("0", "1", "infinity"), "1")
    if depth != "infinity":
        return depth
    if collection:
        raise Refused(403, "PROPFIND goes one level deep at most here: send Depth 0 or 1", "propfind-finite-depth")
    return "0"


def multistatus(responses: Iterator[str], last: str = "") -> Response:
    """A 207 of ``response`` elements and what comes behind them: with its length when it is small, else streamed."""
    blocks = _blocks(responses, last)
    first = next(blocks)
    second = next(blocks, None)
    if second is None:
        return Response.of(207, xml.CONTENT_TYPE, first)
    return Response(207, [("Content-Type", xml.CONTENT_TYPE)], _chain(first, second, blocks))


def _responses(request: Request, volume: Volume, entry: Entry, wanted: Wanted, *, members: bool) -> Iterator[str]:
    path = request.target.path
    name = volume.info.name
    quota = volume.quota() if wanted.quota and entry.is_directory else None
    locks = tuple(volume.locks(path)) if wanted.locks else ()
    own = request.href_of(path, entry.is_directory)
    shown = path[-1] if path else name
    digests = volume.digests(entry) if wanted.digests else ()
    token = volume.sync_token() if wanted.sync_token and entry.is_directory else ""
    dead = volume.properties(entry) if wanted.dead else {}
    yield wanted.response(Subject(entry, own, shown, dead, locks, name, quota, digests, token, request.base))
    if not members:
        return
    entries = volume.members(path)
    checksums = volume.members_digests(path) if wanted.digests else {}
    inherited = tuple(lock for lock in locks if lock.infinite)
    below = _locks_of_members(volume, path) if wanted.locks else {}
    for member, dead in entries:
        slash = "/" if member.is_directory else ""
        subject = Subject(
            member,
            f"{own}{quote_name(member.name)}{slash}",
            member.name,
            dead,
            inherited + below.get(canonical(member.name), ()),
            name,
            quota if member.is_directory else None,
            checksums.get(member.inode, ()),
            token if member.is_directory else "",
            request.base,
        )
        yield wanted.response(subject)


def _locks_of_members(volume: Volume, path: Path) -> dict[str, tuple[DavLock, ...]]:
    found: dict[str, tuple[DavLock, ...]] = {}
    for lock in volume.locks_below(path):
        if len(lock.path) == len(path) + 1:
            name = canonical(lock.path[-1])
            found[name] = (*found.get(name, ()), lock)
    return found


def names_in(element: Element) -> list[str]:
    """The Clark names of the properties that a ``prop`` or ``include`` element holds."""
    if len(element) > MAX_NAMES:  # each member of the answer tells of each
        raise InvalidInput(f"a request asks for {MAX_NAMES} properties at most")
    return [child.tag for child in element]


def _blocks(responses: Iterator[str], last: str) -> Iterator[bytes]:
    parts, size = [START], len(START)
    for text in responses:
        parts.append(text)
        size += len(text)
        if size >= BLOCK:
            yield "".join(parts).encode()
            parts, size = [], 0
    parts.append(last + END)
    yield "".join(parts).encode()


def _chain(first: bytes, second: bytes, rest: Iterable[bytes]) -> Iterator[bytes]:
    yield first
    yield second
    yield from rest
