"""URLs, If headers, ranges, dates, names: the parsing and evaluating code, without a server."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from davfs.core.errors import InvalidInput
from davfs.core.names import check_name, check_path, check_volume_name
from davfs.dav.dates import SECOND, http_date, iso_date, parse_any, parse_http_date, parse_seconds
from davfs.dav.head import MAX_KNOWN_NAME, environ_key, parse_plain
from davfs.dav.if_header import State, parse_if
from davfs.dav.ranges import Multipart, parse_range
from davfs.dav.target import OtherServer, Target, host_name, href, parse_destination, parse_target
from davfs.dav.xml import escape, parse

NAMES = st.text(
    st.characters(blacklist_categories=["Cs", "Cc"], blacklist_characters="/\ufffe\uffff"),
    min_size=1,
    max_size=60,
).filter(lambda n: n not in (".", "..") and len(n.encode()) <= 255)

# --- names and URLs ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "a\0b", "a\nb", "\x7f", "\ud800", "x" * 256, "é" * 128, "\uffff"]
)
def test_names_refused(name):
    with pytest.raises(InvalidInput):
        check_name(name)


@pytest.mark.parametrize("name", ["a", "x" * 255, "é" * 127, "...", "a b", 'con<>:"|?*.', "\u0301", "😀", "#%;&+"])
def test_names_taken(name):
    assert check_name(name) == name


def test_path_is_bounded():
    assert len(check_path(["x" * 255] * 16)) == 16
    with pytest.raises(InvalidInput):
        check_path(["x" * 255] * 17)


@pytest.mark.parametrize("name", ["", ".x", ":dir_browser", "a b", "é", "a" * 65, "a/b"])
def test_volume_names_refused(name):
    with pytest.raises(InvalidInput):
        check_volume_name(name)


@given(st.lists(NAMES, max_size=5), st.booleans())
def test_href_and_target_are_inverse(names, collection):
    path = tuple(names)
    assert parse_target(href("demo", path, collection)) == Target("demo", path, collection)
    assert parse_destination("http://x" + href("demo", path, collection), ["x"]) == Target("demo", path, collection)


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("/", Target(None, (), True)),
        ("*", Target(None, (), True)),
        ("/demo", Target("demo", ())),
        ("/demo/a%3Fb?q=1", Target("demo", ("a?b",))),
        ("/demo/a;b", Target("demo", ("a;b",))),
        ("/demo//a///b/", Target("demo", ("a", "b"), True)),
        ("http://host:80/demo/a", Target("demo", ("a",))),
        ("/demo/%e2%82%ac%E2%82%AC", Target("demo", ("€€",))),
        ("/demo/\xe2\x82\xac", Target("demo", ("€",))),
        ("/demo/a+b", Target("demo", ("a+b",))),
    ],
)
def test_targets(url, target):
    assert parse_target(url) == target


@pytest.mark.parametrize(
    "url", ["demo", "/demo/%ff", "/demo/%00", "/demo/a%2Fb", "/demo/../x", "/demo/%2e%2e/x", "a:b", ""]
)
def test_targets_refused(url):
    with pytest.raises(InvalidInput):
        parse_target(url)


def test_destinations():
    assert parse_destination("/demo/q%3Fx", ["host"]).path == ("q?x",)
    assert parse_destination("https://HOST:8443/demo/s%3By", ["host"]).path == ("s;y",)
    assert parse_destination("http://host/demo/a;b", ["host"]).path == ("a;b",)
    assert parse_destination("http://anything/demo/a", []).path == ("a",)
    with pytest.raises(OtherServer):
        parse_destination("http://elsewhere/demo/a", ["host"])
    for bad in ("demo/a", "//host/demo", "http://[::1/demo", "mailto:x"):
        with pytest.raises(InvalidInput):
            parse_destination(bad, ["host"])


def test_host_names():
    assert [host_name(h) for h in ("Host:80", "host", "[::1]:80", "")] == ["host", "host", "::1", ""]


# --- If ---------------------------------------------------------------------------------------------------------------

HERE = State('"e1"', frozenset({"urn:a"}))
THERE = State('"e2"', frozenset({"urn:b"}))
NOWHERE = State(None, frozenset())


@pytest.mark.parametrize(
    ("header", "holds"),
    [
        ("(<urn:a>)", True),
        ("(<urn:b>)", False),
        ('(["e1"])', True),
        ('([W/"e1"])', True),
        ("([e1])", True),
        ('(["e2"])', False),
        ('(<urn:a> ["e1"])', True),
        ('(<urn:a> ["e2"])', False),
        ('(<urn:b>) (["e1"])', True),
        ("(Not <urn:b>)", True),
        ("(Not <urn:a>)", False),
        ("(<urn:b>) (Not <DAV:no-lock>)", True),
        ("(<urn:a> Not <DAV:no-lock>)", True),
        ("(<DAV:no-lock>)", False),
        ("</there> (<urn:b>)", True),
        ("</there> (<urn:a>)", False),
        ('</there> (["e2"] Not ["e1"])', True),
        ("</there> (<urn:a>) (<urn:b>)", True),
        ("</there> (<urn:a>) </here> (<urn:a>)", True),
        ('</nowhere> (["e1"])', False),
        ('</nowhere> (Not ["e1"])', True),
        ('(<urn:a>)(Not<urn:b>["x"])', True),
    ],
)
def test_if_header(header, holds):
    states = {None: HERE, "/here": HERE, "/there": THERE, "/nowhere": NOWHERE}
    assert parse_if(header).holds(lambda tag: states[tag]) is holds


@pytest.mark.parametrize(
    "header",
    [
        "",
        "()",
        "(<urn:a>",
        "<urn:a>",
        "(<urn:a>) </x> (<urn:b>)",
        "(Not)",
        "(Not Not <a>)",
        "</x> </y> (<a>)",
        "(<a> ( <b>))",
        "x",
        "</x>",
        "(<a>) x",
        "(<a>))",
    ],
)
def test_if_header_malformed(header):
    with pytest.raises(InvalidInput):
        parse_if(header)


def test_if_header_tokens_wherever_they_stand():
    assert parse_if('</a> (<urn:1> ["e"]) (Not <urn:2>) </b> (<urn:3>)').tokens == {"urn:1", "urn:2", "urn:3"}


@given(st.text(max_size=60))
def test_if_header_never_fails_otherwise(text):
    with contextlib.suppress(InvalidInput):
        parse_if(text)


# --- ranges -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("bytes=0-0", [(0, 1)]),
        ("bytes=2-", [(2, 10)]),
        ("bytes=-3", [(7, 10)]),
        ("bytes=-30", [(0, 10)]),
        ("bytes=0-0,2-3", [(0, 1), (2, 4)]),
        ("bytes=8-20", [(8, 10)]),
        ("bytes=10-", []),
        ("bytes=-0", []),
        ("bytes=0-0, 20-", [(0, 1)]),
        ("bytes=3-2", None),
        ("bytes=", None),
        ("bytes=a-b", None),
        ("lines=0-1", None),
        ("bytes=0-5,3-8", None),
        ("bytes=-", None),
        ("bytes=" + ",".join(["0-0"] * 40), None),
    ],
)
def test_ranges(header, expected):
    assert parse_range(header, 10) == expected


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), min_size=1, max_size=6), st.integers(0, 25))
def test_ranges_against_the_plain_reading(specs, size):
    data = bytes(range(size))
    found = parse_range("bytes=" + ",".join(f"{a}-{b}" for a, b in specs), size)
    wanted = [data[a : b + 1] for a, b in specs if data[a : b + 1]]
    if any(a > b for a, b in specs):
        assert found is None
    elif found is not None:
        assert [data[r.start : r.stop] for r in found] == wanted


def test_multipart_has_the_length_that_it_says():
    data = bytes(range(256))
    parts = Multipart(parse_range("bytes=0-3,100-199,-1", 256) or [], 256, "text/plain", "B")
    body = b"".join(bytes(block) for block in parts.blocks(lambda a, b: [data[a:b]]))
    assert len(body) == parts.length
    assert body.count(b"--B") == 4
    assert b"Content-Range: bytes 255-255/256\r\n\r\n\xff\r\n--B--" in body


# --- dates ------------------------------------------------------------------------------------------------------------


@given(st.integers(0, 4_000_000_000))
def test_dates_are_inverse(seconds):
    assert parse_http_date(http_date(seconds * SECOND)) == seconds
    assert parse_any(iso_date(seconds * SECOND)) == seconds * SECOND


def test_dates():
    assert http_date(784111777 * SECOND) == "Sun, 06 Nov 1994 08:49:37 GMT"
    assert parse_http_date("Sunday, 06-Nov-94 08:49:37 GMT") == 784111777
    assert parse_http_date("Sun Nov  6 08:49:37 1994") == 784111777
    assert parse_http_date("rubbish") is parse_http_date("") is parse_http_date(None) is None
    assert parse_seconds("1700000000.25") == 1_700_000_000_250_000_000
    for bad in ("x", "-1", "nan", "inf", "1e99"):
        with pytest.raises(InvalidInput):
            parse_seconds(bad)


# --- XML --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        b"<a",
        b"<a xmlns:b=''><b:c/></a>",
        b"<!DOCTYPE a [<!ENTITY x 'y'>]><a>&x;</a>",
        b"\xff\xfe",
        b"<a><b></a></b>",
        b"<?xml version='1.0' encoding='nonsense'?><a/>",
    ],
)
def test_xml_refused(body):
    with pytest.raises(InvalidInput):
        parse(body)


def test_xml_empty():
    assert parse(b" \r\n") is None


@given(st.text(max_size=50))
def test_escaped_text_is_xml(text):
    root = parse(f"<a>{escape(text)}</a>".encode("utf-8", "replace"))
    assert root is not None
    if text.isprintable():
        assert (root.text or "") == text.encode("utf-8", "replace").decode()


# --- heads ------------------------------------------------------------------------------------------------------------


def test_a_plain_head_is_taken_apart():
    head = parse_plain(b"PROPFIND /demo/a%20b%2fc;d?e=%66 HTTP/1.1\r\nhost: h:80\r\nX-OC-MTIME:\t5 \r\nEmpty:\r\n\r\n")
    assert head is not None
    assert head[:4] == (b"PROPFIND", b"/demo/a%20b%2fc;d?e=%66", b"/demo/a b%2Fc;d", b"e=%66")
    assert head.fields == {b"Host": b"h:80", b"X-Oc-Mtime": b"5", b"Empty": b""}
    assert [environ_key(name) for name in head.fields] == ["HTTP_HOST", "HTTP_X_OC_MTIME", "HTTP_EMPTY"]
    bare = parse_plain(b"GET / HTTP/1.1\r\n\r\n")
    assert bare is not None and bare == (b"GET", b"/", b"/", b"", {})
    long = b"x" * (MAX_KNOWN_NAME + 1)
    found = parse_plain(b"GET / HTTP/1.1\r\n%s: 1\r\n\r\n" % long)
    assert found is not None and found.fields == {long.title(): b"1"}
    assert environ_key(long.title()) == f"HTTP_{long.decode().upper()}"


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.0\r\n\r\n",
        b"get / HTTP/1.1\r\n\r\n",
        b"GET  / HTTP/1.1\r\n\r\n",
        b"GET /a b HTTP/1.1\r\n\r\n",
        b"GET //host/a HTTP/1.1\r\n\r\n",
        b"GET http://host/a HTTP/1.1\r\n\r\n",
        b"GET /a#b HTTP/1.1\r\n\r\n",
        b"GET /\xc3\xa4 HTTP/1.1\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\n\r\n",
        b"OPTIONS /a HTTP/1.1\r\n\r\n",
        b"CONNECT host:80 HTTP/1.1\r\n\r\n",
        b"\r\nGET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nA: 1\r\nA: 2\r\n\r\n",
        b"GET / HTTP/1.1\r\nA: 1\r\na: 2\r\n\r\n",
        b"GET / HTTP/1.1\r\nA: 1\nB: 2\r\n\r\n",
        b"GET / HTTP/1.1\r\nA: 1\rB: 2\r\n\r\n",
        b"GET / HTTP/1.1\r\nA: 1\r\n folded\r\n\r\n",
        b"GET / HTTP/1.1\r\nA: \0\r\n\r\n",
        b"GET / HTTP/1.1\r\nA : 1\r\n\r\n",
        b"GET / HTTP/1.1\r\nA_B: 1\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET / HTTP/1.1\r\n: empty\r\n\r\n",
        b"GET / HTTP/1.1\r\nA: 1\r\n",
    ],
)
def test_an_unusual_head_is_left_to_who_reads_it_line_by_line(head):
    assert parse_plain(head) is None
