"""From a request on the wire to a WSGI application and back (PEP 3333), for this package's connections only."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import Any

from davfs.dav.connection import DavRequest
from davfs.dav.head import environ_key
from davfs.dav.limits import WORKING

log = logging.getLogger(__name__)

Headers = list[tuple[str, str]]


class Gateway:
    """One request's way through the application."""

    def __init__(self, request: DavRequest) -> None:
        self._request = request
        self._left: int | None = None  # bytes that Content-Length still promises
        self._started = False

    def respond(self) -> None:
        """Call the application and send what it answers."""
        request = self._request
        working = request.server.limit.begin()
        if working is None:
            self._busy()
            return
        try:
            if request.body is not None:
                request.body.working = working
            environ = self._environ()
            environ[WORKING] = working
            blocks = request.server.application(environ, self._start_response)
            if isinstance(blocks, list):
                working.end()  # nothing is left to be done but to send it
            try:
                for block in blocks:
                    if len(block):
                        with working.waiting():
                            self._write(block)
                    del block  # up to a whole chunk, which would stay while the next one is read
            finally:
                if hasattr(blocks, "close"):
                    blocks.close()
        finally:
            working.end()
        if self._left and request.method != b"HEAD":
            # The client was promised more; only the end of the connection tells it that this is not all.
            log.warning("an answer ended %d bytes early", self._left)
            request.close_connection = True

    def _busy(self) -> None:
        body = b"The server is busy; try again shortly.\n"
        self._start_response(
            "503 Service Unavailable",
            [("Content-Type", "text/plain"), ("Content-Length", str(len(body))), ("Retry-After", "2")],
        )
        self._write(body)

    def _start_response(self, status: str, headers: Headers, exc_info: Any = None) -> Callable[[bytes], None]:
        request = self._request
        if self._started and exc_info is None:
            raise RuntimeError("start_response was called twice")
        if request.sent_headers:
            raise exc_info[1].with_traceback(exc_info[2])
        self._started = True
        request.status = status.encode("latin-1")
        request.outheaders = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
        self._left = None
        for name, value in headers:
            if name.lower() == "content-length":
                self._left = int(value)
        return self._write

    def _write(self, block: bytes | memoryview) -> None:
        request = self._request
        if not self._started:
            raise RuntimeError("the application wrote before it called start_response")
        if self._left is not None:
            block = block[: self._left]
            self._left -= len(block)
        request.ensure_headers_sent()
        if request.method != b"HEAD" and len(block):
            request.write(block)

    def _environ(self) -> dict[str, Any]:
        request = self._request
        connection = request.conn
        environ: dict[str, Any] = {
            "REQUEST_METHOD": request.method.decode("latin-1"),
            "SCRIPT_NAME": "",
            "PATH_INFO": request.path.decode("latin-1"),
            "QUERY_STRING": request.qs.decode("latin-1"),
            "REQUEST_URI": request.uri.decode("latin-1"),
            "REMOTE_ADDR": connection.remote_addr or "",
            "REMOTE_PORT": str(connection.remote_port or ""),
            "SERVER_NAME": request.server.server_name,
            "SERVER_PORT": str(request.server.bind_addr[1]),
            "SERVER_PROTOCOL": request.request_protocol.decode("latin-1"),
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http" if request.server.ssl_adapter is None else "https",
            "wsgi.input": request.body,
            "wsgi.input_terminated": True,
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": True,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
        }
        for name, value in request.inheaders.items():
            environ[environ_key(name)] = value.decode("latin-1")
        for key in ("CONTENT_TYPE", "CONTENT_LENGTH"):
            if "HTTP_" + key in environ:
                environ[key] = environ.pop("HTTP_" + key)
        if connection.peer:
            environ["davfs.forwarded"] = connection.peer
            environ["davfs.certificate"] = connection.certificate
        return environ
