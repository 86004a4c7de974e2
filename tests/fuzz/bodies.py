"""Parsers of bodies and framing: XML, chunked bodies, messages between nodes."""

from __future__ import annotations

import io
from collections.abc import Callable
from random import Random
from typing import Any

import msgpack

from davfs.core.errors import DavfsError
from davfs.dav import lock, propfind, proppatch, raw_xml, report, xml
from davfs.dav.wire import ChunkedBody
from davfs.rpc import admission, codec, http1
from davfs.rpc.frame_stream import pack_frames, read_frames
from tests.fuzz.headers import request
from tests.fuzz.runner import Failed, Parser

# --- XML --------------------------------------------------------------------------------------------------------------

HEAD = b'<?xml version="1.0" encoding="utf-8"?>'
PROPFIND = b'<D:propfind xmlns:D="DAV:"><D:prop><D:getetag/><x:y xmlns:x="urn:x"/></D:prop></D:propfind>'
ALLPROP = b'<propfind xmlns="DAV:"><allprop/><include><x xmlns=""/></include></propfind>'
LOCKINFO = (
    b'<D:lockinfo xmlns:D="DAV:"><D:lockscope><D:exclusive/></D:lockscope><D:locktype><D:write/></D:locktype>'
    b"<D:owner><D:href>mailto:anna</D:href></D:owner></D:lockinfo>"
)
PROPPATCH = (
    b'<D:propertyupdate xmlns:D="DAV:" xml:lang="en"><D:set><D:prop><z:a xmlns:z="urn:z" b="c">t<!-- c --><i/></z:a>'
    b"<D:getlastmodified>Sun, 06 Nov 1994 08:49:37 GMT</D:getlastmodified></D:prop></D:set>"
    b'<D:remove><D:prop><x xmlns="urn:x"/></D:prop></D:remove></D:propertyupdate>'
)
SYNC = (
    b'<D:sync-collection xmlns:D="DAV:"><D:sync-token/><D:sync-level>1</D:sync-level>'
    b"<D:limit><D:nresults>10</D:nresults></D:limit>"
    b"<D:prop><D:getetag/></D:prop></D:sync-collection>"
)
BODIES = (PROPFIND, ALLPROP, LOCKINFO, PROPPATCH, SYNC)
XML_TOKENS = (
    b'<!DOCTYPE a [<!ENTITY b "c">]>', b"<!DOCTYPE a SYSTEM 'file:///etc/passwd'>", b"&lt;", b"&b;", b"&#xFFFF;",
    b"<![CDATA[", b"]]>",
    b"<!--", b"-->", b"<?x y?>", b'encoding="utf-16"', b'encoding="utf-7"', b'encoding="cp037"', b'encoding="rot13"',
    b'xmlns="DAV:"',
    b'xmlns:D="urn:x"', b'xmlns=""', b"<D:prop>", b"</D:prop>", b"<a>", b"</a>", b"<D:set><D:prop>", b'xml:lang=""',
    b"D:", b"\xef\xbb\xbf",
    b"\xff\xfe", b"<D:owner>", b"<D:nresults>", b"<x:y xmlns:x=' \"'/>",
)  # fmt: skip


def make_xml(random: Random) -> bytes:
    """A body of one of the methods, or one that is made to cost: deep, wide, with namespaces or attributes by the thousand."""
    body = random.choice(BODIES)
    draw = random.random()
    if draw < 0.02:
        inner = random.choice((_deep, _wide, _namespaces, _attributes, _bomb))(random, 1 << random.randint(4, 14))
        at = random.choice([place for place in range(len(body)) if body[place : place + 1] == b"<"][1:])
        body = body[:at] + inner + body[at:]
    if draw > 0.9:
        body = body.decode().encode(random.choice(("utf-16", "latin-1", "utf-8-sig", "utf-32")))
    return HEAD + body if random.random() < 0.3 else body


def _deep(random: Random, count: int) -> bytes:
    declared = random.random() < 0.5
    return b"".join(b'<a xmlns:n%d="x">' % n if declared else b"<a>" for n in range(count)) + b"</a>" * count


def _wide(random: Random, count: int) -> bytes:
    return b"".join(b'<D:a xmlns:n%d="x"/>' % n for n in range(count)) if random.random() < 0.5 else b"<D:a/>" * count


def _namespaces(random: Random, count: int) -> bytes:
    return b"<D:a " + b" ".join(b'xmlns:n%d="x"' % n for n in range(count)) + b">" + b"<b/>" * count + b"</D:a>"


def _attributes(random: Random, count: int) -> bytes:
    return b"<D:a " + b" ".join(b'n%d="x"' % n for n in range(count)) + b"/>" + b'<D:b c="' + b"x" * count * 8 + b'"/>'


def _bomb(random: Random, count: int) -> bytes:
    return b"<!DOCTYPE a [" + b"".join(b'<!ENTITY e%d "&e%d;&e%d;">' % (n + 1, n, n) for n in range(count % 64)) + b"]>"


def _xml(data: bytes) -> None:
    root = xml.parse(data)
    for use in (
        lambda: propfind.read_wanted(request("PROPFIND", data)).response(SUBJECT),
        lambda: lock._read_lockinfo(root) if root is not None else None,
        lambda: report._parse(request("REPORT", data), root) if root is not None else None,
        lambda: _proppatch(data),
    ):
        try:
            use()
        except DavfsError:
            continue


def _proppatch(data: bytes) -> None:
    made = proppatch.normalize(data)
    try:  # what is kept of a body that was taken can be read again
        for name, text in raw_xml.properties(data).items():
            found = xml.parse(text.encode())
            assert found is not None and found.tag == name, (name, text)
        assert xml.parse(made) is not None
    except DavfsError as error:
        raise Failed(f"what was made of it is refused: {error}") from error


def _subject() -> Any:
    from davfs.dav.properties import Subject
    from tests.fuzz.headers import ENTRY

    return Subject(ENTRY, "/demo/a.txt", "a.txt")


SUBJECT = _subject()

# --- framing ----------------------------------------------------------------------------------------------------------


class _Reader:
    """What ``ChunkedBody`` reads from."""

    def __init__(self, data: bytes, step: int) -> None:
        self._stream = io.BytesIO(data)
        self._size = len(data)
        self._step = step

    def readline(self, size: int) -> bytes:
        return self._stream.readline(size)

    def read(self, size: int) -> bytes:
        return self._stream.read(min(size, self._step))

    def buffered(self) -> int:
        return self._size - self._stream.tell()


def _chunked(data: bytes) -> None:
    body = ChunkedBody(_Reader(data, 1 + len(data) % 7))  # type: ignore[arg-type]
    got = b"".join(iter(lambda: body.read(64), b""))
    assert body.finished and len(got) <= len(data)


class Socket:
    """As much of a TLS socket as ``http1.Stream`` uses; the peer closes after ``data``."""

    def __init__(self, data: bytes) -> None:
        self._view = memoryview(data)
        self._file = _DEVNULL

    def fileno(self) -> int:
        return self._file.fileno()

    def pending(self) -> int:
        return len(self._view)

    def settimeout(self, limit: float | None) -> None:
        pass

    def recv_into(self, target: memoryview) -> int:
        count = min(len(self._view), len(target))
        target[:count] = self._view[:count]
        self._view = self._view[count:]
        return count


_DEVNULL = open("/dev/null", "rb")  # noqa: SIM115 - as long as the process


def _http1(data: bytes) -> None:
    stream = http1.Stream(Socket(data))  # type: ignore[arg-type]
    head = stream.read_head()
    try:
        _, _, fields = http1.parse_request_head(head)
    except http1.ProtocolError:
        status, _, pairs = http1.parse_response_head(head)
        assert 0 <= status <= 999
        fields = {name.lower(): value for name, value in pairs}
    length = http1.content_length(fields.get("content-length"))
    if length is None:
        read_frames(stream, lambda frame: None)
        return
    size = codec.header_size(stream.read_exact(codec.PREFIX), min(length, 1 << 20))
    codec.unpack_header(stream.read_exact(size))


def _call(data: bytes) -> None:
    size = codec.header_size(data[: codec.PREFIX], len(data))
    value = codec.unpack_header(data[codec.PREFIX : codec.PREFIX + size])
    error = codec.unpack_error(value, "node-2")
    assert codec.pack_error(error) and error.message is not None


def packed(value: Any) -> bytes:
    return bytes(msgpack.packb(value, use_bin_type=True))


MSGPACK_TOKENS = (
    b"\xc0", b"\xc1", b"\xc3", b"\xd9\xff", b"\xdb\xff\xff\xff\xff", b"\xc6\x7f\xff\xff\xff", b"\xdd\xff\xff\xff\xff",
    b"\xdf\xff\xff\xff\xff",
    b"\xcf" + b"\xff" * 8, b"\xd3\x80" + b"\0" * 7, b"\xcb\x7f\xf8" + b"\0" * 6, b"\xd6\xff\0\0\0\0", b"\xc7\x0c\xff"
    + b"\xff" * 12, b"\x90",
    b"\x91", b"\x80", b"\x81\x90", b"\x81\xc4\0", b"\xa3\xff\xff\xff", b"\x91" * 2000,
)  # fmt: skip
REQUEST_HEAD = b"POST /rpc/v1/replica.append HTTP/1.1\r\nHost: node-1\r\nContent-Length: %d\r\n\r\n"
CALL = codec.pack_header({"volume": "1a" * 16, "epoch": [1, 7], "records": [4], "chunks": []}) + b"blob"

JOIN_TOKEN = "davfs-join-1." + "gqR0ZXN0" * 20


def _parser(name: str, attempt: Callable[[bytes], object], good: Any, *allowed: type[BaseException], **more: Any) -> Parser:
    return Parser(name, lambda stack: attempt, good, (DavfsError, *allowed), **more)


PARSERS = (
    _parser("xml", _xml, make_xml, tokens=XML_TOKENS, limit=1 << 20),
    _parser(
        "chunked-body",
        _chunked,
        (b"3\r\nabc\r\n0\r\n\r\n", b"5;a=b\r\nabcde\r\n10\r\n0123456789abcdef\r\n0\r\nX: y\r\n\r\n", b"0\r\n\r\n"),
        tokens=(b"0\r\n\r\n", b"1\r\nx\r\n", b"ffffffff\r\n"),
    ),
    _parser(
        "node-http",
        _http1,
        (
            REQUEST_HEAD % len(CALL) + CALL,
            b"POST /frames/v1 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + pack_frames([b"one", b"", b"x" * 50])
            + b"0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n\0\0\0\1\x80x",
        ),
        http1.ProtocolError,
        http1.ConnectionEnded,
        codec.MalformedBody,
        tokens=(b"\r\n\r\n", b"Content-Length: 4\r\n", b"Transfer-Encoding: chunked\r\n"),
    ),
    _parser(
        "node-call",
        _call,
        (CALL, codec.pack_header({"error": "volume-held", "message": "held", "data": {"holder": "node-1"}}),
        codec.pack_header([1, None])),
        codec.MalformedBody,
        tokens=MSGPACK_TOKENS,
    ),
    _parser("join-token", lambda data: admission.read_token(data.decode("latin-1")), (JOIN_TOKEN.encode(),), tokens=(
        b"davfs-join-1.",)),
)
