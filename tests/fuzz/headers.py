"""Parsers of single header fields and of URLs, as the DAV side uses them."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

from davfs.core.errors import DavfsError
from davfs.core.model import FILE, ROOT, Entry
from davfs.core.passwords import hash_password
from davfs.dav import checksums, conditions, dates, lock, partial, ranges, target
from davfs.dav.authenticator import Authenticator
from davfs.dav.body import RequestBody
from davfs.dav.errors import NotModified
from davfs.dav.if_header import State, parse_if
from davfs.dav.proxies import FORWARDED, Proxies
from davfs.dav.request import DavSettings, Request
from davfs.dav.target import ROOT_TARGET
from davfs.dav.uploads import _total
from tests.fuzz.runner import Parser

SIZE = 1000
ENTRY = Entry("2.1.1-0", ROOT, "a.txt", FILE, "v", 1_700_000_000_000_000_000, 1_700_000_000_000_000_000, SIZE, "etag-1")
REFUSALS = (DavfsError, NotModified)
SHA1 = b"a9993e364706816aba3e25717850c26c9cd0d89d"


def request(method: str = "GET", body: bytes = b"", **fields: str) -> Request:
    """A request with these fields, names with _ for -."""
    environ: dict[str, Any] = {f"HTTP_{name.upper()}": value for name, value in fields.items()}
    environ |= {"REMOTE_ADDR": "10.0.0.1", "REQUEST_METHOD": method, "HTTP_HOST": "drive.example:8080"}
    return Request(
        method, ROOT_TARGET._replace(volume="demo", path=("a.txt",), slash=False), environ,
        RequestBody(io.BytesIO(body), len(body)), "anna", "id", DavSettings(),
    )  # fmt: skip


def _of(name: str, value: str, method: str = "GET", body: bytes = b"") -> Request:
    fields: dict[str, Any] = {name: value}
    return request(method, body, **fields)


def _parser(name: str, attempt: Callable[[bytes], object], good: Sequence[bytes], tokens: Sequence[bytes] = ()) -> Parser:
    return Parser(name, lambda stack: attempt, good, REFUSALS, tokens)


def _if(data: bytes) -> None:
    header = parse_if(data.decode("latin-1"))
    header.holds(lambda tag: State('"etag-1"', frozenset({"opaquelocktoken:1"})))
    assert header.tokens is not None


def _range(data: bytes) -> None:
    found = ranges.parse_range(data.decode("latin-1"), SIZE)
    for start, stop in found or ():
        assert 0 <= start < stop <= SIZE
    if found and len(found) > 1:
        parts = ranges.Multipart(found, SIZE, "text/plain", "x")
        assert parts.length == sum(map(len, parts.blocks(lambda start, stop: [bytes(stop - start)])))


def _target(data: bytes) -> None:
    found = target.parse_target(data.decode("latin-1"))
    again = target.parse_target(target.href(found.volume, found.path, found.slash))
    assert found.volume in (None, "remote.php") or (again.volume, again.path) == (found.volume, found.path)


def _destination(data: bytes) -> None:
    target.parse_destination(data.decode("latin-1"), {"drive.example"}, "/files")
    target.parse_prefix(data.decode("latin-1"))


def _timeout(data: bytes) -> None:
    assert 1 <= lock.lock_timeout(data.decode("latin-1"), DavSettings()) <= 604_800


def _dates(data: bytes) -> None:
    text = data.decode("latin-1")
    dates.parse_http_date(text)
    for parse in (dates.parse_seconds, dates.parse_any):
        try:
            ns = parse(text)
        except DavfsError:
            continue
        assert dates.http_date(ns) and dates.iso_date(ns)


def _conditions(data: bytes) -> None:
    text = data.decode("latin-1")
    for entry in (ENTRY, None):
        for name in ("if_match", "if_none_match", "if_modified_since", "if_unmodified_since"):
            try:
                conditions.check_preconditions(_of(name, text), entry)
            except REFUSALS:
                continue
    conditions.range_applies(request(if_range=text), ENTRY)


def _checksums(data: bytes) -> None:
    text = data.decode("latin-1")
    for name in ("oc_checksum", "digest", "repr_digest", "content_digest", "content_md5", "want_digest",
        "want_repr_digest"):
        try:
            asked = _of(name, text, "PUT", b"abc")
            checksums.announced(asked)
            while checksums.checked(asked)(1 << 16):
                pass
            checksums.headers(asked, (("MD5", "0" * 32), ("SHA1", SHA1.decode())))
        except DavfsError:
            continue


def _partial(data: bytes) -> None:
    text = data.decode("latin-1")
    for use in (
        lambda: partial._update_range(request("PATCH", b"abc", x_update_range=text)),
        lambda: partial._CONTENT_RANGE.fullmatch(text.strip().lower()),
        lambda: _total(request("MOVE", oc_total_length=text)),
        lambda: request("MOVE", depth=text).depth(("0", "1", "infinity"), "0"),
        lambda: request("PUT", x_oc_mtime=text).mtime_ns(),
        lambda: request(user_agent=text).session,
    ):
        try:
            use()
        except DavfsError:
            continue


def _authorization(stack: ExitStack) -> Callable[[bytes], object]:
    door = Authenticator({"anna": hash_password("secret", b"0123456789abcdef")}, dict, clock=lambda: 0.0)
    # The hashing itself costs time on purpose and is argon2's: here a password is wrong as soon as it is read.
    door._by_password = lambda name, password, fingerprint, address: _unknown(name, password)  # type: ignore[method-assign]
    return lambda data: door.identify(data.decode("latin-1"), "10.0.0.1")


def _unknown(name: str, password: str) -> Any:
    raise DavfsError(f"{name}{len(password)}")


def _forwarded(stack: ExitStack) -> Callable[[bytes], object]:
    doors = [Proxies(("10.0.0.0/8",), family, "/files") for family in ("x-forwarded", FORWARDED)]

    def attempt(data: bytes) -> None:
        text = data.decode("latin-1")
        names = ("FORWARDED", "X_FORWARDED_FOR", "X_FORWARDED_PROTO", "X_FORWARDED_HOST", "X_FORWARDED_PREFIX")
        for door in doors:
            environ = {f"HTTP_{name}": text for name in names} | {"REMOTE_ADDR": "10.0.0.1", "REQUEST_URI": "/files/demo/a"}
            try:
                seen, prefix = door.seen(environ)
            except DavfsError:
                continue
            assert "\n" not in prefix and not any(name.startswith("HTTP_X_FORWARDED") for name in seen)

    return attempt


PARSERS = (
    _parser(
        "if-header",
        _if,
        (
            b"(<opaquelocktoken:1>)",
            b'</demo/a.txt> (<opaquelocktoken:1> ["etag-1"]) (Not <DAV:no-lock>)',
            b'<http://drive.example/demo/a> (["a"]) </b> ([W/"b"] Not <c:d>) (<e:f>)',
            b'([  "etag-1"  ])',
        ),
        (b"(", b"(Not <", b"([", b'["x"]', b"<", b">)", b"] "),
    ),
    _parser(
        "range",
        _range,
        (b"bytes=0-99", b"bytes=-5,5-", b"bytes=0-0, 2-3,10-20", b"bytes=999-1000", b"items=1-2"),
        (b"0-1,", b",", b"-"),
    ),
    _parser(
        "target",
        _target,
        (
            b"/demo/a%20b/c", b"http://drive.example/demo/x", b"*", b"/remote.php/dav/files/demo/%C3%A9",
            b"/remote.php/dav/uploads/demo/1/.file", b"/demo/" + b"d/" * 30, b"/demo/a%2Fb?x#y",
        ),
        (b"%c3%28", b"%f0%9f%98%80", b"/./", b"/../", b"%ed%a0%80"),
    ),
    _parser(
        "destination",
        _destination,
        (b"/files/demo/b", b"http://drive.example:80/files/demo/b%20c", b"https://other/x", b"http://[::1]:80/files/a"),
        (b"//", b"http://[", b"]", b"@", b":99999"),
    ),
    _parser("timeout", _timeout, (b"Second-100", b"Infinite, Second-4100000000", b"Extend-1,second-1"), (b"Second-",
        b"second-")),
    _parser(
        "dates",
        _dates,
        (
            b"Sun, 06 Nov 1994 08:49:37 GMT", b"Sunday, 06-Nov-94 08:49:37 GMT", b"Sun Nov  6 08:49:37 1994",
            b"1700000000.5",
            b"2024-02-30T00:00:00Z", b"1994-11-06T08:49:37Z", b"1700000000",
        ),
        (b"GMT", b"+0000", b"-9999", b"Feb", b"29"),
    ),
    _parser("conditions", _conditions, (b'"etag-1"', b'W/"a", "etag-1"', b"*", b"etag-1",
        b"Sun, 06 Nov 1994 08:49:37 GMT"), (b'"', b', "')),
    _parser(
        "checksums",
        _checksums,
        (
            b"SHA1:" + SHA1, b"ADLER32:84b021f MD5:900150983cd24fb0d6963f7d28e17f72", b"sha-256=:" + b"A" * 43 + b"=:",
            b"md5=kAFQmDzST7DWlj99KOF/cg==,SHA=qZk+NkcGgWq6PiVxeFDCbJzQ2J0=", b"kAFQmDzST7DWlj99KOF/cg==",
            b"sha-256;q=1, md5;q=0.3",
            b"adler=3da1195, sha-512=9",
        ),
        (b"=:", b":,", b"sha-256=", b"ADLER32:", b";q=", b"="),
    ),
    _parser(
        "numbers",
        _partial,
        (b"bytes=3-6", b"append", b"bytes=-4", b"bytes 0-2/3", b"bytes 0-2/*", b"1700000000", b"infinity", b"5",
        b"9" * 5000, b"Mozilla/5.0 (x) y/2"),
        (b"bytes=", b"bytes "),
    ),
    Parser(
        "authorization",
        _authorization,
        (b"Basic YW5uYTpzZWNyZXQ=", b"Bearer davfs_1_secret", b"Basic ZGF2ZnM6ZGF2ZnNfMV9zZWNyZXQ=", b"Digest username=x",
        b"basic w6k6w6k="),
        REFUSALS,
        (b"Basic ", b"Bearer davfs_", b"_"),
    ),
    Parser(
        "forwarded",
        _forwarded,
        (
            b'for=192.0.2.60;proto=http;by=203.0.113.43;host="a:80"', b'For="[2001:db8:cafe::17]:4711", for=10.1.1.1',
            b"192.0.2.1, 10.0.0.7",
            b"https", b"drive.example, b", b"/files", b'for="\\"x"',
        ),
        REFUSALS,
        (b"for=", b'="', b"\\", b",", b";"),
    ),
)
