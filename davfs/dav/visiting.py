"""A request as part of its client's session: begun at the volume before it is served, ended with the last byte of its answer.

While a request is under way its session cannot end, however slow its client is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from davfs.cluster.api import Visit, Volume
from davfs.dav.request import Request, Response


def serve_in_session(
    request: Request, volume: Volume, node: str, serve: Callable[[Request, Volume], Response]
) -> Response:
    """The answer of ``serve``. ``node``: this node's name. VolumeHeld while another session has the volume to itself."""
    visit = volume.enter(request.session, request.forwarded or node)
    try:
        response = serve(request, volume)
    except BaseException:
        visit.end()
        raise
    if isinstance(response.body, list | tuple):
        visit.end()
    else:
        response.body = VisitingBody(response.body, visit)
    return response


class VisitingBody:
    """The body of an answer whose request is under way until it is sent."""

    def __init__(self, body: Iterable[bytes | memoryview], visit: Visit) -> None:
        self._body = body
        self._visit = visit

    def __iter__(self) -> Iterator[bytes | memoryview]:
        return iter(self._body)

    def close(self) -> None:
        """The answer is sent, or its client is gone."""
        try:
            if hasattr(self._body, "close"):
                self._body.close()
        finally:
            self._visit.end()
