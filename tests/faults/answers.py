"""Operations of the model as WebDAV requests, and what their answers say in the words of the model."""

from __future__ import annotations

import urllib.parse
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from compat.client import Answer, DavClient
from davfs.core.conflict_names import is_conflict_name
from davfs.sim.model import error_of
from tests.faults.contents import content_of, tag_of
from tests.faults.record import OK, REFUSED, UNKNOWN
from tests.support.dav_locks import submit

D, X = "{DAV:}", "{urn:x}"
_PROPS = (
    b'<?xml version="1.0"?><propfind xmlns="DAV:" xmlns:x="urn:x"><prop><resourcetype/><x:p/><x:q/></prop></propfind>'
)
_XML = {"Content-Type": "application/xml"}
NOTHING_CHANGED = "nothing was changed"


@dataclass(frozen=True, slots=True)
class Result:
    """``code``: ok; refused, which certainly changed nothing; unknown; or an error of the model. ``wrong``: what no
    server may answer."""

    code: str
    status: int
    value: Any = None
    wrong: str = ""


def request_of(op: tuple[Any, ...], tokens: tuple[str, ...] = ()) -> tuple[str, Callable[[DavClient], Answer]]:
    """(method, how to send it)."""
    kind, path = op[0], "/".join(op[1])
    if kind == "get":
        return "GET", lambda dav: dav.get(path)
    if kind == "put":
        tag, _, size = op[2].rpartition(" ")
        return "PUT", lambda dav: dav.put(path, content_of(tag, int(size)), submit(dav, path, *tokens) if tokens else None)
    if kind in ("list", "props"):
        depth = {**_XML, "Depth": "1" if kind == "list" else "0"}
        return "PROPFIND", lambda dav: dav.request("PROPFIND", path, _PROPS, depth)
    if kind in ("mkcol", "delete"):
        return kind.upper(), lambda dav: dav.request(kind.upper(), path)
    if kind == "proppatch":
        return "PROPPATCH", lambda dav: dav.request("PROPPATCH", path, _patch(op[2], op[3]), _XML)
    method = kind.upper()
    return method, lambda dav: dav.move(path, "/".join(op[2]), method=method, overwrite=op[3])


def _patch(name: str, value: str | None) -> bytes:
    what = f"<x:{name}>{value}</x:{name}>" if value is not None else f"<x:{name}/>"
    verb = "set" if value is not None else "remove"
    return (
        '<?xml version="1.0"?><propertyupdate xmlns="DAV:" xmlns:x="urn:x">'
        f"<{verb}><prop>{what}</prop></{verb}></propertyupdate>"
    ).encode()


def read(op: tuple[Any, ...], answer: Answer) -> Result:
    """What an answer means for an operation."""
    status = answer.status
    if (common := _not_done(answer)) is not None:
        return common
    if (code := error_of(status)) is not None:
        return Result(code, status)
    kind = op[0]
    if kind == "get":
        return _content(answer)
    if kind == "put" and status in (201, 204):
        return Result(OK, status, status == 201)
    if kind in ("list", "props") and status == 207:
        return _found(op, answer)
    if kind in ("mkcol", "delete") and status in (201, 204):
        return Result(OK, status, True)
    if kind == "proppatch" and status == 207:
        good = all(" 200 " in (e.text or "") for e in ElementTree.fromstring(answer.body).iter(f"{D}status"))
        return Result(OK, status, True, "" if good else f"207 with {answer.body!r}")
    if kind in ("move", "copy") and status in (201, 204):
        return Result(OK, status, status == 201)
    return Result(UNKNOWN, status, wrong=f"{status} to {op}: {answer.body[:300]!r}")


def _not_done(answer: Answer) -> Result | None:
    """What an answer of any method means that tells of the cluster and not of the volume."""
    status = answer.status
    if status == 423:
        return Result(REFUSED, status)
    if status == 507:
        return Result(REFUSED, status)
    if status == 503:
        words = answer.body.decode(errors="replace")
        return Result(REFUSED if NOTHING_CHANGED in words else UNKNOWN, status)
    if status >= 500 or status in (400, 401, 429):
        return Result(UNKNOWN, status, wrong=f"{status}: {answer.body[:300]!r}")
    return None


def _content(answer: Answer) -> Result:
    if answer.status in (301, 302) or answer.headers.get("content-type", "").startswith("text/html"):
        return Result("forbidden", answer.status)  # a directory: the model has no content for it
    if answer.status != 200:
        return Result(UNKNOWN, answer.status, wrong=f"{answer.status} to a GET")
    tag = tag_of(answer.body)
    return Result(OK, 200, tag, tag if tag.startswith("NOT WHOLE") else "")


def _found(op: tuple[Any, ...], answer: Answer) -> Result:
    own = "/".join(op[1])
    names, values, collection = [], [], False
    for response in ElementTree.fromstring(answer.body).iter(f"{D}response"):
        href = urllib.parse.unquote(urllib.parse.urlsplit(response.findtext(f"{D}href") or "").path).strip("/")
        is_collection = response.find(f".//{D}collection") is not None
        if href.partition("/")[2] == own:
            collection = is_collection
            values = _properties(response)
        elif not is_conflict_name(href):
            names.append(href.rpartition("/")[2] + ("/" if is_collection else ""))
    if op[0] == "props":
        return Result(OK, 207, tuple(sorted(values)))
    if not collection:
        return Result("not-a-collection", 207)
    return Result(OK, 207, tuple(sorted(names, key=lambda name: name.rstrip("/"))))


def _properties(response: ElementTree.Element) -> list[tuple[str, str]]:
    for propstat in response.iter(f"{D}propstat"):
        if " 200 " in (propstat.findtext(f"{D}status") or ""):
            found = propstat.find(f"{D}prop")
            return [(e.tag.removeprefix(X), e.text or "") for e in found if e.tag.startswith(X)] if found is not None else []
    return []


def locked(answer: Answer) -> Result:
    """What came of a LOCK; its value is the token."""
    if (common := _not_done(answer)) is not None:
        return common
    if answer.status == 200:
        return Result(OK, 200, answer.headers["lock-token"].strip("<>"))
    return Result(UNKNOWN, answer.status, wrong=f"{answer.status} to a LOCK: {answer.body[:300]!r}")


def unlocked(answer: Answer) -> Result:
    """What came of an UNLOCK."""
    if (common := _not_done(answer)) is not None:
        return common
    if answer.status in (204, 409, 412):
        return Result(OK, answer.status)
    return Result(UNKNOWN, answer.status, wrong=f"{answer.status} to an UNLOCK: {answer.body[:300]!r}")
