"""The way into WsgiDAV: listings for people (GET of collections), PROPPATCH, and the style sheets of the listings.

Conditions, bodies and locks are dealt with in front of it or by the provider: WsgiDAV sees neither If headers nor chunks.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

from wsgidav.dav_error import DAVError
from wsgidav.dir_browser import WsgiDavDirBrowser
from wsgidav.request_resolver import RequestResolver
from wsgidav.wsgidav_app import WsgiDAVApp

from davfs.cluster.api import Volume
from davfs.core.errors import DavfsError, NotFound
from davfs.dav import conditions, raw_xml, xml
from davfs.dav.access import Access
from davfs.dav.errors import Refused
from davfs.dav.proppatch import normalize
from davfs.dav.provider import REQUEST, TEXTS, VOLUME, DriveProvider
from davfs.dav.request import Request, Response

ASSETS = ":dir_browser"  # first name of the addresses of WsgiDAV's own files; no volume can be called so
logging.getLogger("wsgidav").setLevel(logging.ERROR)  # it warns of things that are as they should be here

_HIDDEN = ("HTTP_IF", "HTTP_DEPTH", "HTTP_RANGE", "HTTP_TRANSFER_ENCODING", "HTTP_EXPECT", "HTTP_DESTINATION")


class WsgiDav:
    """WsgiDAV's application over a drive."""

    def __init__(self, access: Access) -> None:
        self._app = WsgiDAVApp(
            {
                "provider_mapping": {"/": DriveProvider(access)},
                "lock_storage": None,
                "property_manager": None,
                "middleware_stack": [WsgiDavDirBrowser, RequestResolver],
                "logging": {"enable": False},
                "verbose": 0,
                "suppress_version_info": True,
                "dir_browser": {"response_trailer": "", "show_user": False, "ignore": []},
            }
        )

    def browse(self, request: Request, volume: Volume | None = None) -> Response:
        """A page that lists a collection, or a file that such pages use."""
        response = self._call(request, volume, b"")
        return _below(request.base, response) if request.base else response

    def proppatch(self, request: Request, volume: Volume) -> Response:
        """PROPPATCH, as one change of the volume."""
        sent = request.xml_body(xml.MAX_BODY)
        body = normalize(sent)
        path = request.target.path
        if volume.lookup(path) is None:
            conditions.of(request, volume, path)(None)
            raise NotFound(f"there is nothing at {request.href}")
        return self._call(request, volume, body, raw_xml.properties(sent))

    def _call(
        self, request: Request, volume: Volume | None, body: bytes, texts: Mapping[str, str] = MappingProxyType({})
    ) -> Response:
        begun: list[tuple[str, list[tuple[str, str]]]] = []

        def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> None:
            begun.append((status, headers))

        blocks = iter(self._app(_environ(request, volume, body) | {TEXTS: texts}, start_response))
        try:
            first = next(blocks, b"")
        except DAVError as error:
            if isinstance(error.src_exception, DavfsError):
                raise error.src_exception from error
            raise Refused(int(error.value), str(error.context_info or error.get_user_info())) from error
        status, headers = begun[-1]
        kept = [(name, value) for name, value in headers if name.lower() not in ("date", "connection", "server")]
        return Response(int(status[:3]), kept, _chain(first, blocks))


def _environ(request: Request, volume: Volume | None, body: bytes) -> dict[str, Any]:
    environ = dict(request.environ)
    for name in [n for n in environ if n in _HIDDEN or n.startswith(("HTTP_IF_", "HTTP_X_DAVFS"))]:
        del environ[name]
    target = request.target
    names = target.path if target.volume is None else (target.volume, *target.path)
    path = "/" + "/".join(names) + ("/" if target.slash and names else "")
    environ.update(
        {
            "PATH_INFO": path.encode().decode("latin-1"),
            "SCRIPT_NAME": "",
            "CONTENT_LENGTH": str(len(body)),
            "wsgi.input": io.BytesIO(body),
            "wsgidav.auth.user_name": request.principal,
            REQUEST: request,
            VOLUME: volume,
        }
    )
    return environ


def _below(prefix: str, response: Response) -> Response:
    """The same answer for a client that sees the drive below a prefix: WsgiDAV knows one for all clients at most."""
    fields = dict(response.headers)
    if fields.get("Location", "").startswith("/"):
        fields["Location"] = prefix + fields["Location"]
    if fields.get("Content-Type", "").startswith("text/html"):  # small: it was made in memory
        text = b"".join(bytes(block) for block in response.body)
        # No name can look like this: it would hold a slash.
        text = text.replace(f'="/{ASSETS}/'.encode(), f'="{prefix}/{ASSETS}/'.encode())
        fields["Content-Length"] = str(len(text))
        response.body = [text]
    response.headers = list(fields.items())
    return response


def _chain(first: bytes, rest: Iterable[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest
