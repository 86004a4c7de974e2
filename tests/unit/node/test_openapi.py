"""docs/openapi.yaml is what the node serves: the same routes, and every answer as it says."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from davfs.core.chunking import digest_of
from davfs.core.cluster_state import ClusterState
from davfs.core.errors import (
    ChunkMissing,
    DavfsError,
    LogMismatch,
    NoSpace,
    NotSealed,
    TokenExpired,
    TokenRefused,
    Unavailable,
    VolumeHeld,
    VolumeNotFound,
)
from davfs.node.http_api import HttpApi
from davfs.rpc.api import ApiAnswer, ApiRequest

PAGE = yaml.safe_load((Path(__file__).resolve().parents[3] / "docs" / "openapi.yaml").read_text())
METHODS = {"get", "put", "post", "delete"}
OPERATIONS = [
    (path, method, operation) for path, item in PAGE["paths"].items() for method, operation in item.items() if method in METHODS
]
PROOF = {"authorization": "Bearer " + "ab" * 32, "davfs-epoch": "1.7"}
CHUNK = b"a chunk"

NODE = {"name": "node-1", "dav": "http://n", "zone": "", "weight": 1.0, "rpc": ["127.0.0.1", 1]}
VOLUME: dict[str, Any] = {
    "id": "v1", "name": "my.volume", "policy": {}, "replicas": ["node-1"], "incarnations": {}, "epoch": [1, 7],
    "holder": None, "expires_in_s": None,
}  # fmt: skip
STATUS = {"incarnation": "i", "sealed": [1, 7], "last": [[1, 7], 3], "committed": [[1, 7], 3]}
ANSWERS: dict[str, tuple[Any, bytes]] = {
    "token.cluster": ({"nodes": [NODE], "volumes": [VOLUME]}, b""),
    "token.volume": ({"nodes": [NODE], "volume": VOLUME}, b""),
    "token.assign": ({"nodes": [NODE], "volume": VOLUME, "epoch": [1, 7], "ttl": 5.0}, b""),
    "token.refresh": ({"nodes": [NODE], "volume": VOLUME}, b""),
    "token.free": ({"nodes": [NODE], "volume": VOLUME}, b""),
    "replica.seal": (STATUS, b""),
    "replica.append": (STATUS, b""),
    "replica.read_log": ({"records": [3, 2]}, b"abcde"),
    "chunk.get": ({}, CHUNK),
    "chunk.put": ({}, b""),
}


class Node:
    """Handlers that note what they were asked, and fail on demand."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, dict[str, Any], bytes]] = []
        self.error: DavfsError | None = None
        state = ClusterState()
        state.apply(("1", "volume_create", "v1", "my.volume", {}, ["node-1"]))
        self.api = HttpApi({name: self._handler(name) for name in ANSWERS}, state)

    def _handler(self, name: str) -> Any:
        def handle(peer: str, args: dict[str, Any], blob: bytes) -> tuple[Any, bytes]:
            self.asked.append((name, peer, args, blob))
            if self.error is not None:
                raise self.error
            return ANSWERS[name]

        return handle

    def ask(self, method: str, target: str, fields: dict[str, str] | None = None, body: bytes = b"") -> ApiAnswer:
        return self.api(ApiRequest("program:x", method, target, PROOF if fields is None else fields, body))


@pytest.fixture
def node() -> Node:
    return Node()


def example(path: str, operation: dict[str, Any]) -> tuple[str, bytes]:
    """(target, body) of a good request."""
    target = path.replace("{volume}", "my%2Evolume").replace("{digest}", digest_of(CHUNK))
    query = {"first": "1", "previous": "1.7.2", "committed": "2"}
    names = [p["name"] for p in operation.get("parameters", []) if p.get("in") == "query" and p["name"] in query]
    target += "?" + "&".join(f"{name}={query[name]}" for name in names) if names else ""
    content = operation.get("requestBody", {}).get("content", {})
    if "application/json" in content:
        return target, json.dumps({"token_digest": "00" * 32}).encode()
    return target, CHUNK if "chunks" in path else b"\0\0\0\3abc" if content else b""


def test_the_routes_are_those_of_the_page(node: Node) -> None:
    assert {(r.method, r.template) for r in node.api.routes} == {(m.upper(), path) for path, m, _ in OPERATIONS}


@pytest.mark.parametrize(("path", "method", "operation"), OPERATIONS, ids=[f"{m} {p}" for p, m, _ in OPERATIONS])
def test_a_good_request_is_answered_as_the_page_says(node: Node, path: str, method: str, operation: dict[str, Any]) -> None:
    target, body = example(path, operation)
    answer = node.ask(method.upper(), target, body=body)
    assert str(answer.status) in operation["responses"], answer.body
    response = resolve(operation["responses"][str(answer.status)])
    if "content" not in response:
        assert answer.body == b""
        return
    assert answer.content_type in response["content"]
    if answer.content_type == "application/json":
        check(json.loads(answer.body), response["content"]["application/json"]["schema"])


@pytest.mark.parametrize(("path", "method", "operation"), OPERATIONS, ids=[f"{m} {p}" for p, m, _ in OPERATIONS])
def test_what_needs_a_token_says_so(node: Node, path: str, method: str, operation: dict[str, Any]) -> None:
    target, body = example(path, operation)
    protected = any("token" in wanted for wanted in operation.get("security", []))
    answer = node.ask(method.upper(), target, {}, body)
    assert (answer.status == 400 and b"show the token" in answer.body) == protected
    for fields in ({**PROOF, "authorization": "Basic xyz"}, {**PROOF, "davfs-epoch": "seven"}):
        assert (node.ask(method.upper(), target, fields, body).status == 400) == protected
    if protected:
        assert node.ask(method.upper(), target, body=body).status < 300
        assert {key: node.asked[-1][2][key] for key in ("volume", "epoch", "token")} == {
            "volume": "v1", "epoch": [1, 7], "token": b"\xab" * 32
        }  # fmt: skip
        assert node.asked[-1][1] == "program:x"


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (TokenRefused(), 403), (TokenExpired(), 403), (NotSealed(), 409), (LogMismatch(), 409), (ChunkMissing(), 404),
        (VolumeNotFound(), 404), (NoSpace(), 507), (Unavailable(), 503), (VolumeHeld("held", expires_in_s=2.2), 423),
    ],
)  # fmt: skip
def test_errors_are_json_with_their_code(node: Node, error: DavfsError, status: int) -> None:
    node.error = error
    answer = node.ask("POST", "/v1/volumes/my%2Evolume/assign", body=b"{}")
    assert answer.status == status
    told = json.loads(answer.body)
    check(told, PAGE["components"]["schemas"]["Error"])
    assert told["error"] == error.code
    assert answer.fields.get("Retry-After") == {423: "3", 503: "1"}.get(status)


def test_records_stand_behind_their_lengths(node: Node) -> None:
    assert node.ask("GET", "/v1/volumes/my%2Evolume/records?first=4").body == b"\0\0\0\3abc\0\0\0\2de"
    assert node.asked[-1][2]["first"] == 4
    node.ask("POST", "/v1/volumes/my%2Evolume/records?previous=1.7.2&committed=1", body=b"\0\0\0\1x\0\0\0\2yz")
    _, _, args, blob = node.asked[-1]
    assert (args["previous"], args["committed"], args["records"], blob) == ([[1, 7], 2], 1, [1, 2], b"xyz")


@pytest.mark.parametrize(
    ("method", "target", "body", "status"),
    [
        ("GET", "/v1/nothing", b"", 404),
        ("GET", "/v1/volumes/other/records?first=1", b"", 404),
        ("DELETE", "/v1/volumes/my%2Evolume", b"", 405),
        ("POST", "/v1/volumes/my%2Evolume/assign", b"[1", 400),
        ("POST", "/v1/volumes/my%2Evolume/assign", b"[]", 400),
        ("GET", "/v1/volumes/my%2Evolume/records", b"", 400),
        ("GET", "/v1/volumes/my%2Evolume/records?first=-1", b"", 400),
        ("POST", "/v1/volumes/my%2Evolume/records?previous=1.2", b"", 400),
        ("POST", "/v1/volumes/my%2Evolume/records?previous=1.7.2", b"\0\0\0\7abc", 400),
        ("POST", "/v1/volumes/my%2Evolume/records?previous=1.7.2", b"\0\0", 400),
        ("PUT", "/v1/volumes/my%2Evolume/chunks/" + "0" * 64, b"x", 400),
        ("PUT", "/v1/volumes/my%2Evolume/chunks/..%2F..%2Fx", b"x", 400),
    ],
)
def test_bad_requests_are_refused(node: Node, method: str, target: str, body: bytes, status: int) -> None:
    answer = node.ask(method, target, body=body)
    assert answer.status == status
    check(json.loads(answer.body), PAGE["components"]["schemas"]["Error"])
    assert not [asked for asked in node.asked if not asked[0].startswith("token.")]


# --- the little of JSON Schema that the page uses ---------------------------------------------------------------------


def resolve(value: dict[str, Any]) -> dict[str, Any]:
    if "$ref" not in value:
        return value
    found: Any = PAGE
    for part in value["$ref"].removeprefix("#/").split("/"):
        found = found[part]
    return dict(found)


def check(value: Any, schema: dict[str, Any]) -> None:
    schema = resolve(schema)
    numbers = {"integer": int, "number": (int, float)}
    kinds: dict[str, Any] = {"object": dict, "array": list, "string": str, "null": type(None), **numbers}
    if "type" in schema:
        wanted = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
        assert any(isinstance(value, kinds[kind]) for kind in wanted), (value, schema)
    if isinstance(value, dict):
        assert set(schema.get("required", ())) <= set(value)
        if "properties" in schema:
            assert set(value) <= set(schema["properties"]), value
        for name, below in schema.get("properties", {}).items():
            if name in value:
                check(value[name], below)
    if isinstance(value, list):
        assert schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", 1 << 30)
        for item in value:
            check(item, schema.get("items", {}))
    if "pattern" in schema:
        assert re.search(schema["pattern"], value)
