"""Connections that no thread serves, and what happens when there are very many of them or they are very slow.

A thread gets a connection only when the head of a request is there, whole: what comes before is gathered by the one thread
that waits for all connections. A head has a limit of time, connections have a limit of number, and when all threads wait for
slow clients while others queue, the slowest are cut. Knows cheroot and nothing of DAV.
"""

from __future__ import annotations

import errno
import logging
import resource
import selectors
import threading
import time
from queue import Empty
from typing import Any

from cheroot.connections import ConnectionManager
from cheroot.workers import threadpool

HEAD_LIMIT = 30.0  # seconds from the first byte of a request's head to its last
MAX_CONNECTIONS = 4096
RESERVED_FILES = 512  # descriptors that are left for everything else
SPARE_IDLE = 1.0  # seconds that a connection is idle at least before it makes room for another
IDLE_THREAD = 30.0  # seconds after which a thread that is not needed ends
SLOW = 1024  # bytes a second; slower clients are cut when others wait for a thread ...
SLOW_AFTER = 10.0  # ... after so many seconds of their request
_NO_MORE = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_FULL = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nRetry-After: 5\r\nConnection: close\r\n\r\n"
_LATE = b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"

log = logging.getLogger(__name__)

# cheroot's type stubs leave out what its subclasses need.
_ManagerBase: Any = ConnectionManager
_PoolBase: Any = threadpool.ThreadPool
_threadpool: Any = threadpool


def most_connections() -> int:
    """How many a listener may have, with the files that this process may open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return min(MAX_CONNECTIONS, max(64, (soft - RESERVED_FILES) // 2))


class Connections(_ManagerBase):
    """cheroot's manager with limits. ``most``: how many connections may be open, with a thread or without."""

    def __init__(self, server: Any, most: int) -> None:
        super().__init__(server)
        self._most = most
        self._told = 0.0

    def watch(self, conn: Any) -> None:
        """Wait for bytes of a connection."""
        conn.last_used = time.time()
        self._selector.register(conn.socket.fileno(), selectors.EVENT_READ, data=conn)

    def _from_server_socket(self, server_socket: Any) -> Any:
        try:
            if len(self.server.open) >= self._most and not self._make_room():
                self._turn_away(server_socket)
                return None
            return super()._from_server_socket(server_socket)
        except OSError as error:
            if error.errno not in _NO_MORE:
                raise
            self._tell(f"no connection can be taken: {error}")
            time.sleep(0.05)  # what waits to be accepted would wake this thread again at once
            return None

    def _make_room(self) -> bool:
        """End the connection that has been idle for the longest time, if one has been for a while."""
        idle = min(
            ((fd, conn) for fd, conn in self._selector.connections if conn is not self.server),
            key=lambda pair: pair[1].last_used, default=None,
        )  # fmt: skip
        if idle is None or time.time() - idle[1].last_used < SPARE_IDLE:
            return False
        self._end(*idle)
        return True

    def _turn_away(self, server_socket: Any) -> None:
        sock, _ = server_socket.accept()
        self._tell(f"there are {self._most} connections: others are turned away")
        with sock:
            if self.server.ssl_adapter is None:
                _send_at_once(sock, _FULL)

    def _tell(self, text: str) -> None:
        if time.monotonic() - self._told > 10:
            self._told = time.monotonic()
            log.warning("%s", text)

    def _end(self, fd: int, conn: Any) -> None:
        self._selector.unregister(fd)
        conn.close()

    def _expire(self, threshold: float) -> None:
        super()._expire(threshold)
        now = time.monotonic()
        late = [(fd, c) for fd, c in self._selector.connections if c is not self.server and c.head_ends < now]
        for fd, conn in late:
            if not hasattr(conn.socket, "pending"):
                _send_at_once(conn.socket, _LATE)
            self._end(fd, conn)
        self.server.requests.relieve(now)


def _send_at_once(sock: Any, data: bytes) -> None:
    """As much as goes into the socket's buffer: nobody waits for this client."""
    try:
        sock.settimeout(0)
        sock.send(data)
    except OSError:
        pass


class Pool(_PoolBase):
    """As many threads as are needed, from ``min`` to ``max``. Daemons: one that will not end must not keep the process."""

    def __init__(self, server: Any, least: int, most: int) -> None:
        super().__init__(server, min=least, max=most)
        self._waiting = 0
        self._lock = threading.Lock()
        self.get = self._take

    def put(self, obj: Any) -> None:
        """Queue a connection, and begin another thread if none is free."""
        super().put(obj)
        with self._lock:
            short = self._queue.qsize() > self._waiting and len(self._threads) < self.max
        if short and self.server.ready:
            worker = self._spawn_worker()
            with self._lock:
                self._threads.append(worker)

    def grow(self, amount: int) -> None:
        """Begin that many threads, without waiting for them."""
        with self._lock:
            self._threads.extend(self._spawn_worker() for _ in range(amount))

    def relieve(self, now: float) -> None:
        """Cut the slowest clients when all threads are taken and connections wait for one."""
        wanted = self._queue.qsize()
        if not wanted or len(self._threads) < self.max:
            return
        slow = []
        for thread in list(self._threads):
            conn = thread.conn
            rate = conn.slowness(now) if conn is not None else None
            if rate is not None:
                slow.append((rate, id(conn), conn))
        for rate, _, conn in sorted(slow)[:wanted]:
            log.info("cut a client that took all its time (%.0f bytes a second): others wait", rate)
            conn.cut()

    def _take(self) -> Any:
        """The next connection for a thread; the end for one that has had nothing to do for long."""
        with self._lock:
            self._waiting += 1
        while True:
            try:
                taken = self._queue.get(timeout=IDLE_THREAD)
            except Empty:
                if self._leave():
                    return _threadpool._SHUTDOWNREQUEST
            else:
                with self._lock:
                    self._waiting -= 1
                return taken

    def _leave(self) -> bool:
        """Whether this idle thread may end. Decided under the lock of ``put``, which must not count on one that goes."""
        with self._lock:
            if len(self._threads) <= self.min or not self._queue.empty():
                return False
            me = threading.current_thread()
            self._threads[:] = [thread for thread in self._threads if thread is not me]
            self._waiting -= 1
            return True

    def _spawn_worker(self) -> Any:
        worker = _threadpool.WorkerThread(self.server)
        worker.daemon = True
        worker.start()
        return worker

    def stop(self, timeout: float | None = 5, grace: float = 1.0) -> None:
        """End all threads; those still busy after ``timeout`` seconds have their sockets shut down, and ``grace`` seconds."""
        ends = time.monotonic() + (timeout or 0)
        with self._lock:
            threads, self._threads[:] = self._threads[:], []
        for _ in threads:
            self._queue.put(_threadpool._SHUTDOWNREQUEST)
        for thread in threads:
            thread.join(max(0.0, ends - time.monotonic()))
        busy = [thread for thread in threads if thread.is_alive()]
        for thread in busy:
            self._force_close(thread.conn)
        ends = time.monotonic() + grace
        for thread in busy:
            thread.join(max(0.0, ends - time.monotonic()))


