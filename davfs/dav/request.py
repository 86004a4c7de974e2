"""A request as the method handlers see it, their answer, and the settings of the DAV side.

Knows WSGI's environment and nothing of the server behind it.
"""

from __future__ import annotations

import http
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from davfs.cluster.api import Caller
from davfs.core.errors import InvalidInput
from davfs.core.model import HIDDEN, Path
from davfs.core.sessions import SessionKey, agent_of
from davfs.dav.body import CodingNotTaken, RequestBody
from davfs.dav.dates import parse_seconds
from davfs.dav.if_header import IfHeader, parse_if
from davfs.dav.proxies import HOSTS, X_FORWARDED
from davfs.dav.target import Target, host_name, href, parse_destination

Headers = list[tuple[str, str]]
_REASONS = {int(status): status.phrase for status in http.HTTPStatus} | {207: "Multi-Status"}


@dataclass(frozen=True, slots=True)
class DavSettings:
    """What the DAV side may be told. Times in seconds, sizes in bytes."""

    ttl_s: float = 5.0  # of volume tokens: how long a takeover may take
    patience_s: float = 5.0  # how much longer than two ttl a request looks for a node that serves its volume
    max_lock_timeout_s: int = 604_800
    default_lock_timeout_s: int = 3_600
    external_names: tuple[str, ...] = ()  # host names that reverse proxies show
    trusted_proxies: tuple[str, ...] = ()  # addresses and networks whose word about a client is taken (see proxies.py)
    proxy_headers: str = X_FORWARDED  # the fields that they set
    prefix: str = ""  # the path under which they show the drive, and which they pass on
    realm: str = "davfs"

    @property
    def takeover_limit_s(self) -> float:
        """How long a request looks for a node that serves its volume."""
        return 2 * self.ttl_s + self.patience_s


@dataclass(slots=True)
class Request:
    """One request. ``forwarded``: the node that it came through, "" when a client sent it to this one.

    ``principal``: the account, ``configured`` when it stands in a node's configuration (and "" when that lets everybody
    in). ``admin``: it is administrator of the request's volume. ``recheck`` raises when the account may not do this to
    the volume any more. ``prefix``: what stands before all paths of the drive as this client sees them.
    """

    method: str
    target: Target
    environ: Mapping[str, Any]
    body: RequestBody
    principal: str
    request_id: str
    settings: DavSettings
    forwarded: str = ""
    configured: bool = False
    admin: bool = False
    prefix: str = ""
    recheck: Callable[[], object] = lambda: None
    _condition: IfHeader | None = field(default=None, init=False)

    def header(self, name: str) -> str | None:
        """The value of a field, None if it was not sent."""
        value: str | None = self.environ.get("HTTP_" + name.upper().replace("-", "_"))
        return value

    @property
    def base(self) -> str:
        """What stands before the drive's own paths in the hrefs of the answer: as the request's own address has it."""
        return self.prefix + self.target.alias

    @property
    def href(self) -> str:
        """The request's own resource as an href, as it was asked for."""
        path = self.target.path
        return href(self.target.volume, path[1:] if path[:1] == (HIDDEN,) else path, self.target.slash, self.base)

    def href_of(self, path: Path, collection: bool) -> str:
        """Another resource of the same volume as an href."""
        return href(self.target.volume, path, collection, self.base)

    @property
    def if_header(self) -> IfHeader | None:
        """The parsed If header; InvalidInput if it is malformed."""
        if self._condition is None:
            text = self.header("If")
            if text is not None:
                self._condition = parse_if(text)
        return self._condition

    def caller(self) -> Caller:
        """Who asks, with every lock token that the request submits."""
        condition = self.if_header
        return Caller(self.principal, condition.tokens if condition else frozenset(), self.request_id, self.admin)

    def xml_body(self, limit: int) -> bytes:
        """All of a body of XML; BodyTooLarge above ``limit`` bytes, CodingNotTaken when it is compressed."""
        coding = (self.header("Content-Encoding") or "identity").strip().lower()
        if coding != "identity":
            raise CodingNotTaken(f"the body is taken as it is, not in the coding {coding[:20]!r}")
        return self.body.read_all(limit)

    @property
    def session(self) -> SessionKey:
        """Whose request this is. The client's address is the one that the first node saw: another node's word for it
        is taken, a client's is not."""
        address = self.header("X-Davfs-Client") if self.forwarded else self.environ.get("REMOTE_ADDR")
        return SessionKey(self.principal, address or "", agent_of(self.header("User-Agent") or ""))

    def depth(self, allowed: tuple[str, ...], default: str) -> str:
        """The Depth header in lower case; :class:`InvalidInput` if the method does not allow it."""
        depth = (self.header("Depth") or default).strip().lower()
        if depth not in allowed:
            raise InvalidInput(f"{self.method} takes a Depth of {' or '.join(allowed)}, not {depth[:20]!r}")
        return depth

    def depth_of_all(self, is_directory: Callable[[], bool]) -> None:
        """Refuse a Depth that would leave a part of a collection out, where none may be (RFC 4918, 9.6.1, 9.9.2).

        ``is_directory`` is asked only if it matters.
        """
        if self.depth(("0", "1", "infinity"), "infinity") != "infinity" and is_directory():
            self.depth(("infinity",), "infinity")

    def mtime_ns(self) -> int | None:
        """The modification time that X-OC-Mtime sets, None without one."""
        text = self.header("X-OC-Mtime")
        return None if text is None else parse_seconds(text)

    def mtime_headers(self) -> Headers:
        """The acknowledgement of X-OC-Mtime."""
        return [] if self.header("X-OC-Mtime") is None else [("X-OC-Mtime", "accepted")]

    def hosts(self) -> frozenset[str]:
        """The names under which this client may know this server."""
        names = {host_name(name) for name in self.settings.external_names}
        known = self.header("X-Davfs-Host") if self.forwarded else self.environ.get(HOSTS) or self.header("Host")
        names.update(host_name(name) for name in (known or "").split(","))
        names.discard("")
        return frozenset(names)

    def destination(self) -> Target:
        """Where COPY and MOVE go; :class:`InvalidInput` without a Destination."""
        text = self.header("Destination")
        if not text:
            raise InvalidInput(f"{self.method} needs a Destination header")
        return parse_destination(text, self.hosts(), self.prefix)


@dataclass(slots=True)
class Response:
    """An answer. ``body`` is iterated once and closed."""

    status: int
    headers: Headers = field(default_factory=list)
    body: Iterable[bytes | memoryview] = ()

    @property
    def status_line(self) -> str:
        """``404 Not Found``."""
        return f"{self.status} {_REASONS.get(self.status, 'Unknown')}"

    @classmethod
    def of(cls, status: int, content_type: str, text: str | bytes, headers: Headers | None = None) -> Response:
        """An answer with a small body."""
        data = text.encode() if isinstance(text, str) else text
        return cls(
            status, [("Content-Type", content_type), ("Content-Length", str(len(data))), *(headers or [])], [data]
        )

    @classmethod
    def empty(cls, status: int, headers: Headers | None = None) -> Response:
        """An answer without a body."""
        length: Headers = [] if status in (204, 304) else [("Content-Length", "0")]
        return cls(status, length + (headers or []))
