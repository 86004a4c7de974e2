"""A DAV client for tests: exact requests, whole answers; and raw sockets for what no client library would send."""

from __future__ import annotations

import http.client
import socket
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

D = "{DAV:}"


@dataclass
class Answer:
    """An answer, its header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def xml(self) -> Any:
        return ElementTree.fromstring(self.body)

    def prop(self, name: str, href: str | None = None) -> Any:
        """The element of a property that a multistatus reports with 200, None if it does not."""
        for response in self.xml.iter(f"{D}response"):
            if href is not None and response.findtext(f"{D}href") != href:
                continue
            for propstat in response.iter(f"{D}propstat"):
                if " 200 " in (propstat.findtext(f"{D}status") or ""):
                    found = propstat.find(f"{D}prop/{name}")
                    if found is not None:
                        return found
        return None

    @property
    def hrefs(self) -> list[str]:
        return [element.text or "" for element in self.xml.findall(f"{D}response/{D}href")]


class DavClient:
    """One persistent connection to a server."""

    def __init__(self, port: int, volume: str = "demo") -> None:
        self.port = port
        self.base = f"/{volume}"
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)

    def __call__(self, method: str, path: str, body: bytes | str | None = None, **headers: str) -> Answer:
        """A request for a path in the volume; ``If_Match=...`` becomes If-Match."""
        return self.raw(method, self.base + path, body, {name.replace("_", "-"): v for name, v in headers.items()})

    def raw(
        self, method: str, target: str, body: bytes | str | None = None, headers: dict[str, str] | None = None
    ) -> Answer:
        data = body.encode() if isinstance(body, str) else body
        self._connection.request(method, target, data, headers or {})
        response = self._connection.getresponse()
        return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())

    def close(self) -> None:
        self._connection.close()


class RawConnection:
    """A socket: send bytes, read answers one by one."""

    def __init__(self, port: int, timeout: float = 10) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=timeout)
        self.file = self.socket.makefile("rb")

    def send(self, *lines: str, body: bytes = b"") -> None:
        """A head of these lines and a body."""
        self.socket.sendall("".join(line + "\r\n" for line in lines).encode("latin-1") + b"\r\n" + body)

    def answer(self, head: bool = False) -> Answer:
        """The next answer; status 0 when the connection ended instead."""
        line = self.file.readline()
        if not line:
            return Answer(0, {}, b"")
        headers = {}
        while (field := self.file.readline().strip()) != b"":
            name, _, value = field.decode("latin-1").partition(":")
            headers[name.lower()] = value.strip()
        status = int(line.split()[1])
        if head or status < 200 or status in (204, 304):
            return Answer(status, headers, b"")
        if headers.get("transfer-encoding") == "chunked":
            parts = []
            while size := int(self.file.readline(), 16):
                parts.append(self.file.read(size))
                self.file.readline()
            self.file.readline()
            return Answer(status, headers, b"".join(parts))
        length = headers.get("content-length")
        return Answer(status, headers, self.file.read(int(length)) if length is not None else self.file.read())

    def closed(self) -> bool:
        """Whether the server closes the connection within the timeout."""
        try:
            return self.file.read(1) == b""
        except ConnectionError:
            return True

    def close(self) -> None:
        self.file.close()
        self.socket.close()
