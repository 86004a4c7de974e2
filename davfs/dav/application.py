"""The WSGI application in front: who asks, for what, and which handler answers. Never raises; never shows a traceback.

WsgiDAV stands behind it (browse.py) and not before: it refuses unknown methods and closes streamed answers' connections
before a provider is asked.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from functools import partial
from typing import Any

from davfs.cluster.api import Drive, Volume
from davfs.cluster.trash_view import in_trash
from davfs.core.accounts import ADMIN, Accounts
from davfs.core.errors import DavfsError, Forbidden, InvalidInput, VolumeNotFound
from davfs.dav import copy_move, errors, get, lock, tus, uploads
from davfs.dav.access import Access
from davfs.dav.authenticator import Authenticator, Unauthorized
from davfs.dav.body import RequestBody
from davfs.dav.browse import ASSETS, WsgiDav
from davfs.dav.delete import delete
from davfs.dav.errors import NotModified, Refused
from davfs.dav.forwarding import Forwarding, ForwardPort
from davfs.dav.limits import WORKING, Working
from davfs.dav.mkcol import mkcol
from davfs.dav.options import options
from davfs.dav.partial import patch
from davfs.dav.propfind import propfind
from davfs.dav.proxies import Proxies
from davfs.dav.put import put
from davfs.dav.report import report
from davfs.dav.request import DavSettings, Request, Response
from davfs.dav.root import RootHandler
from davfs.dav.target import ROOT_TARGET, Target, parse_target

IN_TRASH = frozenset({"GET", "HEAD", "PROPFIND", "COPY", "MOVE"})
Handler = Callable[[Request, Volume], Response]
_LATIN = "latin-1"

log = logging.getLogger(__name__)


class DavApplication:
    """The drive over WebDAV. ``forwarder`` None: this node serves only what it holds."""

    def __init__(
        self,
        drive: Drive,
        settings: DavSettings,
        forwarder: ForwardPort | None = None,
        authenticator: Authenticator | None = None,
        accounts: Callable[[], Accounts] = dict,
    ) -> None:
        self._settings = settings
        self._proxies = Proxies(settings.trusted_proxies, settings.proxy_headers, settings.prefix)
        self._authenticator = authenticator or Authenticator()
        self._forwarding = Forwarding(drive, forwarder, settings)
        self._access = Access(drive, accounts)
        self._root = RootHandler(self._access, time.time_ns())
        self._wsgidav = WsgiDav(self._access)
        self._handlers: dict[str, Handler] = {
            "GET": partial(get.get, browse=self._wsgidav.browse),
            "HEAD": get.head,
            "PUT": put,
            "PATCH": patch,
            "DELETE": delete,
            "POST": tus.create,
            "MKCOL": mkcol,
            "COPY": copy_move.copy,
            "MOVE": copy_move.move,
            "PROPFIND": propfind,
            "REPORT": report,
            "PROPPATCH": self._wsgidav.proppatch,
            "LOCK": lock.lock,
            "UNLOCK": lock.unlock,
        }

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes | memoryview]:
        """WSGI (PEP 3333)."""
        response = self._answer(environ)
        if "HTTP_TUS_RESUMABLE" in environ and not any(name == "Tus-Resumable" for name, _ in response.headers):
            response.headers.append(("Tus-Resumable", tus.VERSION))
        log.debug("%s %s: %d", environ["REQUEST_METHOD"], environ.get("REQUEST_URI"), response.status)
        start_response(response.status_line, response.headers)
        return response.body

    def _answer(self, environ: dict[str, Any]) -> Response:
        request = self._request(environ)
        try:
            self._identify(request)
            return self._dispatch(request)
        except NotModified as known:
            return Response(304, known.headers)
        except Unauthorized as error:
            response = errors.respond(error, request)
            response.headers.append(("WWW-Authenticate", f'Basic realm="{self._settings.realm}", charset="UTF-8"'))
            return response
        except DavfsError as error:
            return errors.respond(error, request)
        except Exception:  # noqa: BLE001 - the last stop before the client: logged with its traceback
            return errors.internal(f"{request.method} {environ.get('REQUEST_URI', '')}")

    def _request(self, environ: dict[str, Any]) -> Request:
        length: int | None = None
        if not environ.get("HTTP_TRANSFER_ENCODING"):
            text = environ.get("CONTENT_LENGTH") or "0"
            length = int(text) if text.isdecimal() else 0
        return Request(
            method=environ["REQUEST_METHOD"],
            target=ROOT_TARGET,
            environ=environ,
            body=RequestBody(environ["wsgi.input"], length),
            principal="",
            request_id="",
            settings=self._settings,
            forwarded=environ.get("davfs.forwarded", ""),
        )

    def _identify(self, request: Request) -> None:
        """Set target, principal and request id: from the other node if it forwards, else from the client."""
        if request.forwarded:
            request.principal = (request.header("X-Davfs-User") or "").encode(_LATIN).decode()
            request.configured = request.header("X-Davfs-Configured") == "1"
            request.request_id = request.header("X-Davfs-Request-Id") or ""
            request.prefix = request.header("X-Davfs-Prefix") or ""
        else:
            request.environ, request.prefix = self._proxies.seen(request.environ)
            working: Working | None = request.environ.get(WORKING)
            request.principal, request.configured = self._authenticator.identify(
                request.header("Authorization"),
                str(request.environ.get("REMOTE_ADDR", "")),
                working.waiting if working is not None else nullcontext,
            )
        request.recheck = partial(self._access.check, request)
        request.request_id = request.request_id or secrets.token_hex(16)
        request.target = parse_target(_request_uri(request))

    def _dispatch(self, request: Request) -> Response:
        target = request.target
        if request.method == "OPTIONS":
            return options(request)
        if target.volume is None or target.volume == ASSETS:
            return self._outside(request, target)
        handler = uploads.serve if uploads.is_upload(target.path) else self._handlers.get(request.method)
        if in_trash(target.path) and request.method not in IN_TRASH:
            raise Forbidden("the trash is not written to; COPY, MOVE and `davfs trash restore` take things out of it")
        if handler is None:
            raise Refused(405, f"{request.method} is not understood here")
        try:
            request.admin = self._access.check(request) == ADMIN
            return self._forwarding.serve(request, handler)
        except VolumeNotFound as error:
            if request.method == "MKCOL" and not target.path:
                raise Forbidden("volumes are made with 'davfs volume create', not over WebDAV") from error
            raise

    def _outside(self, request: Request, target: Target) -> Response:
        if request.method not in self._handlers:
            raise Refused(405, f"{request.method} is not understood here")
        if request.method == "GET" or (target.volume == ASSETS and request.method == "HEAD"):
            return self._wsgidav.browse(request)
        if target.volume == ASSETS:
            raise VolumeNotFound(f"there is no volume {ASSETS!r}")
        return self._root.handle(request)


def _request_uri(request: Request) -> str:
    uri = request.environ.get("REQUEST_URI")
    if not isinstance(uri, str):
        raise InvalidInput("the server did not say what was asked for")
    return uri
