"""Join tokens: mutual TLS from the first byte, one method, and a certificate for a key that never left."""

from pathlib import Path
from typing import Any

import pytest

from davfs.core.errors import ConfigError, Forbidden, InvalidInput, Unreachable
from davfs.rpc import admission, certs
from davfs.rpc.client import RpcClient
from davfs.rpc.identity import Peer, load_identity
from davfs.rpc.server import RpcServer


@pytest.fixture
def authority(tmp_path: Path) -> Path:
    folder = tmp_path / "authority"
    certs.create_authority(folder)
    return folder


@pytest.fixture
def server(authority: Path, tmp_path: Path) -> Any:
    cert, key = certs.issue(authority, "a", ["127.0.0.1"], tmp_path / "a")
    identity = load_identity(authority / "ca.pem", cert, key)

    def admit(peer: Peer) -> None:
        if peer.name == "gone":
            raise Forbidden("gone was removed")

    handlers = {"node.join": lambda peer, args, blob: (peer, b""), "other": lambda peer, args, blob: (peer, b"")}
    made = RpcServer("127.0.0.1", 0, identity, handlers, lambda peer, frame: None, for_joiners=["node.join"], admit=admit)
    made.start()
    yield made
    made.stop()


def test_a_token_reaches_joining_and_nothing_else(authority: Path, server: RpcServer) -> None:
    token = admission.read_token("\n " + admission.make_token(authority, "t1", 60.0) + "\n")
    identity = token.identity()
    assert identity.name == "join:t1"
    assert admission.who_is_at(identity, "127.0.0.1", server.port) == ("a", "127.0.0.1")
    client = RpcClient(identity, lambda _: ("127.0.0.1", server.port))
    try:
        assert client.call("a", "node.join", {}) == ("join:t1", b"")
        with pytest.raises(Forbidden, match="joining only"):
            client.call("a", "other", {})
    finally:
        client.close()


def test_a_token_of_another_cluster_meets_nobody(server: RpcServer, tmp_path: Path) -> None:
    certs.create_authority(tmp_path / "other")
    identity = admission.read_token(admission.make_token(tmp_path / "other", "t1", 60.0)).identity()
    with pytest.raises(Unreachable, match="no node of the token's cluster"):
        admission.who_is_at(identity, "127.0.0.1", server.port)


def test_what_is_no_token_is_told_so(authority: Path) -> None:
    text = admission.make_token(authority, "t1", 60.0)
    for wrong in ("", "secret", text[:-40], text.replace("join-1", "join-2")):
        with pytest.raises(InvalidInput):
            admission.read_token(wrong)
    with pytest.raises(ConfigError):
        admission.make_token(authority / "nowhere", "t1", 60.0)


def test_a_signed_request_makes_a_node_with_the_name_that_was_granted(
    authority: Path, server: RpcServer, tmp_path: Path
) -> None:
    key, request = admission.new_request("whatever it says")
    cert, ca = admission.sign_request(authority, "d", "127.0.0.1", request)
    admission.write_identity(tmp_path / "d", ca, cert, key)
    identity = load_identity(*(tmp_path / "d" / name for name in ("ca.pem", "node.pem", "node.key")))
    assert identity.name == "d"
    client = RpcClient(identity, lambda _: ("127.0.0.1", server.port))
    try:
        assert client.call("a", "other", {}) == ("d", b"")
    finally:
        client.close()
    with pytest.raises(ConfigError, match="already"):
        admission.write_identity(tmp_path / "d", ca, cert, key)
    with pytest.raises(InvalidInput):
        admission.sign_request(authority, "d", "127.0.0.1", b"no request")


def test_a_removed_node_is_refused_whatever_it_asks(authority: Path, server: RpcServer, tmp_path: Path) -> None:
    cert, key = certs.issue(authority, "gone", ["127.0.0.1"], tmp_path / "gone")
    client = RpcClient(load_identity(authority / "ca.pem", cert, key), lambda _: ("127.0.0.1", server.port))
    try:
        with pytest.raises(Forbidden, match="removed"):
            client.call("a", "other", {})
    finally:
        client.close()
