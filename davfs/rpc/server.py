"""The node-to-node server: calls (``POST /rpc/v1/<method>``), frames (``POST /frames/v1``) and the HTTP API (``/v1/``).

cheroot accepts, watches idle connections and keeps the threads; requests are read here, strictly and within bounds,
because both ends are davfs. Its threads are its own: it never waits for a DAV request. Knows no method's meaning, but
that programs reach only the methods that are named for them, and no frames.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import time
from collections.abc import Callable, Collection, Mapping
from http import HTTPStatus
from typing import Any, TypeAlias

from cheroot.server import HTTPServer

from davfs.core.errors import DavfsError, Forbidden, InvalidInput
from davfs.core.grants import is_joiner, is_program
from davfs.rpc import codec, http1
from davfs.rpc.api import API_PATH, Api, ApiAnswer, ApiRequest
from davfs.rpc.frame_stream import FRAMES_PATH, read_frames
from davfs.rpc.identity import NodeIdentity, Peer
from davfs.rpc.listener import NodeConnection, NodeTlsAdapter

RPC_PATH = "/rpc/v1/"
MAX_BODY = 16 * 1024 * 1024  # bytes of a request's body unless the server is told otherwise
REQUEST_LIMIT = 30.0  # seconds for a request to arrive whole, and for its answer to be taken
IDLE_LIMIT = 60  # seconds that an idle connection is kept; longer than any client keeps one
LINGER = 0.05  # seconds that a thread waits for the next request of a busy connection before it looks elsewhere
DRAIN_LIMIT = 1024 * 1024  # bytes read and dropped of a refused body, so that the answer is not lost to a reset

Handler: TypeAlias = Callable[[str, dict[str, Any], bytes], tuple[Any, bytes | memoryview]]
FrameReceiver: TypeAlias = Callable[[str, bytes], None]

_OK = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"
_ERROR = b"HTTP/1.1 %d Error\r\nContent-Length: %d\r\n%s\r\n"

log = logging.getLogger(__name__)


class Refused(Exception):
    """A request that is answered with an error and a closed connection: what follows it cannot be trusted."""

    def __init__(self, status: int, error: DavfsError) -> None:
        super().__init__(error.message)
        self.status = status
        self.error = error


class RpcServer:
    """Serves calls and frames of other nodes.

    ``handlers``: method -> (peer's name, arguments, blob) -> (value, blob); called from several threads at once. A
    :class:`DavfsError` travels to the caller as it is, anything else is logged and arrives as code ``internal``.
    ``receive_frame``: (peer's name, frame), one thread per peer. Port 0 takes a free one: see :attr:`port`.
    ``api`` answers ``/v1/``; ``for_programs``, ``for_joiners``: the methods that a program's, or a join token's,
    certificate may call. ``admit`` raises :class:`Forbidden` for a peer whose certificate is good and who may not come in;
    it is asked for each request and each frame.
    """

    def __init__(
        self,
        host: str,
        port: int,
        tls: NodeIdentity,
        handlers: Mapping[str, Handler],
        receive_frame: FrameReceiver | None = None,
        max_threads: int = 32,
        max_body: int = MAX_BODY,
        api: Api | None = None,
        for_programs: Collection[str] = (),
        for_joiners: Collection[str] = (),
        admit: Callable[[Peer], None] = lambda peer: None,
    ) -> None:
        self.handlers = handlers
        self.api = api
        self.for_programs = frozenset(for_programs)
        self.for_joiners = frozenset(for_joiners)
        self.admit = admit
        self.receive_frame = receive_frame
        self.max_body = max_body
        self._host = host
        self._server = _Server(self, (host, port), NodeTlsAdapter(tls), max_threads)
        self._thread: threading.Thread | None = None

    @property
    def port(self) -> int:
        """The TCP port that it listens on, once started."""
        return int(self._server.bind_addr[1])

    def start(self) -> None:
        """Listen and serve in threads of its own. ``OSError`` when the address is taken."""
        self._server.prepare()
        self._thread = threading.Thread(target=self._server.serve, name="rpc-accept", daemon=True)
        self._thread.start()

    def stop(self, limit: float = 5.0) -> None:
        """Stop listening, end idle connections at once, let running handlers answer for up to ``limit`` seconds."""
        if self._thread is None:
            return
        self._server.hang_up(limit)
        # cheroot's accept loop looks at its stop flag when something happens, or every expiration_interval.
        waker = threading.Timer(0.01, self._knock)
        waker.start()
        self._server.stop()
        waker.join(limit)
        self._thread.join(limit)
        self._thread = None

    def _knock(self) -> None:
        host, port = self._server.bind_addr[:2]
        with contextlib.suppress(OSError):
            socket.create_connection((host, port), timeout=1.0).close()


class _Server(HTTPServer):
    """cheroot's server with the book-keeping that lingering and stopping need."""

    nodelay = True
    request_queue_size = 128
    expiration_interval = 2.0  # seconds between looks for idle connections to close

    def __init__(self, rpc: RpcServer, address: tuple[str, int], adapter: NodeTlsAdapter, max_threads: int) -> None:
        super().__init__(address, gateway=None, minthreads=max_threads, maxthreads=max_threads)
        self.rpc = rpc
        self.max_threads = max_threads
        self.ssl_adapter = adapter
        self.ConnectionClass = _Connection
        self.timeout = IDLE_LIMIT
        self.shutdown_timeout = 1
        self.stopping = False
        self._lock = threading.Lock()
        self._busy = 0
        self._open: set[_Connection] = set()
        self._frame_readers: dict[str, _Connection] = {}

    def error_log(self, msg: str = "", level: int = logging.INFO, traceback: bool = False) -> None:
        """cheroot's own remarks go where ours go."""
        log.log(level, "%s", msg, exc_info=traceback)

    def enter(self, conn: _Connection) -> None:
        """A thread begins to serve this connection."""
        with self._lock:
            self._busy += 1
            self._open.add(conn)

    def leave(self) -> None:
        """A thread is done with a connection for now."""
        with self._lock:
            self._busy -= 1

    def may_linger(self) -> bool:
        """Whether threads are left for others if this one waits on its connection."""
        return not self.stopping and self._busy <= self.max_threads // 2

    def forget(self, conn: _Connection) -> None:
        """The connection is closed."""
        with self._lock:
            self._open.discard(conn)
            for peer, reader in list(self._frame_readers.items()):
                if reader is conn:
                    del self._frame_readers[peer]

    def take_frames(self, peer: str, conn: _Connection) -> None:
        """``conn`` is the peer's stream of frames from now on; an older one is over (the peer would know no better)."""
        with self._lock:
            old, self._frame_readers[peer] = self._frame_readers.get(peer), conn
        if old is not None:
            old.cut()

    def hang_up(self, limit: float) -> None:
        """End connections: those without a handler at work now, the others when they have answered or time is up."""
        self.stopping = True
        ends = time.monotonic() + limit
        while True:
            over = time.monotonic() >= ends
            with self._lock:
                connections = list(self._open)
            for conn in connections:
                if over or not conn.in_handler:
                    conn.cut()
            if over or not any(conn.in_handler for conn in connections):
                return
            time.sleep(0.01)


class _Connection(NodeConnection):
    """One connection of a peer: strict HTTP/1.1, calls one after the other, or one endless stream of frames."""

    rbufsize = 1  # its files are cheroot's; requests are read through a Stream
    wbufsize = 1
    server: _Server

    def __init__(self, server: _Server, sock: Any, makefile: Any) -> None:
        super().__init__(server, sock, makefile)
        self.stream = http1.Stream(sock, patience=REQUEST_LIMIT)
        self.in_handler = False
        self._handed_over = False
        self._frames_thread: threading.Thread | None = None

    def communicate(self) -> bool:
        """Serve what is there. True: keep the connection, and call again when bytes arrive."""
        self.server.enter(self)
        try:
            peer = self.peer
            if peer is None:
                peer, keep = self.shake_hands()
                if peer is None:
                    return keep
                if not self.stream.readable(LINGER if self.server.may_linger() else 0.0):
                    return True
            return self._serve(peer)
        finally:
            self.server.leave()

    def _serve(self, peer: str) -> bool:
        while not self.server.stopping:
            try:
                if not self._one_request(peer):
                    return False
            except Refused as refusal:
                self._refuse(refusal)
                return False
            except http1.ConnectionEnded as error:
                if not error.clean:
                    log.info("%s: %s", peer, error)
                return False
            except http1.ProtocolError as error:
                self._refuse(Refused(400, InvalidInput(str(error))))
                return False
            except (OSError, ValueError) as error:  # TLS errors and time-outs are OSError; ValueError: closed under us
                log.info("lost the connection of %s: %s", peer, error)
                return False
            if self._handed_over:
                return False  # another thread reads on; close() leaves the socket to it
            if not self.stream.readable(LINGER if self.server.may_linger() else 0.0):
                return not self.server.stopping
        return False

    def _one_request(self, peer: str) -> bool:
        """Read one request and answer it; whether another may follow."""
        self.stream.deadline = time.monotonic() + REQUEST_LIMIT
        method, target, fields = http1.parse_request_head(self.stream.read_head())
        try:
            self._admit()
        except Forbidden as error:
            raise Refused(error.status, error) from error
        if is_joiner(peer) and not target.startswith(RPC_PATH):
            raise Refused(403, Forbidden("a join token is good for joining only"))
        if target.startswith(API_PATH) and self.server.rpc.api is not None:
            self._answer_api(self.server.rpc.api, peer, method, target, fields)
            return fields.get("connection", "").lower() != "close"
        if method != "POST":
            raise Refused(405, InvalidInput(f"{method} is not served here, only POST"))
        if target == FRAMES_PATH:
            self._start_frames(peer, fields)
            return True
        if not target.startswith(RPC_PATH):
            raise Refused(404, InvalidInput(f"{target} is not served here"))
        args, blob = self._read_call(fields)
        self._answer(peer, target[len(RPC_PATH) :], args, blob)
        return fields.get("connection", "").lower() != "close"

    def _admit(self) -> None:
        """Each time: who is removed, or whose certificate is revoked, may have a connection open."""
        if self.certificate is not None:
            self.server.rpc.admit(self.certificate)

    def _read_call(self, fields: dict[str, str]) -> tuple[dict[str, Any], bytes]:
        size = http1.content_length(fields.get("content-length"))
        if size is None or "transfer-encoding" in fields:
            raise Refused(411, InvalidInput("a call needs a Content-Length"))
        if size > self.server.rpc.max_body:
            raise Refused(413, InvalidInput(f"a body of {size} bytes: at most {self.server.rpc.max_body} are taken"))
        if size < codec.PREFIX:
            raise Refused(400, InvalidInput("the body is too short"))
        try:
            header = codec.header_size(self.stream.read_exact(codec.PREFIX), size)
            args = codec.unpack_header(self.stream.read_exact(header))
        except codec.MalformedBody as error:
            raise Refused(400, InvalidInput(str(error))) from error
        if not isinstance(args, dict) or not all(isinstance(key, str) for key in args):
            raise Refused(400, InvalidInput("the arguments are no map of names"))
        return args, self.stream.read_exact(size - codec.PREFIX - header)

    def _answer(self, peer: str, method: str, args: dict[str, Any], blob: bytes) -> None:
        answer: bytes | memoryview = b""
        self.in_handler = True
        try:
            handler = self.server.rpc.handlers.get(method)
            if is_program(peer) and method not in self.server.rpc.for_programs:
                raise Forbidden(f"{method[:100]!r} is not for programs")
            if is_joiner(peer) and method not in self.server.rpc.for_joiners:
                raise Forbidden("a join token is good for joining only")
            if handler is None:
                raise InvalidInput(f"this node knows no method {method[:100]!r}: do all nodes run the same version?")
            value, answer = handler(peer, args, blob)
            head = codec.pack_header(value)
            head = _OK % (len(head) + len(answer)) + head
        except DavfsError as error:
            head, answer = _error_reply(error.status, error), b""
        except Exception:  # a handler's bug must not end the thread
            log.exception("the handler of %s failed (called by %s)", method, peer)
            head, answer = _error_reply(500, DavfsError(f"{method} failed inside; see the node's log")), b""
        try:
            self.stream.deadline = time.monotonic() + REQUEST_LIMIT
            self.stream.send(head, answer)
        finally:
            self.in_handler = False

    def _answer_api(self, api: Api, peer: str, method: str, target: str, fields: dict[str, str]) -> None:
        size = http1.content_length(fields.get("content-length"))
        if "transfer-encoding" in fields or (size is None and method in ("POST", "PUT")):
            raise Refused(411, InvalidInput("a request with a body needs a Content-Length"))
        if (size or 0) > self.server.rpc.max_body:
            raise Refused(413, InvalidInput(f"a body of {size} bytes: at most {self.server.rpc.max_body} are taken"))
        if fields.get("expect", "").lower() == "100-continue":
            self.stream.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = self.stream.read_exact(size) if size else b""
        self.in_handler = True
        try:
            try:
                answer = api(ApiRequest(peer, method, target, fields, body))
            except Exception:  # a bug must not end the thread
                log.exception("%s %s failed (called by %s)", method, target, peer)
                answer = ApiAnswer(500, b'{"error":"internal","message":"it failed inside; see the node\'s log"}')
            self.stream.deadline = time.monotonic() + REQUEST_LIMIT
            self.stream.send(_api_head(answer), answer.body if method != "HEAD" else b"")
        finally:
            self.in_handler = False

    def _refuse(self, refusal: Refused) -> None:
        """Say why, then end the connection; a bounded part of what was sent is read so that no reset eats the answer."""
        try:
            self.stream.deadline = time.monotonic() + 2.0
            self.stream.send(_error_reply(refusal.status, refusal.error, close=True))
            socket.socket.shutdown(self.socket, socket.SHUT_WR)  # a peer that waits for the end has it
            sink = memoryview(bytearray(64 * 1024))
            left = DRAIN_LIMIT
            while left > 0 and self.stream.readable(0.2):
                count = self.stream.read_into(sink)
                if not count:
                    return
                left -= count
        except (OSError, ValueError):
            pass

    # --- frames -----------------------------------------------------------------------------------------------------

    def _start_frames(self, peer: str, fields: dict[str, str]) -> None:
        receive = self.server.rpc.receive_frame
        if is_program(peer):
            raise Refused(403, Forbidden("frames are not for programs"))
        if receive is None:
            raise Refused(404, InvalidInput("this node takes no frames"))
        if fields.get("transfer-encoding", "").lower() != "chunked" or "content-length" in fields:
            raise Refused(400, InvalidInput("frames come as a chunked body"))
        # A stream lasts as long as its peer: it gets a thread of its own, not one of those that answer calls.
        self._frames_thread = threading.Thread(
            target=self._read_frames, args=(peer, receive), name=f"frames-from-{peer}", daemon=True
        )
        self._handed_over = True
        self.server.take_frames(peer, self)
        self._frames_thread.start()

    def _read_frames(self, peer: str, receive: FrameReceiver) -> None:
        def admitted(frame: bytes) -> None:
            self._admit()
            receive(peer, frame)

        try:
            self.stream.deadline = None
            read_frames(self.stream, admitted)
        except Forbidden as error:
            log.info("no more frames of %s are taken: %s", peer, error)
        except (http1.ProtocolError, OSError, ValueError) as error:
            log.info("the frames of %s ended: %s", peer, error)
        except Exception:  # the receiver's bug ends this stream, not the process
            log.exception("a frame of %s could not be received", peer)
        finally:
            self.close()

    def cut(self) -> None:
        """End the connection from another thread; whoever reads or writes it then finds out."""
        self.stream.cut()

    def close(self) -> None:
        """Close, unless another thread reads frames from it: that one does."""
        if not self._handed_over or self._frames_thread is threading.current_thread():
            self.server.forget(self)
            super().close()


def _api_head(answer: ApiAnswer) -> bytes:
    lines = [f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}"]
    fields = {"Content-Type": answer.content_type, "Content-Length": str(len(answer.body)), **answer.fields}
    lines += [f"{name}: {value}" for name, value in fields.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def _error_reply(status: int, error: DavfsError, *, close: bool = False) -> bytes:
    body = codec.pack_error(error)
    return _ERROR % (status, len(body), b"Connection: close\r\n" if close else b"") + body
