"""Serving a volume from any node: here if this node holds it, else through the node that does, streaming.

A request looks for its holder for a bounded time and is sent again only while that is harmless: nothing of its body
is gone, and it carries a request id, so that a change that did happen is not made twice. A request that came from
another node is never forwarded on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

from davfs.cluster.api import Drive, Forward, Volume
from davfs.core.errors import DavfsError, NoSpace, NotHolder, OutcomeUnknown, StaleEpoch, Unavailable, Unreachable
from davfs.dav.body import KEEP, RequestBody
from davfs.dav.errors import NOT_HOLDER
from davfs.dav.limits import WORKING, Working
from davfs.dav.proxies import HOSTS
from davfs.dav.request import DavSettings, Headers, Request, Response
from davfs.dav.visiting import serve_in_session

Serve = Callable[[Request, Volume], Response]

_PREFIX = "X-Davfs-"
CUT_OFF = "Davfs-Cut-Off"
_OWN_FIELDS = frozenset({"date", "server", "connection", "keep-alive", "transfer-encoding", NOT_HOLDER.lower()})
WANTING = (OutcomeUnknown.status, NoSpace.status)
"""Refusals that may come before it is looked whether an earlier attempt at the same request has taken effect."""
WRITING = frozenset({"PUT", "PATCH", "POST", "COPY", "MOVE"})
"""Methods that may give a file its content (MOVE: an upload in parts). An attempt that did not take effect may yet become a
conflict copy, so no refusal of a later one is the whole truth."""
_PAUSE_S = 0.05  # between two looks for a holder that changes


class ForwardedAnswer(Protocol):
    """Another node's answer: iterate its body, then close it."""

    @property
    def status(self) -> int: ...

    @property
    def headers(self) -> list[tuple[str, str]]: ...

    def __iter__(self) -> Iterator[bytes]: ...

    def close(self) -> None: ...


class ForwardPort(Protocol):
    """Sends a DAV request to another node (``davfs.rpc.forward.Forwarder``)."""

    def open(
        self,
        node: str,
        method: str,
        target: str,
        headers: list[tuple[str, str]],
        body: Callable[[int], bytes] | None = None,
        length: int | None = None,
        over: Callable[[], bool] = ...,
    ) -> ForwardedAnswer: ...


class Forwarding:
    """Finds the node that serves a request's volume and has it served there. Thread-safe."""

    def __init__(
        self,
        drive: Drive,
        forwarder: ForwardPort | None,
        settings: DavSettings,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._drive = drive
        self._forwarder = forwarder
        self._limit = settings.takeover_limit_s
        self._clock = clock
        self._sleep = sleep

    def serve(self, request: Request, serve: Serve) -> Response:
        """The answer, from here or from the holder."""
        volume_name = request.target.volume or ""
        working: Working | None = request.environ.get(WORKING)
        waiting: Callable[[], AbstractContextManager[None]] = working.waiting if working is not None else nullcontext
        if request.forwarded:
            with waiting():
                where = self._drive.route(volume_name, forwarded=True)
            if isinstance(where, Forward):
                raise NotHolder(f"{self._drive.node} does not hold the volume {volume_name!r}", holder=where.node)
            return _telling(where, serve_in_session(request, where, self._drive.node, serve))
        ends = self._clock() + self._limit
        avoid: Forward | None = None
        unsure = False  # whether an attempt may have taken effect
        while True:
            try:
                with waiting():
                    where = self._drive.route(volume_name, forwarded=False, avoid=avoid)
            except DavfsError as error:
                _keep_unknown(request, error, unsure)
                raise
            avoid = where if isinstance(where, Forward) else None
            try:
                if isinstance(where, Forward):
                    with waiting():
                        return self._forward(request, where, unsure)
                return _telling(where, serve_in_session(request, where, self._drive.node, serve))
            except (NotHolder, StaleEpoch, Unreachable, OutcomeUnknown) as error:
                unsure = unsure or isinstance(error, OutcomeUnknown)
                if not _may_repeat(request, error, here=avoid is None) or self._clock() >= ends:
                    _keep_unknown(request, error, unsure)
                    raise
            except DavfsError as error:
                _keep_unknown(request, error, unsure)
                raise
            with waiting():
                self._sleep(_PAUSE_S)

    def _forward(self, request: Request, where: Forward, unsure: bool) -> Response:
        if self._forwarder is None:
            raise Unavailable(f"the volume is served by {where.node}, and this node cannot forward to it")
        body = request.body
        _gather(body)
        length = body.length
        answer = self._forwarder.open(
            where.node,
            request.method,
            str(request.environ["REQUEST_URI"]),
            forward_headers(request),
            None if length == 0 else body.read,
            length,
            where.over,
        )
        if answer.status == 503 and any(name.lower() == NOT_HOLDER.lower() for name, _ in answer.headers):
            answer.close()
            raise NotHolder(f"{where.node} does not hold the volume any more", holder=None)
        if unsure and _says_too_much(request, answer.status):
            answer.close()
            raise Unavailable(f"{where.node} refused what an earlier attempt may have done")
        headers = [(name, value) for name, value in answer.headers if name.lower() not in _OWN_FIELDS]
        return Response(answer.status, headers, RelayedBody(answer))


def _says_too_much(request: Request, status: int) -> bool:
    """Whether an answer to a later attempt would be taken for the outcome of all of them, and is not."""
    return status in WANTING or (status >= 400 and request.method in WRITING)


def _keep_unknown(request: Request, error: DavfsError, unsure: bool) -> None:
    """Once an attempt may have taken effect, a later refusal may not be the whole truth (design, section 3: record sent,
    quorum unknown): :class:`OutcomeUnknown` then."""
    if unsure and _says_too_much(request, error.status) and not isinstance(error, OutcomeUnknown):
        raise OutcomeUnknown from error


def _telling(volume: Volume, response: Response) -> Response:
    """The answer, with a header if it comes from a node that is cut off (policy ``available``)."""
    if volume.alone:
        response.headers.append((CUT_OFF, "changes are merged with those of the others later"))
    return response


class RelayedBody:
    """The body of another node's answer, with WSGI's ``close``.

    Its first block is read at once: a node that dies before it has not answered, and there is somebody else to ask.
    :class:`OutcomeUnknown` then.
    """

    def __init__(self, answer: ForwardedAnswer) -> None:
        self._answer = answer
        self._rest = iter(answer)
        try:
            self._first = next(self._rest, b"")
        except Unavailable as error:
            answer.close()
            raise OutcomeUnknown(error.message) from error

    def __iter__(self) -> Iterator[bytes]:
        first, self._first = self._first, b""
        yield first
        del first  # it is large
        yield from self._rest

    def close(self) -> None:
        """Let go of the connection to the other node."""
        self._answer.close()


def forward_headers(request: Request) -> Headers:
    """The fields for the other node: the client's own without credentials, and what this node knows about it."""
    headers: Headers = []
    for key, value in request.environ.items():
        if key.startswith("HTTP_") and not key.startswith("HTTP_X_DAVFS") and key != "HTTP_AUTHORIZATION":
            headers.append((key[5:].replace("_", "-").title(), value))
    content_type = request.environ.get("CONTENT_TYPE")
    if content_type:
        headers.append(("Content-Type", content_type))
    headers.append((_PREFIX + "User", request.principal.encode().decode("latin-1")))
    headers.append((_PREFIX + "Configured", "1" if request.configured else "0"))
    headers.append((_PREFIX + "Host", str(request.environ.get(HOSTS) or request.environ.get("HTTP_HOST", ""))))
    headers.append((_PREFIX + "Prefix", request.prefix))
    headers.append((_PREFIX + "Client", str(request.environ.get("REMOTE_ADDR", ""))))
    headers.append((_PREFIX + "Scheme", str(request.environ.get("wsgi.url_scheme", "http"))))
    headers.append((_PREFIX + "Request-Id", request.request_id))
    return headers


def _gather(body: RequestBody) -> None:
    """Read a small body whole, so that the other node gets it without a pause and a third could get it again."""
    if body.length and body.length <= KEEP and body.untouched:
        while body.read(KEEP):
            pass
        body.rewind()


def _may_repeat(request: Request, error: DavfsError, *, here: bool) -> bool:
    if isinstance(error, OutcomeUnknown) and here:
        return False  # this node has tried what could be tried
    return request.body.rewind()
