"""Every fuzzer finds what it is there for: each parser with one of its safeguards taken out, and the fuzzer that must tell."""

from __future__ import annotations

import base64
import calendar
import ipaddress
import json
import re
from email.utils import parsedate
from typing import Any
from urllib.parse import unquote_to_bytes

import msgpack
import pytest

from davfs.consensus.membership import CONFIG, Change, Members
from tests.fuzz.runner import run, table
from tests.fuzz.test_fuzz import PARSERS
from tests.golden import vectors

MOST = 3000  # inputs of which one must show it


def _unquote(piece: str) -> str:
    return unquote_to_bytes(piece.encode("latin-1")).decode()


class _Believing:
    """A digest that is always right."""

    def __init__(self, data: bytes) -> None:
        pass

    def hexdigest(self) -> str:
        return vectors.DIGEST


def _basic(credentials: str) -> tuple[str, str]:
    name, _, password = base64.b64decode(credentials).decode().partition(":")
    return name, password


def _changed(entry: bytes) -> Change:
    _, (before, after) = msgpack.unpackb(entry[len(CONFIG) :])
    return Change(Members(*before), Members(*after))


def _apply(self: Any, command: tuple[Any, ...]) -> Any:
    return ("ok", self._verbs[command[1]](*command[2:]))


# parser -> (what of davfs is replaced, by what, a part of the finding that must come of it)
BROKEN: dict[str, tuple[str, Any, str]] = {
    "if-header": ("davfs.dav.if_header.InvalidInput", KeyError, "KeyError"),
    "range": ("davfs.dav.ranges._SPEC", re.compile(r"(\d*)\s*-\s*(\d*)"), "ValueError"),
    "target": ("davfs.dav.target._unquote", _unquote, "UnicodeDecodeError"),
    "destination": ("davfs.dav.target._unquote", _unquote, "UnicodeDecodeError"),
    "timeout": ("davfs.dav.lock._SECONDS", re.compile(r"second-(\d+)", re.IGNORECASE), "ValueError"),
    "dates": ("davfs.dav.dates.InvalidOperation", ZeroDivisionError, "InvalidOperation"),
    "conditions": ("davfs.dav.conditions.parse_http_date", lambda text: calendar.timegm(parsedate(text) or ()), "ValueError"),
    "checksums": ("davfs.dav.checksums.InvalidInput", ValueError, "ValueError"),
    "numbers": ("davfs.dav.uploads._NUMBER", re.compile(r"\d+"), "ValueError"),
    "authorization": ("davfs.dav.authenticator._basic", _basic, "Error"),
    "forwarded": ("davfs.dav.proxies._parsed", ipaddress.ip_address, "ValueError"),
    "xml": ("davfs.dav.raw_xml._TAG", re.compile(rb"<[^>/]*>"), "what was made of it is refused"),
    "chunked-body": ("davfs.dav.wire.InvalidInput", KeyError, "KeyError"),
    "node-http": ("davfs.rpc.http1.content_length", lambda text: None if text is None else int(text), "ValueError"),
    "node-call": ("davfs.rpc.codec.unpack_header", lambda data: msgpack.unpackb(data, raw=False), "ExtraData"),
    "join-token": ("davfs.rpc.admission.InvalidInput", KeyError, "KeyError"),
    "record": ("davfs.core.record._well_formed", lambda record: True, "AssertionError"),
    "values": ("davfs.core.values._load", lambda text, fields, optional=(): json.loads(text), "KeyError"),
    "document": ("davfs.crdt.documents.AutomergeDocument._guard", lambda self, step: step(), "duplicate seq"),
    "raft-message": ("davfs.consensus.wire._check_append", lambda said: [entry[1] for entry in said["entries"]], "KeyError"),
    "raft-snapshot": ("davfs.consensus.membership.decode", _changed, "TypeError"),
    "raft-command": ("davfs.core.cluster_state.ClusterState.apply", _apply, "TypeError"),
    "chunk-file": ("davfs.storage.chunk_store.blake3", _Believing, "AssertionError"),
    "data-files": ("davfs.storage.data_dir._read_marker", lambda file: json.loads(file.read_bytes())["format"],
        "UnicodeDecodeError"),
    "configuration": ("davfs.node.config.parse_address", lambda text: (text.split(":")[0], int(text.split(":")[1])),
        "ValueError"),
    "archive": ("davfs.cli.archive._DAMAGED", (EOFError,), "ReadError"),
    "node-method": ("davfs.cluster.service.InvalidInput", KeyError, "KeyError"),
    "node-api": ("davfs.node.http_api._number", lambda call, name, default=None: int(call.query.get(name, default)),
        "TypeError"),
    "http-head": ("davfs.dav.head._title", bytes.title, "another request"),
    "tus-requests": ("davfs.dav.tus._number", lambda request, name: int(request.header(name) or 0), "ValueError"),
    "http-request": ("davfs.dav.access.allows", lambda role, least: True, "another volume's file was read"),
}


@pytest.mark.parametrize("name", PARSERS)
def test_a_broken_parser_is_found(name, monkeypatch):
    where, instead, found = BROKEN[name]
    monkeypatch.setattr(where, instead)
    report = run(PARSERS[name], 1, MOST, kinds=1)
    assert any(found in what for what, _ in report.findings), table([report])
