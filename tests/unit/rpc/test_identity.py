"""A certificate that is replaced while connections stand, revoked or ended ones, and a replacement cut short."""

from __future__ import annotations

import datetime
import os
import socket
import ssl
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from davfs.core.errors import CertificateRefused, ConfigError, Unavailable, Unreachable
from davfs.rpc import admission, certs
from davfs.rpc.certs import BACKDATE
from davfs.rpc.client import RpcClient
from davfs.rpc.frames import HttpFrameNetwork
from davfs.rpc.identity import NodeIdentity, Peer, authority_ends, load_identity, read_certificate, replace_pair

SECOND = datetime.timedelta(seconds=1)


@pytest.fixture
def own(nodes: Any, tmp_path: Path) -> NodeIdentity:
    """An identity for ``a`` that no other test has."""
    return another(nodes, tmp_path / "own")


def another(nodes: Any, folder: Path, name: str = "a", **options: Any) -> NodeIdentity:
    cert, key = certs.issue(nodes.root, name, ["localhost"], folder, **options)
    return load_identity(folder / certs.AUTHORITY_CERT, cert, key)


def serials(nodes: Any, **options: Any) -> list[str]:
    """The serial numbers that the server ``b`` saw, request by request."""
    seen: list[str] = []

    def admit(peer: Peer) -> None:
        seen.append(peer.serial)

    nodes.serve("b", {"echo": lambda peer, args, blob: (peer, blob)}, admit=admit, **options)
    return seen


def test_a_new_certificate_is_shown_by_the_next_request_and_the_old_connection_is_let_go(
    nodes: Any, own: NodeIdentity, tmp_path: Path
) -> None:
    seen = serials(nodes)
    client = RpcClient(own, nodes.resolve)
    nodes.later(client.close)
    first = own.own.serial
    client.call("b", "echo", {})
    renewed = another(nodes, tmp_path / "next")
    own.replace_by(renewed)
    client.call("b", "echo", {})
    client.call("b", "echo", {})
    assert seen == [first, renewed.own.serial, renewed.own.serial]


def test_a_call_that_is_under_way_survives_the_change(nodes: Any, own: NodeIdentity, tmp_path: Path) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slow(peer: str, args: dict[str, Any], blob: bytes) -> tuple[Any, bytes]:
        begun.set()
        go_on.wait(5)
        return "done", b""

    nodes.serve("b", {"slow": slow})
    client = RpcClient(own, nodes.resolve)
    nodes.later(client.close)
    answers: list[Any] = []
    thread = threading.Thread(target=lambda: answers.append(client.call("b", "slow", {})[0]))
    thread.start()
    assert begun.wait(5)
    own.replace_by(another(nodes, tmp_path / "next"))
    go_on.set()
    thread.join(5)
    assert answers == ["done"]


def test_a_listener_shows_its_new_certificate_to_new_connections(nodes: Any, tmp_path: Path) -> None:
    identity = another(nodes, tmp_path / "b", "b")
    nodes._identities["b"] = identity
    try:
        server = nodes.serve("b", {})

        def shown() -> str:
            context = nodes.identity("a").client
            with socket.create_connection(("127.0.0.1", server.port), 5) as plain:
                with context.wrap_socket(plain, server_hostname="b") as tls:
                    return f"{int(tls.getpeercert()['serialNumber'], 16):x}"

        before = shown()
        identity.replace_by(another(nodes, tmp_path / "b2", "b"))
        assert shown() == identity.own.serial != before
    finally:
        del nodes._identities["b"]


def test_frames_go_on_by_a_new_connection_in_order(nodes: Any, own: NodeIdentity, tmp_path: Path) -> None:
    arrived: list[bytes] = []
    seen: list[str] = []

    def admit(peer: Peer) -> None:
        if not seen or seen[-1] != peer.serial:
            seen.append(peer.serial)

    nodes.serve("b", {}, receive_frame=lambda peer, frame: arrived.append(frame), admit=admit)
    network = HttpFrameNetwork(own, nodes.resolve)
    nodes.later(network.close)
    network.set_peers(["b"])
    first = own.own.serial
    for number in range(20):
        if number == 10:
            until(lambda: len(arrived) == 10)
            own.replace_by(another(nodes, tmp_path / "next"))
        assert network.send("b", b"%d" % number)
    until(lambda: len(arrived) == 20)
    assert arrived == [b"%d" % number for number in range(20)]
    assert seen == [first, own.own.serial]


def test_frames_of_a_revoked_certificate_are_not_taken_on_an_open_stream(nodes: Any, own: NodeIdentity) -> None:
    arrived: list[bytes] = []
    revoked: set[str] = set()

    def admit(peer: Peer) -> None:
        if peer.serial in revoked:
            raise CertificateRefused("revoked")

    nodes.serve("b", {}, receive_frame=lambda peer, frame: arrived.append(frame), admit=admit)
    network = HttpFrameNetwork(own, nodes.resolve)
    nodes.later(network.close)
    network.set_peers(["b"])
    assert network.send("b", b"before")
    until(lambda: arrived == [b"before"])
    revoked.add(own.own.serial)
    for _ in range(5):
        network.send("b", b"after")
        time.sleep(0.05)
    assert arrived == [b"before"]


def test_a_server_with_a_revoked_certificate_is_not_believed_on_an_open_connection_neither(
    nodes: Any, own: NodeIdentity
) -> None:
    seen = serials(nodes)
    client = RpcClient(own, nodes.resolve)
    nodes.later(client.close)
    client.call("b", "echo", {})
    own.refuses = lambda peer: peer.serial == nodes.identity("b").own.serial
    with pytest.raises(Unreachable, match="revoked"):
        client.call("b", "echo", {})
    assert len(seen) == 1


def test_an_ended_certificate_opens_nothing_and_both_sides_are_told(nodes: Any, tmp_path: Path) -> None:
    seen = serials(nodes)
    over = another(nodes, tmp_path / "over", life=-SECOND)
    client = RpcClient(over, nodes.resolve)
    nodes.later(client.close)
    with pytest.raises(Unreachable, match="the certificate of a has ended"):
        client.call("b", "echo", {})
    over.own = Peer("", "", 0.0, 0.0)  # by a clock that is behind, it would be shown
    client = RpcClient(over, nodes.resolve)
    nodes.later(client.close)
    with pytest.raises(Unavailable):  # with the alert's text, unless the reset is faster
        client.call("b", "echo", {})
    assert seen == []
    nodes._identities["c"] = another(nodes, tmp_path / "c", "c", life=-SECOND)
    try:
        nodes.serve("c", {"echo": lambda peer, args, blob: (peer, blob)})
        with pytest.raises(Unreachable, match="its certificate has ended"):
            nodes.client().call("c", "echo", {})
    finally:
        del nodes._identities["c"]


@pytest.mark.parametrize("step", range(1, 6))
def test_a_replacement_that_is_cut_short_leaves_a_pair_that_fits(
    nodes: Any, own: NodeIdentity, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    folder = tmp_path / "own"
    files = folder / certs.AUTHORITY_CERT, folder / certs.NODE_CERT, folder / certs.NODE_KEY
    key, request = admission.new_request("a")
    cert, _ = admission.sign_request(nodes.root, "a", "localhost", request)
    replace, done = os.replace, []

    def dies(source: Path, target: Path) -> None:
        done.append(target)
        if len(done) == step:
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(os, "replace", dies)
    before = own.own.serial
    if step <= 4:
        with pytest.raises(KeyboardInterrupt):
            replace_pair(files[1], files[2], cert, key)
    else:
        replace_pair(files[1], files[2], cert, key)
    monkeypatch.undo()
    loaded = load_identity(*files)
    assert (loaded.own.serial == before) == (step <= 2), "the new one counts once it is whole"
    replace_pair(files[1], files[2], *[file.read_bytes() for file in issued_again(nodes, tmp_path)])
    assert load_identity(*files).own.serial == read_certificate(tmp_path / "again" / certs.NODE_CERT).serial


def issued_again(nodes: Any, tmp_path: Path) -> tuple[Path, Path]:
    return certs.issue(nodes.root, "a", [], tmp_path / "again")


def test_what_a_certificate_says_of_itself(nodes: Any, own: NodeIdentity, tmp_path: Path) -> None:
    peer = read_certificate(tmp_path / "own" / certs.NODE_CERT)
    assert peer == own.own
    assert abs(peer.made - time.time()) < 60
    assert abs(peer.ends - peer.made - certs.NODE_LIFE.total_seconds()) < 1
    context = ssl.create_default_context(cafile=str(nodes.root / "ca.pem"))
    assert context.cert_store_stats()["x509_ca"] == 1


def test_nothing_is_signed_for_longer_than_the_authority_lives_nor_after_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(certs, "AUTHORITY_LIFE", datetime.timedelta(days=10))
    certs.create_authority(tmp_path / "short")
    cert, _ = certs.issue(tmp_path / "short", "a", [])
    ends = authority_ends(tmp_path / "short" / "ca.pem", cert)
    assert abs(ends - time.time() - 10 * 86400) < 60
    assert read_certificate(cert).ends <= ends
    monkeypatch.setattr(certs, "AUTHORITY_LIFE", -SECOND)
    certs.create_authority(tmp_path / "over")
    with pytest.raises(ConfigError, match="has ended"):
        certs.issue(tmp_path / "over", "a", [])
    assert BACKDATE.days == 1


def test_another_authority_takes_over_while_both_are_believed(nodes: Any, tmp_path: Path) -> None:
    """As OPERATIONS.md says: every node's ca.pem holds both while certificates are replaced."""
    certs.create_authority(tmp_path / "second")
    both = (nodes.root / "ca.pem").read_bytes() + (tmp_path / "second" / "ca.pem").read_bytes()

    def of(authority: Path, name: str) -> NodeIdentity:
        cert, key = certs.issue(authority, name, ["localhost"], tmp_path / f"{authority.name}-{name}")
        (cert.parent / "ca.pem").write_bytes(both)
        assert authority_ends(cert.parent / "ca.pem", cert) > time.time()
        return load_identity(cert.parent / "ca.pem", cert, key)

    nodes._identities["d"] = of(tmp_path / "second", "d")
    try:
        nodes.serve("d", {"echo": lambda peer, args, blob: (peer, blob)})
        for authority in (nodes.root, tmp_path / "second"):
            client = RpcClient(of(authority, "a"), nodes.resolve)
            nodes.later(client.close)
            assert client.call("d", "echo", {})[0] == "a"
    finally:
        del nodes._identities["d"]


def until(condition: Any) -> None:
    ends = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.01)
