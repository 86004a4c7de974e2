"""The listener: cheroot with many threads, a bound on working requests, and a stop that lets requests finish.

For the public address and for requests that other nodes forward (then with their certificates). Knows nothing of DAV.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
from collections.abc import Callable, Iterable
from typing import Any

from cheroot.server import HTTPServer

from davfs.dav.connection import MAX_HEAD, DavConnection
from davfs.dav.crowd import MAX_CONNECTIONS, Connections, Pool, most_connections
from davfs.dav.gateway import Gateway
from davfs.dav.limits import WorkLimit
from davfs.dav.wire import make_file

WsgiApplication = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes | memoryview]]
PeerName = Callable[[Any], str | None]

IDLE_LIMIT = 60.0  # seconds: idle connections, and each wait for a client's next bytes
THREADS_AT_START = 32
BACKLOG = 512
STOP_GRACE = 1.0  # seconds that the thread which accepts gets to end

log = logging.getLogger(__name__)

# cheroot's type stubs leave out what its subclasses need.
_HttpServerBase: Any = HTTPServer


class DavServer:
    """Serves ``application`` on (host, port); port 0 takes a free one, then ``port`` tells it.

    ``ssl_context``: a server-side ``ssl.SSLContext``, or None for plain HTTP. ``peer_name``: for listeners that require
    client certificates, gives the name in one (the dictionary of ``ssl.SSLSocket.getpeercert``); the name then stands
    in the environment as ``davfs.forwarded``, the dictionary as ``davfs.certificate``, and a connection without a name is
    closed. ``threads``: how many connections can be in the middle of a request at once, as threads are begun when they
    are needed; ``working``: how many requests work at once; ``connections``: how many may be open.
    """

    def __init__(
        self,
        host: str,
        port: int,
        application: WsgiApplication,
        ssl_context: Any = None,
        *,
        threads: int = 128,
        working: int = 48,
        peer_name: PeerName | None = None,
        name: str = "dav",
        connections: int | None = None,
    ) -> None:
        self._name = name
        self._http = _HttpServer((host, port), application, ssl_context, threads, working, peer_name)
        self._http.most = connections or most_connections()
        self._thread: threading.Thread | None = None

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return int(self._http.bind_addr[1])

    def start(self) -> None:
        """Bind and serve in threads of its own. OSError if the address cannot be had."""
        self._http.prepare()
        self._thread = threading.Thread(target=self._http.serve, name=f"{self._name}-accept", daemon=True)
        self._thread.start()

    def use_tls(self, context: Any) -> None:
        """Another context for the connections to come: its certificate was renewed. Those that stand keep theirs."""
        if self._http.ssl_adapter is not None:
            self._http.ssl_adapter.context = context

    def stop(self, drain_s: float = 10.0) -> None:
        """Take no more connections, let requests in progress finish for up to ``drain_s`` seconds, then cut them."""
        self._http.shutdown_timeout = drain_s
        self._http.stop()
        if self._thread:
            self._thread.join(STOP_GRACE)
            self._thread = None


class _TlsAdapter:
    """cheroot's TLS seam. No handshake here: this runs in the thread that accepts (cheroot #748)."""

    def __init__(self, context: Any) -> None:
        self.context = context
        self.makefile = make_file

    def bind(self, sock: Any) -> Any:
        return sock

    def wrap(self, sock: Any) -> tuple[Any, dict[str, Any]]:
        return self.context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False), {}


class _HttpServer(_HttpServerBase):
    """cheroot's server with this package's connections, gateway and pool."""

    ConnectionClass = DavConnection
    max_request_header_size = MAX_HEAD
    request_queue_size = BACKLOG
    timeout = IDLE_LIMIT
    keep_alive_conn_limit = MAX_CONNECTIONS

    def __init__(
        self,
        address: tuple[str, int],
        application: WsgiApplication,
        ssl_context: Any,
        threads: int,
        working: int,
        peer_name: PeerName | None,
    ) -> None:
        super().__init__(address, gateway=Gateway, server_name="davfs")
        self.application = application
        self.peer_name = peer_name
        self.limit = WorkLimit(working)
        self.ssl_adapter = _TlsAdapter(ssl_context) if ssl_context is not None else None
        self._connections: Any = None
        self.requests = Pool(self, min(threads, THREADS_AT_START), threads)
        self.open: set[DavConnection] = set()
        self.most = MAX_CONNECTIONS

    def prepare(self) -> None:
        """cheroot's, with connections that have limits."""
        super().prepare()
        self._connections._selector.close()
        self._connections = Connections(self, self.most)

    @property
    def crowded(self) -> bool:
        """Whether connections wait for a thread."""
        return bool(self.requests.qsize)

    def process_conn(self, conn: Any) -> None:
        """Give a connection to a thread, but not before it has sent a whole head (or something of a TLS handshake)."""
        if conn.announced and conn.gather():
            super().process_conn(conn)
        else:
            conn.announced = True
            self._connections.watch(conn)

    def put_conn(self, conn: Any) -> None:
        """Wait for a connection's next request; one whose last request ends while the server stops is closed."""
        try:
            super().put_conn(conn)
        except ValueError:  # the selector was closed in this moment
            conn.close()

    def stop(self) -> None:
        """cheroot's stop, without waiting for its selector to look up by itself."""
        if self.ready:
            self._connections._stop_requested = True
            with contextlib.suppress(OSError):  # then it looks up within half a second
                socket.create_connection(self.bind_addr, timeout=1.0).close()
        super().stop()

    def error_log(self, msg: str = "", level: int = logging.INFO, traceback: bool = False) -> None:
        """cheroot's messages into the log."""
        log.log(level, "%s", msg, exc_info=traceback)

