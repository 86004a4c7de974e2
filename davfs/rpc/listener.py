"""Mutual TLS for cheroot listeners: who connects is a node of the cluster or a program, by name, or nobody.

cheroot shakes hands in its accept thread, where one slow client stops everybody (cheroot #748). Here a connection's
handshake is taken one step further whenever bytes of it arrive: no thread ever waits for it, and it has a limit.
Knows no requests.
"""

from __future__ import annotations

import logging
import socket
import ssl
import time
from typing import Any

from cheroot.errors import FatalSSLAlert
from cheroot.makefile import MakeFile
from cheroot.server import HTTPConnection
from cheroot.ssl import Adapter

from davfs.rpc.identity import NodeIdentity, Peer, peer_of

HANDSHAKE_LIMIT = 5.0  # seconds from the first bytes of a connection to the end of its handshake

log = logging.getLogger(__name__)


class NodeTlsAdapter(Adapter):
    """cheroot's TLS seam: wraps accepted sockets without a handshake. Use with a :class:`NodeConnection` class."""

    def __init__(self, identity: NodeIdentity) -> None:
        self._identity = identity

    def bind(self, sock: socket.socket) -> socket.socket:
        """Prepare the listening socket: a restarted node takes its port back at once."""
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # cheroot forgets it for port 0
        return sock

    def wrap(self, sock: socket.socket) -> tuple[ssl.SSLSocket, dict[str, Any]]:
        """The TLS socket, its handshake still to come, and no environment yet."""
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            return self._identity.server.wrap_socket(sock, server_side=True, do_handshake_on_connect=False), {}
        except (OSError, ValueError) as error:  # it is gone already
            raise FatalSSLAlert(str(error)) from error

    def get_environ(self) -> dict[str, Any]:
        """Environment entries that hold for every connection: none."""
        return {}

    def makefile(self, sock: Any, mode: str = "r", bufsize: int = -1) -> Any:
        """cheroot's buffered file on a TLS socket; requests are not read through it."""
        return MakeFile(sock, mode, bufsize)


class NodeConnection(HTTPConnection):
    """A cheroot connection that shakes hands bit by bit. ``peer``: the node's or program's name once that is done, and
    ``certificate`` all that its certificate says."""

    def __init__(self, server: Any, sock: Any, makefile: Any = MakeFile) -> None:
        super().__init__(server, sock, makefile)
        self.peer: str | None = None
        self.certificate: Peer | None = None
        self._handshake_ends = time.monotonic() + HANDSHAKE_LIMIT

    def shake_hands(self) -> tuple[str | None, bool]:
        """(peer's name once the handshake is complete, whether the connection is to be kept)."""
        self.socket.settimeout(0)
        try:
            self.socket.do_handshake()
            self.certificate = peer_of(self.socket.getpeercert())
        except ssl.SSLWantReadError:
            return None, time.monotonic() < self._handshake_ends
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            log.info("refused a connection from %s: %s", getattr(self, "remote_addr", "?"), error)
            return None, False
        self.socket.settimeout(self.server.timeout)
        if self.certificate is None:
            return None, False
        self.peer = self.certificate.name
        return self.peer, True
