"""The question whether a WebDAV server answers: what is sent, what counts, what is not followed."""

from __future__ import annotations

import base64
import ssl
import threading
import warnings
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from davfs.rpc import certs
from davfs.rpc.probe import SERVED, probe
from tests.support.ports import free_run


class Answering(BaseHTTPRequestHandler):
    """Answers each PROPFIND with the status that its path names, and remembers it."""

    seen: list[tuple[str, dict[str, str]]]

    def do_PROPFIND(self) -> None:
        self.seen.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
        self.send_response(int(self.path.strip("/")))
        self.send_header("Location", "/207/")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing to the terminal."""


def _serve(context: ssl.SSLContext | None) -> Iterator[tuple[int, list[tuple[str, dict[str, str]]]]]:
    seen: list[tuple[str, dict[str, str]]] = []
    handler = type("Handler", (Answering,), {"seen": seen})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server.server_port, seen
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def plain() -> Iterator[tuple[int, list[tuple[str, dict[str, str]]]]]:
    yield from _serve(None)


@pytest.fixture
def secure(tmp_path: Path) -> Iterator[tuple[int, list[tuple[str, dict[str, str]]]]]:
    certs.create_authority(tmp_path)
    cert, key = certs.issue_public(tmp_path, ["elsewhere.example"], tmp_path / "public")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    yield from _serve(context)


@pytest.mark.parametrize("status", [207, 401, 423, 503])
def test_the_status_is_told(plain, status):
    port, seen = plain
    assert probe(f"http://127.0.0.1:{port}/{status}/") == status
    assert [(path, headers["depth"]) for path, headers in seen] == [(f"/{status}/", "0")]


def test_a_redirection_is_an_answer_and_not_followed(plain):
    port, seen = plain
    assert probe(f"http://127.0.0.1:{port}/302/") == 302
    assert len(seen) == 1


def test_nobody_there_is_none():
    assert probe(f"http://127.0.0.1:{free_run(1)}/207/", timeout=1.0) is None


def test_a_proxy_of_the_environment_is_not_asked(plain, monkeypatch):
    port, _ = plain
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_run(1)}")
    monkeypatch.delenv("no_proxy", raising=False)
    assert probe(f"http://127.0.0.1:{port}/207/") == SERVED


def test_a_login_goes_over_http_on_loopback(plain):
    port, seen = plain
    probe(f"http://127.0.0.1:{port}/207/", ("anna", "secret"))
    assert seen[0][1]["authorization"] == "Basic " + base64.b64encode(b"anna:secret").decode()


def test_an_unknown_certificate_is_an_answer_and_gets_no_login(secure):
    port, seen = secure
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert probe(f"https://127.0.0.1:{port}/207/", ("anna", "secret")) == SERVED
    assert "authorization" not in seen[0][1]
