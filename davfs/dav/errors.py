"""The one map from domain errors to HTTP: status, fields and the XML body with RFC 4918's condition codes (section 16)."""

from __future__ import annotations

import logging

from davfs.core.errors import DavfsError, Locked, NoSpace, NotHolder, QuotaExceeded, VolumeHeld
from davfs.dav import xml
from davfs.dav.request import Headers, Request, Response

ALLOW = "OPTIONS, GET, HEAD, POST, PUT, PATCH, DELETE, MKCOL, COPY, MOVE, PROPFIND, PROPPATCH, REPORT, LOCK, UNLOCK"
NOT_HOLDER = "X-Davfs-Not-Holder"
RETRY_AFTER_S = 2

log = logging.getLogger(__name__)


class Refused(DavfsError):
    """The request is refused. ``status`` and ``condition`` (a code of RFC 4918, 16) are given with it."""

    code = "refused"

    def __init__(self, status: int, message: str, condition: str = "") -> None:
        super().__init__(message)
        self.http_status = status
        self.condition = condition


class NotModified(Exception):
    """The client has the file already (304). ``headers`` describe it."""

    def __init__(self, headers: Headers) -> None:
        super().__init__("not modified")
        self.headers = headers


def status_of(error: DavfsError) -> int:
    """The status that a client sees for an error."""
    return error.http_status if isinstance(error, Refused) else error.status


def respond(error: DavfsError, request: Request) -> Response:
    """The answer for a domain error."""
    status = status_of(error)
    headers: Headers = []
    if status == 405:
        headers.append(("Allow", ALLOW))
    if status in (429, 503) or isinstance(error, VolumeHeld):
        headers.append(("Retry-After", str(error.data.get("retry_after", RETRY_AFTER_S))))
    if request.forwarded and isinstance(error, NotHolder):
        headers.append((NOT_HOLDER, "1"))
    if status >= 500:
        log.warning("%s %s: %s (%s)", request.method, request.href, error.message, error.code)
    return Response.of(status, xml.CONTENT_TYPE, _body(error, request), headers)


def internal(request_line: str) -> Response:
    """The answer for what should not happen; its reason is in the log, called from an except clause."""
    log.exception("%s failed", request_line)
    text = "This server made a mistake; its log says more."
    return Response.of(500, xml.CONTENT_TYPE, _error_xml("", text))


def _body(error: DavfsError, request: Request) -> str:
    condition = ""
    if isinstance(error, Refused) and error.condition:
        condition = f"<D:{error.condition}/>"
    elif isinstance(error, Locked):
        name = "no-conflicting-lock" if request.method == "LOCK" else "lock-token-submitted"
        condition = f"<D:{name}><D:href>{xml.escape(_locked_href(error, request))}</D:href></D:{name}>"
    elif isinstance(error, NoSpace):
        exceeded = isinstance(error, QuotaExceeded)
        condition = "<D:quota-not-exceeded/>" if exceeded else "<D:sufficient-disk-space/>"  # RFC 4331, 6
    elif error.code == "lock-token-mismatch":
        condition = "<D:lock-token-matches-request-uri/>"
    return _error_xml(condition, error.message)


def _locked_href(error: Locked, request: Request) -> str:
    path = error.data.get("path")
    if isinstance(path, (list, tuple)):
        return request.href_of(tuple(map(str, path)), collection=False)
    return request.href


def _error_xml(condition: str, message: str) -> str:
    return (
        f'{xml.HEAD}<D:error xmlns:D="DAV:" xmlns:m="urn:davfs">{condition}'
        f"<m:message>{xml.escape(message)}</m:message></D:error>\n"
    )
