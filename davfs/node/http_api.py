"""The HTTP API for programs: ``/v1/...`` on the node-to-node listener, described in docs/openapi.yaml.

Each route translates to one method that the client library calls too (``programs.py``, ``cluster/service.py``): JSON for
volumes and tokens, raw bytes for chunks and records. A volume is named by its name; a request for what a token protects
carries ``Authorization: Bearer HEX`` and ``Davfs-Epoch: INCARNATION.COUNTER``. Errors are JSON with the code of
``core/errors.py``. Knows no sockets.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias
from urllib.parse import parse_qsl, unquote, urlsplit

from davfs.core.chunking import digest_of
from davfs.core.cluster_state import ClusterState
from davfs.core.errors import (
    ChunkMissing,
    CorruptData,
    DavfsError,
    InvalidInput,
    Locked,
    LogMismatch,
    NotFound,
    NotSealed,
    StaleEpoch,
    TokenRefused,
    VolumeHeld,
)
from davfs.core.model import MIB
from davfs.rpc.api import ApiAnswer, ApiRequest

Handler: TypeAlias = Callable[[str, dict[str, Any], bytes], tuple[Any, bytes | memoryview]]

BINARY = "application/octet-stream"
LENGTH_BYTES = 4
"""A record in a body stands behind its length, a big-endian number of so many bytes."""

_STATUS: tuple[tuple[type[DavfsError], int], ...] = (
    (StaleEpoch, 403), (TokenRefused, 403), (NotSealed, 409), (LogMismatch, 409), (ChunkMissing, 404),
)  # fmt: skip
"""Where a program is told another status than a DAV client: what it shows is refused, not out of order."""


class Call(NamedTuple):
    """A request that was taken apart: path parameters by name, and everything else."""

    request: ApiRequest
    names: Mapping[str, str]
    query: Mapping[str, str]


class Route(NamedTuple):
    """``template``: like ``/v1/volumes/{volume}``."""

    method: str
    template: str
    answer: Callable[[Call], ApiAnswer]


class HttpApi:
    """Port: ``rpc.api.Api``. ``handlers``: those of the node's methods."""

    def __init__(self, handlers: Mapping[str, Handler], state: ClusterState) -> None:
        self._handlers = handlers
        self._state = state
        volume = "/v1/volumes/{volume}"
        self.routes = (
            Route("GET", "/v1/cluster", self._cluster),
            Route("GET", volume, self._volume),
            Route("POST", f"{volume}/assign", self._assign),
            Route("POST", f"{volume}/refresh", self._token("token.refresh")),
            Route("POST", f"{volume}/free", self._token("token.free")),
            Route("POST", f"{volume}/seal", self._token("replica.seal")),
            Route("GET", f"{volume}/records", self._read_records),
            Route("POST", f"{volume}/records", self._append_records),
            Route("GET", f"{volume}/chunks/{{digest}}", self._get_chunk),
            Route("PUT", f"{volume}/chunks/{{digest}}", self._put_chunk),
        )

    def __call__(self, request: ApiRequest) -> ApiAnswer:
        try:
            return self._answer(request)
        except DavfsError as error:
            return _refusal(error)

    def _answer(self, request: ApiRequest) -> ApiAnswer:
        try:
            url = urlsplit(request.target)
        except ValueError as error:
            raise InvalidInput(f"that is no address: {error}") from None
        parts = [unquote(part) for part in url.path.split("/")]
        found = [(route, names) for route in self.routes if (names := _match(route.template, parts)) is not None]
        if not found:
            raise NotFound(f"{url.path} is not served here")
        for route, names in found:
            if route.method == request.method:
                return route.answer(Call(request, names, dict(parse_qsl(url.query))))
        allowed = ", ".join(route.method for route, _ in found)
        return _json({"error": "invalid-input", "message": f"only {allowed} here", "data": {}}, 405, {"Allow": allowed})

    def _ask(self, call: Call, method: str, args: dict[str, Any], blob: bytes = b"") -> tuple[Any, bytes]:
        value, answer = self._handlers[method](call.request.peer, args, blob)
        return value, bytes(answer)

    # --- volumes and tokens -----------------------------------------------------------------------------------------

    def _cluster(self, call: Call) -> ApiAnswer:
        return _json(self._ask(call, "token.cluster", {})[0])

    def _volume(self, call: Call) -> ApiAnswer:
        return _json(self._ask(call, "token.volume", {"name": call.names["volume"]})[0])

    def _assign(self, call: Call) -> ApiAnswer:
        return _json(self._ask(call, "token.assign", {**_body(call), "name": call.names["volume"]})[0])

    def _token(self, method: str) -> Callable[[Call], ApiAnswer]:
        """A route that needs a token and nothing else."""

        def answer(call: Call) -> ApiAnswer:
            return _json(self._ask(call, method, self._bearer(call))[0])

        return answer

    def _bearer(self, call: Call) -> dict[str, Any]:
        """Volume id, epoch and token of a request that shows a token."""
        scheme, _, token = call.request.fields.get("authorization", "").partition(" ")
        try:
            if scheme.lower() != "bearer":
                raise ValueError
            secret = bytes.fromhex(token.strip())
            incarnation, counter = (int(part) for part in call.request.fields["davfs-epoch"].split("."))
        except (KeyError, ValueError):
            raise InvalidInput(
                "show the token: Authorization: Bearer HEX, and Davfs-Epoch: INCARNATION.COUNTER as assign gave it"
            ) from None
        volume = self._state.volume_named(call.names["volume"])
        return {"volume": volume.id, "epoch": [incarnation, counter], "token": secret}

    # --- records ----------------------------------------------------------------------------------------------------

    def _read_records(self, call: Call) -> ApiAnswer:
        limit = min(_number(call, "limit", MIB), 4 * MIB)
        args = {**self._bearer(call), "first": _number(call, "first"), "limit": limit}
        value, blob = self._ask(call, "replica.read_log", args)
        parts, at = [], 0
        for size in value["records"]:
            parts += [size.to_bytes(LENGTH_BYTES, "big"), blob[at : at + size]]
            at += size
        return ApiAnswer(200, b"".join(parts), BINARY)

    def _append_records(self, call: Call) -> ApiAnswer:
        try:
            incarnation, counter, seq = (int(part) for part in call.query["previous"].split("."))
        except (KeyError, ValueError):
            raise InvalidInput("previous must be INCARNATION.COUNTER.SEQ of the record before these") from None
        records = _records(call.request.body)
        args = {
            **self._bearer(call),
            "previous": [[incarnation, counter], seq],
            "committed": _number(call, "committed", 0),
            "records": [len(record) for record in records],
            "chunks": [],
        }
        try:
            return _json(self._ask(call, "replica.append", args, b"".join(records))[0])
        except CorruptData as error:  # what came is damaged, not what is here
            raise InvalidInput(error.message) from error

    # --- chunks -----------------------------------------------------------------------------------------------------

    def _get_chunk(self, call: Call) -> ApiAnswer:
        args = {**self._bearer(call), "digest": call.names["digest"]}
        return ApiAnswer(200, self._ask(call, "chunk.get", args)[1], BINARY)

    def _put_chunk(self, call: Call) -> ApiAnswer:
        args = {**self._bearer(call), "digest": call.names["digest"]}
        if not call.request.body or digest_of(call.request.body) != call.names["digest"]:
            raise InvalidInput("a chunk is stored under the BLAKE3 digest of its bytes, and these have another")
        self._ask(call, "chunk.put", args, call.request.body)
        return ApiAnswer(204)


def _match(template: str, parts: list[str]) -> dict[str, str] | None:
    """The path parameters if the path is of the template, else None."""
    wanted = template.split("/")
    if len(wanted) != len(parts):
        return None
    names = {}
    for name, part in zip(wanted, parts, strict=True):
        if name.startswith("{"):
            if not part:
                return None
            names[name[1:-1]] = part
        elif name != part:
            return None
    return names


def _number(call: Call, name: str, default: int | None = None) -> int:
    text = call.query.get(name)
    if text is None and default is not None:
        return default
    if text is None or not text.isascii() or not text.isdigit() or len(text) > 18:
        raise InvalidInput(f"{name} must be a number")
    return int(text)


def _body(call: Call) -> dict[str, Any]:
    try:
        body = json.loads(call.request.body or b"{}")
    except (ValueError, RecursionError):
        raise InvalidInput("the body is no JSON") from None
    if not isinstance(body, dict):
        raise InvalidInput("the body must be a JSON object")
    return body


def _records(body: bytes) -> list[bytes]:
    """The records of a body, each behind its length."""
    records, at = [], 0
    while at < len(body):
        size = int.from_bytes(body[at : at + LENGTH_BYTES], "big")
        at += LENGTH_BYTES
        if not size or at + size > len(body):
            raise InvalidInput("the lengths of the records do not add up to the body's")
        records.append(body[at : at + size])
        at += size
    return records


def _json(value: Any, status: int = 200, fields: Mapping[str, str] | None = None) -> ApiAnswer:
    return ApiAnswer(status, json.dumps(value, default=str).encode(), fields=fields or {})


def _refusal(error: DavfsError) -> ApiAnswer:
    status = next((status for kind, status in _STATUS if isinstance(error, kind)), error.status)
    fields = {}
    if isinstance(error, (VolumeHeld, Locked)):
        fields["Retry-After"] = str(max(1, math.ceil(float(error.data.get("expires_in_s") or 1))))
    elif status == 503:
        fields["Retry-After"] = "1"
    return _json({"error": error.code, "message": error.message, "data": error.data}, status, fields)
