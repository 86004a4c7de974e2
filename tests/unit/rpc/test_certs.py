"""The authority's files and what a certificate of it opens."""

from __future__ import annotations

import contextlib
import socket
import ssl
import stat
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from davfs.core.errors import ConfigError, Unreachable
from davfs.rpc import certs
from davfs.rpc.identity import load_identity, public_context
from davfs.rpc.server import Handler, RpcServer


def test_files_are_for_the_owner_only(tmp_path: Path) -> None:
    certs.create_authority(tmp_path)
    cert, key = certs.issue(tmp_path, "node-1", ["host.example", "10.1.2.3"], into=tmp_path / "n")
    for path in (tmp_path / "ca.key", tmp_path / "ca.pem", cert, key, tmp_path / "n" / "ca.pem"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    assert load_identity(tmp_path / "n" / "ca.pem", cert, key).name == "node-1"


def test_a_second_authority_is_refused(tmp_path: Path) -> None:
    certs.create_authority(tmp_path)
    with pytest.raises(ConfigError, match="already"):
        certs.create_authority(tmp_path)


@pytest.mark.parametrize("name", ["", "Node", "a b", "-a", "a.b", "x" * 64, "ü"])
def test_bad_node_names_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="node name"):
        certs.issue(tmp_path, name, [])


def test_missing_and_mismatched_files_are_named(tmp_path: Path) -> None:
    certs.create_authority(tmp_path)
    cert, _ = certs.issue(tmp_path, "a", [])
    _, other_key = certs.issue(tmp_path, "b", [])
    with pytest.raises(ConfigError, match=r"nowhere\.pem"):
        load_identity(tmp_path / "ca.pem", tmp_path / "nowhere.pem", other_key)
    with pytest.raises(ConfigError, match=r"node\.key"):
        load_identity(tmp_path / "ca.pem", cert, other_key)
    with pytest.raises(ConfigError, match="authority"):
        certs.issue(tmp_path / "elsewhere", "a", [])


def touch(called: list[str]) -> Handler:
    """A handler that notes who called it."""

    def handle(peer: str, args: dict[str, Any], blob: bytes) -> tuple[Any, bytes]:
        called.append(peer)
        return None, b""

    return handle


def test_a_client_of_another_cluster_reaches_nothing(nodes, foreign) -> None:
    called: list[str] = []
    nodes.serve("b", {"touch": touch(called)})
    foreign.addresses.update(nodes.addresses)
    client = foreign.client("a")
    with pytest.raises(Unreachable, match="TLS"):
        client.call("b", "touch", {})
    foreign.undo()
    assert called == []


def test_a_server_of_another_cluster_is_not_believed(nodes, foreign) -> None:
    foreign.serve("b", {})
    nodes.addresses.update(foreign.addresses)
    with pytest.raises(Unreachable, match="CERTIFICATE_VERIFY_FAILED"):
        nodes.client().call("b", "touch", {})
    foreign.undo()


def test_a_client_that_alone_trusts_a_foreign_authority_is_refused_by_the_server(nodes, foreign) -> None:
    """The server's own check, with a client that would accept anybody."""
    called: list[str] = []
    server = nodes.serve("b", {"touch": touch(called)})
    careless = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    careless.check_hostname = False
    careless.verify_mode = ssl.CERT_NONE
    for with_cert in (False, True):
        if with_cert:
            cert, key = certs.issue(foreign.root, "a", [])
            careless.load_cert_chain(cert, key)
        with socket.create_connection(("127.0.0.1", server.port), 5) as plain, careless.wrap_socket(plain) as sock:
            sock.settimeout(5)
            # The refusal comes after the client believes the handshake done (TLS 1.3).
            with contextlib.suppress(OSError):
                sock.sendall(b"POST /rpc/v1/touch HTTP/1.1\r\nContent-Length: 5\r\n\r\n\0\0\0\1\x80")
                assert sock.recv(100) == b""
    assert called == []


def test_an_https_certificate_opens_no_node(nodes, tmp_path: Path) -> None:
    """It is of the same authority, for servers alone, and its name is no node's."""
    called: list[str] = []
    server = nodes.serve("b", {"touch": touch(called)})
    cert, key = certs.issue_public(nodes.root, ["b", "127.0.0.1"], tmp_path)
    public = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    public.load_verify_locations(nodes.root / "ca.pem")
    public.load_cert_chain(cert, key)
    with socket.create_connection(("127.0.0.1", server.port), 5) as plain:
        with public.wrap_socket(plain, server_hostname="b") as sock, contextlib.suppress(OSError):
            sock.settimeout(5)
            sock.sendall(b"POST /rpc/v1/touch HTTP/1.1\r\nContent-Length: 5\r\n\r\n\0\0\0\1\x80")
            assert sock.recv(100) == b""
    assert called == []
    posing = RpcServer("127.0.0.1", 0, replace(nodes.identity("b"), server=public_context(cert, key)), {})
    posing.start()
    nodes.later(posing.stop)
    nodes.addresses["b"] = ("127.0.0.1", posing.port)
    with pytest.raises(Unreachable, match="answers davfs WebDAV, not b"):
        nodes.client().call("b", "touch", {})


def test_an_https_certificate_is_made_anew_for_its_hosts(nodes, tmp_path: Path) -> None:
    cert, _ = certs.issue_public(nodes.root, ["files.example", "10.1.2.3", "files.example"], tmp_path)
    assert certs.hosts_of(cert) == ["files.example", "10.1.2.3"]
    before = cert.read_bytes()
    certs.issue_public(nodes.root, ["other.example"], tmp_path)
    assert certs.hosts_of(cert) == ["other.example"]
    assert cert.read_bytes() != before
    life = x509.load_pem_x509_certificate(cert.read_bytes())
    assert (life.not_valid_after_utc - life.not_valid_before_utc).days < 825
    with pytest.raises(ConfigError, match="cannot read the certificate"):
        certs.hosts_of(tmp_path / "dav.key")


def test_tls_1_2_is_refused(nodes) -> None:
    server = nodes.serve("b", {})
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname = False
    old.verify_mode = ssl.CERT_NONE
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with socket.create_connection(("127.0.0.1", server.port), 5) as plain, pytest.raises(ssl.SSLError):
        old.wrap_socket(plain)


def test_the_wrong_node_is_not_called(nodes) -> None:
    nodes.serve("b", {})
    nodes.addresses["c"] = nodes.addresses["b"]
    with pytest.raises(Unreachable, match=r"(?i)mismatch|verify"):
        nodes.client().call("c", "touch", {})


def test_a_host_called_like_a_node_is_not_that_node(nodes) -> None:
    """The alternative names would match: the common name decides."""
    nodes.serve("b", {})
    nodes.addresses["localhost"] = nodes.addresses["b"]
    with pytest.raises(Unreachable, match="answers b, not localhost"):
        nodes.client().call("localhost", "touch", {})


def test_silent_and_slow_connections_hold_up_nobody(nodes) -> None:
    """More stalled handshakes than threads; calls go on as if there were none."""
    server = nodes.serve("b", {"echo": lambda peer, args, blob: (args, blob)}, max_threads=2)
    stalled = [socket.create_connection(("127.0.0.1", server.port), 5) for _ in range(8)]
    try:
        for sock in stalled[:4]:
            sock.sendall(b"\x16\x03\x01\x02")  # the beginning of a ClientHello
        start = time.monotonic()
        assert nodes.client().call("b", "echo", {"x": 1}) == ({"x": 1}, b"")
        assert time.monotonic() - start < 1.0
    finally:
        for sock in stalled:
            sock.close()


def test_plain_text_and_garbage_are_refused(nodes) -> None:
    server = nodes.serve("b", {"echo": lambda peer, args, blob: (args, blob)})
    for garbage in (b"GET / HTTP/1.1\r\n\r\n", b"\0" * 500, b"\x16\x03\x01\xff\xff" + b"x" * 5000):
        with socket.create_connection(("127.0.0.1", server.port), 5) as sock:
            sock.sendall(garbage)
            sock.settimeout(5)
            with contextlib.suppress(ConnectionResetError):
                assert b"200" not in sock.recv(1000)
    assert nodes.client().call("b", "echo", {}) == ({}, b"")
