"""LOCK and UNLOCK (RFC 4918, 9.10 and 9.11). The locks themselves are the volume's, held through Raft."""

from __future__ import annotations

import re
import uuid
from xml.etree.ElementTree import Element

from davfs.cluster.api import LockRequest, Volume
from davfs.core.errors import InvalidInput, Locked, PreconditionFailed
from davfs.core.model import DavLock
from davfs.dav import conditions, xml
from davfs.dav.lock_xml import lock_answer, refused_below
from davfs.dav.request import DavSettings, Headers, Request, Response

MAX_OWNER = 8 * 1024  # characters of the owner's XML: it is kept in Raft
_SECONDS = re.compile(r"second-(\d{1,18})", re.IGNORECASE)


def lock(request: Request, volume: Volume) -> Response:
    """Grant a lock, or refresh one (a LOCK without a body)."""
    path = request.target.path
    timeout = lock_timeout(request.header("Timeout"), request.settings)
    root = xml.parse(request.xml_body(xml.MAX_BODY))
    if root is None:
        return _refresh(request, volume, timeout)
    depth = request.depth(("0", "infinity"), "infinity")
    exclusive, owner = _read_lockinfo(root)
    wish = LockRequest(
        token=_token(request.request_id),
        infinite=depth == "infinity",
        exclusive=exclusive,
        owner=owner,
        principal=request.principal,
        timeout_s=timeout,
    )
    condition = conditions.of(request, volume, path)
    try:
        granted, created = volume.lock(path, wish, condition=condition, caller=request.caller())
    except Locked as error:
        other = tuple(error.data.get("path") or ())
        if wish.infinite and len(other) > len(path) and other[: len(path)] == path:
            member, asked = request.href_of(other, collection=False), request.href_of(path, collection=True)
            return Response.of(207, xml.CONTENT_TYPE, refused_below(member, asked))
        ours = [held for held in volume.locks(path) if held.token == wish.token]
        if not ours:
            raise
        granted, created = ours[0], False  # this very request, sent again after its answer was lost
    return _answer(request, granted, 201 if created else 200, [("Lock-Token", f"<{granted.token}>")])


def unlock(request: Request, volume: Volume) -> Response:
    """End a lock. Windows sometimes sends its token without the angle brackets."""
    header = (request.header("Lock-Token") or "").strip()
    token = header.removeprefix("<").removesuffix(">").strip()
    if not token:
        raise InvalidInput("UNLOCK needs a Lock-Token header")
    path = request.target.path
    conditions.of(request, volume, path)(volume.lookup(path))
    volume.unlock(path, token, caller=request.caller())
    return Response.empty(204)


def lock_timeout(header: str | None, settings: DavSettings) -> int:
    """Seconds to grant for a Timeout header: the first choice that is understood, bounded (RFC 4918, 10.7)."""
    for choice in (header or "").split(","):
        choice = choice.strip()
        if choice.lower() == "infinite":
            return settings.max_lock_timeout_s
        found = _SECONDS.fullmatch(choice)
        if found:
            return max(1, min(int(found.group(1)), settings.max_lock_timeout_s))
    return min(settings.default_lock_timeout_s, settings.max_lock_timeout_s)


def _refresh(request: Request, volume: Volume, timeout: int) -> Response:
    path = request.target.path
    header = request.if_header
    if header is None:
        raise InvalidInput("a LOCK without a body refreshes a lock, and names it in an If header")
    conditions.of(request, volume, path)(volume.lookup(path))
    covering = {one.token for one in volume.locks(path)}
    for token in sorted(header.tokens & covering):
        refreshed = volume.refresh_lock(path, token, timeout, caller=request.caller())
        return _answer(request, refreshed, 200, [])
    raise PreconditionFailed("none of the submitted tokens locks this resource; it may have timed out")


def _read_lockinfo(root: Element) -> tuple[bool, str]:
    if root.tag != xml.DAV + "lockinfo":
        raise InvalidInput("the body of LOCK is a DAV: lockinfo element")
    scope, kind = root.find(xml.DAV + "lockscope"), root.find(xml.DAV + "locktype")
    exclusive = scope is not None and scope.find(xml.DAV + "exclusive") is not None
    shared = scope is not None and scope.find(xml.DAV + "shared") is not None
    if exclusive == shared or kind is None or kind.find(xml.DAV + "write") is None:
        raise InvalidInput("a lockinfo element holds a lockscope (exclusive or shared) and a locktype (write)")
    owner = root.find(xml.DAV + "owner")
    text = xml.serialize(owner) if owner is not None else ""
    if len(text) > MAX_OWNER:
        raise InvalidInput(f"the owner of a lock may have {MAX_OWNER} characters at most")
    return exclusive, text


def _token(request_id: str) -> str:
    # Made from the request's id, so that a re-send through another node asks for the very same lock.
    return f"opaquelocktoken:{uuid.uuid5(uuid.NAMESPACE_OID, request_id)}"


def _answer(request: Request, granted: DavLock, status: int, headers: Headers) -> Response:
    text = lock_answer(granted, request.target.volume or "", request.base)
    return Response.of(status, xml.CONTENT_TYPE, text, headers)
