"""A small WebDAV client of this package's own, for setting scenes and for checking what other clients did.

It sends exactly what it is told, on one persistent connection, and re-sends nothing. Must not import: davfs.
"""

from __future__ import annotations

import base64
import http.client
import ssl
import urllib.parse
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

BLOCK = 1 << 20
PROPFIND_NAMES = b'<?xml version="1.0"?><D:propfind xmlns:D="DAV:"><D:prop><D:resourcetype/></D:prop></D:propfind>'


@dataclass(frozen=True)
class Answer:
    """A whole answer: status, headers with lower-case names (the last of a repeated one), body."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)

    @property
    def ok(self) -> bool:
        """A 2xx."""
        return 200 <= self.status < 300


class DavClient:
    """One persistent connection to the server of `url`; paths are relative to `url` and given unquoted.

    Raises OSError or http.client.HTTPException when the connection fails; the next request connects anew.
    """

    def __init__(self, url: str, user: str = "", password: str = "", timeout: float = 30.0) -> None:
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"not an http or https URL: {url}")
        self.url = url.rstrip("/") + "/"
        self.base = parts.path.rstrip("/") + "/"
        self._authorization = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode() if user else ""
        self._secure = parts.scheme == "https"
        self._host = parts.hostname
        self._port = parts.port or (443 if self._secure else 80)
        self._timeout = timeout
        self._connection: http.client.HTTPConnection | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; a later request opens another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def target(self, path: str) -> str:
        """The request target of a path below the URL."""
        return self.base + urllib.parse.quote(path.lstrip("/"))

    def absolute(self, path: str) -> str:
        """The absolute URL of a path below the URL, as a Destination header wants it."""
        return urllib.parse.urljoin(self.url, self.target(path))

    def open(
        self,
        method: str,
        path: str,
        body: bytes | Iterable[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> http.client.HTTPResponse:
        """Send a request; the caller reads the answer to its end. An iterable body without Content-Length goes chunked."""
        sent = {"Authorization": self._authorization} if self._authorization else {}
        sent.update(headers or {})
        chunked = (
            body is not None and not isinstance(body, bytes) and "content-length" not in {name.lower() for name in sent}
        )
        if chunked:
            sent["Transfer-Encoding"] = "chunked"
        connection = self._connection or self._connect()
        self._connection = connection
        try:
            # A server may answer before it has read the whole body (507, 412) and then close: the answer counts.
            with suppress(BrokenPipeError, ConnectionResetError):
                connection.request(method, self.target(path), body=body, headers=sent, encode_chunked=chunked)
            return connection.getresponse()
        except BaseException:
            self.close()
            raise

    def request(
        self,
        method: str,
        path: str,
        body: bytes | Iterable[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send a request and read the whole answer."""
        response = self.open(method, path, body, headers)
        try:
            data = response.read()
        except BaseException:
            self.close()
            raise
        return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, data)

    def put(self, path: str, body: bytes, headers: Mapping[str, str] | None = None) -> Answer:
        """PUT a body that fits in memory."""
        return self.request("PUT", path, body, headers)

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> Answer:
        """GET a body that fits in memory."""
        return self.request("GET", path, None, headers)

    def move(self, source: str, target: str, *, method: str = "MOVE", overwrite: bool = True) -> Answer:
        """MOVE (or COPY) with an absolute Destination."""
        headers = {"Destination": self.absolute(target), "Overwrite": "T" if overwrite else "F"}
        return self.request(method, source, None, headers)

    def members(self, path: str = "") -> list[str]:
        """The unquoted names inside a collection (PROPFIND, Depth 1), those of collections with a slash; or OSError."""
        headers = {"Depth": "1", "Content-Type": "application/xml"}
        answer = self.request("PROPFIND", path.rstrip("/") + "/" if path else "", PROPFIND_NAMES, headers)
        if answer.status != 207:
            raise OSError(f"PROPFIND of {path or '/'} was answered {answer.status}: {answer.body[:300]!r}")
        own = urllib.parse.unquote(self.target(path)).rstrip("/")
        names = []
        for response in ElementTree.fromstring(answer.body).iter("{DAV:}response"):
            href = urllib.parse.unquote(urllib.parse.urlsplit(response.findtext("{DAV:}href") or "").path)
            if href.rstrip("/") != own:
                is_collection = response.find(".//{DAV:}collection") is not None
                names.append(href.rstrip("/").rpartition("/")[2] + ("/" if is_collection else ""))
        return sorted(names)

    def _connect(self) -> http.client.HTTPConnection:
        if self._secure:
            return http.client.HTTPSConnection(
                self._host, self._port, timeout=self._timeout, context=ssl.create_default_context(), blocksize=BLOCK
            )
        return http.client.HTTPConnection(self._host, self._port, timeout=self._timeout, blocksize=BLOCK)
