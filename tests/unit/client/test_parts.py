"""The parts of the client library that need no node: its folder, the chunks that it keeps, questions to several nodes."""

from __future__ import annotations

import datetime
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from davfs.client.bearer import KeptChunks
from davfs.client.link import Link
from davfs.client.profile import PROFILE, create_profile, load_profile, renew_profile
from davfs.core.chunking import digest_of
from davfs.core.errors import ConfigError, DavfsError, TokenRefused, Unavailable, UnknownFormat
from davfs.rpc import admission, certs
from davfs.rpc.identity import load_identity
from davfs.rpc.server import RpcServer


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("authority")
    certs.create_authority(directory)
    return directory


@pytest.fixture
def folder(authority: Path, tmp_path: Path) -> Path:
    create_profile(authority, "backup", {"node-1": ("127.0.0.1", 1), "node-2": ("::1", 2)}, tmp_path / "p")
    return tmp_path / "p"


def test_a_folder_is_read_as_it_was_written(folder: Path) -> None:
    profile = load_profile(folder)
    assert profile.identity.name == "program:backup"
    assert profile.nodes == {"node-1": ("127.0.0.1", 1), "node-2": ("::1", 2)}
    assert (folder / PROFILE).stat().st_mode & 0o077 == 0


def test_an_ended_certificate_says_what_to_do(
    authority: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(certs, "PROGRAM_LIFE", datetime.timedelta(seconds=-1))
    create_profile(authority, "backup", {"node-1": ("127.0.0.1", 1)}, tmp_path / "old")
    with pytest.raises(ConfigError, match="davfs cert renew --program"):
        load_profile(tmp_path / "old")
    monkeypatch.undo()
    assert renew_profile(tmp_path / "old", authority).name == "program:backup"
    assert load_profile(tmp_path / "old").identity.own.ends > 0


def spoil_format(folder: Path) -> None:
    table = json.loads((folder / PROFILE).read_text())
    (folder / PROFILE).write_text(json.dumps({**table, "version": 2}))


def spoil_nodes(folder: Path) -> None:
    (folder / PROFILE).write_text('{"version": 1, "name": "x", "nodes": {}}')


def spoil_text(folder: Path) -> None:
    (folder / PROFILE).write_text("[]")


def spoil_key(folder: Path) -> None:
    (folder / certs.PROGRAM_KEY).write_text("no key")


@pytest.mark.parametrize(
    ("spoil", "error", "says"),
    [
        (spoil_format, UnknownFormat, "format 2"),
        (spoil_nodes, ConfigError, "names no node"),
        (spoil_text, ConfigError, "davfs cert program"),
        (spoil_key, ConfigError, r"program\.key"),
        (lambda folder: (folder / PROFILE).unlink(), ConfigError, "davfs cert program"),
    ],
)
def test_what_is_wrong_with_a_folder_is_named(
    folder: Path, spoil: Callable[[Path], None], error: type[DavfsError], says: str
) -> None:
    spoil(folder)
    with pytest.raises(error, match=says):
        load_profile(folder)


def test_a_nodes_certificate_makes_no_program(authority: Path, folder: Path) -> None:
    cert, key = certs.issue(authority, "node-9", [], folder / "n")
    (folder / certs.PROGRAM_CERT).write_bytes(cert.read_bytes())
    (folder / certs.PROGRAM_KEY).write_bytes(key.read_bytes())
    with pytest.raises(ConfigError, match="not of a program"):
        load_profile(folder)


def test_kept_chunks_are_bounded_and_right() -> None:
    kept = KeptChunks(100)
    chunks = [bytes([number]) * 40 for number in range(4)]
    for data in chunks[:2]:
        kept.put(digest_of(data), data)
    assert kept.get(digest_of(chunks[0])) == chunks[0]  # now wanted later than the other
    kept.put(digest_of(chunks[2]), memoryview(chunks[2]))
    assert [kept.get(digest_of(data)) for data in chunks] == [chunks[0], None, chunks[2], None]
    kept.put(digest_of(chunks[3]), b"damaged")
    kept.put(digest_of(bytes(101)), bytes(101))
    assert kept.get(digest_of(chunks[3])) is None
    assert kept.get(digest_of(bytes(101))) is None


def test_the_first_node_that_can_answers_and_others_are_learned(authority: Path, tmp_path: Path) -> None:
    asked: list[str] = []

    def handler(name: str, answer: Any) -> Any:
        def handle(peer: str, args: dict[str, Any], blob: bytes) -> tuple[Any, bytes]:
            asked.append(name)
            if isinstance(answer, Exception):
                raise answer
            return answer, b""

        return handle

    servers: list[RpcServer] = []

    def serve(name: str, answer: Any) -> RpcServer:
        cert, key = certs.issue(authority, name, [], tmp_path / name)
        identity = load_identity(authority / certs.AUTHORITY_CERT, cert, key)
        server = RpcServer("127.0.0.1", 0, identity, {"ask": handler(name, answer)}, for_programs=["ask"])
        server.start()
        servers.append(server)
        return server

    try:
        third = serve("node-3", {"nodes": []})
        second = serve("node-2", {"nodes": [{"name": "node-3", "rpc": ["127.0.0.1", third.port]}]})
        first = serve("node-1", Unavailable("no leader"))
        nodes = {"node-1": ("127.0.0.1", first.port), "node-2": ("127.0.0.1", second.port)}
        create_profile(authority, "asker", nodes, tmp_path / "asker")
        link = Link(load_profile(tmp_path / "asker"))
        try:
            link.ask("ask", {}, 5.0)
            link.ask("ask", {}, 5.0)
            assert asked == ["node-1", "node-2", "node-2"], "who answered last is asked first"
            second.stop()
            link.ask("ask", {}, 5.0)
            assert asked[-1] == "node-3", "a node that was learned"
            third.handlers = {"ask": handler("node-3", TokenRefused())}
            with pytest.raises(TokenRefused):
                link.ask("ask", {}, 5.0)
            third.stop()
            with pytest.raises(Unavailable, match="node-1: no leader"):
                link.ask("ask", {}, 1.0)
        finally:
            link.close()
    finally:
        for server in servers:
            server.stop()


def test_a_program_renews_its_certificate_while_it_works(
    authority: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    create_profile(authority, "asker", {"node-1": ("127.0.0.1", 1)}, tmp_path / "asker")
    shown: list[str] = []
    signs = [False]

    def renew(peer: str, args: Any, blob: bytes) -> tuple[Any, bytes]:
        if not signs[0]:
            raise Unavailable("no key here")
        return {"name": peer, "cert": admission.sign_request(authority, peer, "", args["request"])[0]}, b""

    cert, key = certs.issue(authority, "node-1", [], tmp_path / "node-1")
    server = RpcServer(
        "127.0.0.1", 0, load_identity(authority / certs.AUTHORITY_CERT, cert, key),
        {"ask": lambda peer, args, blob: ({}, b""), "node.renew": renew},
        for_programs=["ask", "node.renew"], admit=lambda peer: shown.append(peer.serial),
    )  # fmt: skip
    server.start()
    profile = load_profile(tmp_path / "asker")
    link = Link(replace(profile, nodes={"node-1": ("127.0.0.1", server.port)}))
    try:
        first = profile.identity.own
        link.ask("ask", {}, 2.0)
        assert set(shown) == {first.serial} and profile.identity.own is first, "it is not time"
        profile.identity.own = replace(first, made=first.made - 10 * (first.ends - first.made))
        link.ask("ask", {}, 2.0)
        until(lambda: "no key here" in caplog.text)
        signs[0] = True
        link.ask("ask", {}, 2.0)
        assert profile.identity.own.serial == first.serial, "once an hour is enough"
        link._not_before = 0.0
        link.ask("ask", {}, 2.0)
        until(lambda: profile.identity.own.serial != first.serial)
        link.ask("ask", {}, 2.0)
        assert shown[-1] == profile.identity.own.serial == load_profile(tmp_path / "asker").identity.own.serial
    finally:
        link.close()
        server.stop()


def until(condition: Callable[[], bool]) -> None:
    ends = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.01)
