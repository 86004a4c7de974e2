"""What a program's certificate opens: the methods named for programs and the HTTP API, nothing of a node's."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest

from davfs.core.errors import ConfigError, Forbidden, Unreachable
from davfs.rpc import certs
from davfs.rpc.api import ApiAnswer, ApiRequest
from davfs.rpc.client import RpcClient
from davfs.rpc.http1 import parse_response_head
from davfs.rpc.identity import NodeIdentity, caller_name, load_identity, peer_name
from davfs.rpc.pool import dial


@pytest.fixture
def program(nodes: Any, tmp_path: Path) -> NodeIdentity:
    cert, key = certs.issue_program(nodes.root, "backup", tmp_path / "p")
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    return load_identity(tmp_path / "p" / certs.AUTHORITY_CERT, cert, key)


def test_a_program_reaches_only_what_is_named_for_programs(nodes: Any, program: NodeIdentity) -> None:
    called: list[tuple[str, str]] = []

    def handler(name: str) -> Any:
        return lambda peer, args, blob: (called.append((name, peer)), b"")

    nodes.serve("b", {"open": handler("open"), "admin.x": handler("admin.x")}, for_programs=["open"])
    client = RpcClient(program, nodes.resolve)
    nodes.later(client.close)
    client.call("b", "open", {})
    with pytest.raises(Forbidden, match="not for programs"):
        client.call("b", "admin.x", {})
    with pytest.raises(Forbidden):
        client.call("b", "unknown", {})
    nodes.client().call("b", "admin.x", {})
    assert called == [("open", "program:backup"), ("admin.x", "a")]


def test_a_program_sends_no_frames(nodes: Any, program: NodeIdentity) -> None:
    frames: list[Any] = []
    nodes.serve("b", {}, receive_frame=lambda peer, frame: frames.append((peer, frame)))
    stream = dial(program, "b", nodes.addresses["b"], 2.0)
    try:
        stream.send(b"POST /frames/v1 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n\x00\x00\x00\x00\r\n")
        assert parse_response_head(stream.read_head())[0] == 403
    finally:
        stream.close()
    assert frames == []


def test_a_program_is_nobody_where_nodes_are_expected(nodes: Any, program: NodeIdentity) -> None:
    """The forwarding listener asks with ``peer_name``; and nobody takes a program that listens for a node."""
    certificate = {"subject": ((("commonName", "program:backup"),),)}
    assert peer_name(certificate) is None
    assert caller_name(certificate) == "program:backup"
    nodes.serve("b", {})
    server = NodeIdentity("c", program.server, program.client)
    nodes._identities["c"] = server
    try:
        nodes.serve("c", {})
        with pytest.raises(Unreachable):
            nodes.client().call("c", "x", {})
    finally:
        del nodes._identities["c"]


def test_names_that_could_be_taken_for_others_are_refused(nodes: Any, tmp_path: Path) -> None:
    for name in ("", "program:x", "A", "a/b"):
        with pytest.raises(ConfigError, match="program name"):
            certs.issue_program(nodes.root, name, tmp_path / "q")
    with pytest.raises(ConfigError, match="node name"):
        certs.issue(nodes.root, "program:x", [])
    certs.issue_program(nodes.root, "x", tmp_path / "q")
    with pytest.raises(ConfigError, match="already"):
        certs.issue_program(nodes.root, "x", tmp_path / "q")


def test_the_api_gets_whole_requests_and_one_connection_serves_many(nodes: Any, program: NodeIdentity) -> None:
    seen: list[ApiRequest] = []

    def api(request: ApiRequest) -> ApiAnswer:
        seen.append(request)
        if request.target == "/v1/bug":
            raise RuntimeError("a bug")
        return ApiAnswer(200, request.body[::-1], "application/octet-stream", {"X-Here": "yes"})

    nodes.serve("b", {}, api=api)
    stream = dial(program, "b", nodes.addresses["b"], 2.0)

    def ask(head: bytes, body: bytes = b"") -> tuple[int, dict[str, str], bytes]:
        stream.send(head, body)
        status, _, fields = parse_response_head(stream.read_head())
        if status == 100:
            status, _, fields = parse_response_head(stream.read_head())
        size = int(dict(fields)["Content-Length"])
        return status, dict(fields), stream.read_exact(size)

    try:
        put = b"PUT /v1/x?y=1 HTTP/1.1\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n"
        assert ask(put, b"abc")[::2] == (200, b"cba")
        status, fields, _ = ask(b"GET /v1/z HTTP/1.1\r\n\r\n")
        assert (status, fields["X-Here"], fields["Content-Type"]) == (200, "yes", "application/octet-stream")
        assert ask(b"GET /v1/bug HTTP/1.1\r\n\r\n")[0] == 500
        assert ask(b"POST /v1/x HTTP/1.1\r\n\r\n")[0] == 411
    finally:
        stream.close()
    assert [(r.peer, r.method, r.target) for r in seen[:2]] == [
        ("program:backup", "PUT", "/v1/x?y=1"),
        ("program:backup", "GET", "/v1/z"),
    ]
