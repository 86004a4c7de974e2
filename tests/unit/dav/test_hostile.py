"""What fuzzing found (tests/fuzz), each as the smallest input that shows it: refused in no time, and never a 500."""

from __future__ import annotations

import base64
import contextlib
import time
from collections.abc import Callable

import pytest

from davfs.core.errors import DavfsError, InvalidInput
from davfs.dav import checksums, conditions, dates, lock, propfind, proppatch, raw_xml, report, uploads, xml
from davfs.dav.authenticator import Authenticator, Unauthorized
from davfs.dav.if_header import parse_if
from tests.fuzz.bodies import LOCKINFO, PROPFIND, PROPPATCH, SYNC
from tests.fuzz.headers import ENTRY, request
from tests.support.dav_client import DavClient, RawConnection

MANY = 60_000


def etag(text: str) -> Callable[[], object]:
    return lambda: conditions.range_applies(request(if_range=text), ENTRY) or conditions.check_preconditions(
        request("PUT", if_none_match=text), ENTRY
    )


QUADRATIC: dict[str, Callable[[], object]] = {
    "an etag and another word": etag("x" * MANY + " y"),
    "separators behind an etag": etag("x" + ", " * (MANY // 2)),
    "quotes without an end": etag('"' * (MANY + 1)),
    "blanks in an etag of If": lambda: parse_if("([" + " " * 16_000 + "x"),
    "blanks in a preference": lambda: checksums.headers(request(want_digest="a" + " " * MANY + "!"), (("MD5", "0" * 32),)),
    "a name of combining marks": lambda: Authenticator({}, anonymous=False).identify(
        "Basic " + base64.b64encode(("a" + "\u0315\u0300" * 11_000 + ":x").encode()).decode()
    ),
}


@pytest.mark.parametrize("attempt", QUADRATIC.values(), ids=QUADRATIC)
def test_no_field_takes_long(attempt):
    began = time.thread_time()
    with contextlib.suppress(DavfsError):
        attempt()
    assert time.thread_time() - began < 0.2


def test_the_etags_of_a_list_are_all_seen():
    for text in ('"a", "etag-1"', '"a,b" ,W/"c",etag-1', ' , "etag-1",', '"etag-1"'):
        assert conditions._matches(text, ENTRY, '"etag-1"', weak=True), text
    for text in ('"a", "etag-2"', '"etag-1', '""', ", ,", "etag-1x", '"x,etag-1,y"'):
        assert not conditions._matches(text, ENTRY, '"etag-1"', weak=True), text


def test_credentials_of_other_characters_are_no_error_of_ours():
    with pytest.raises(Unauthorized):
        Authenticator({}, anonymous=False).identify("Basic w\x8e")


def test_blanks_of_all_kinds_around_a_number():
    assert uploads._total(request("MOVE", oc_total_length="5\x1d")) == 5


@pytest.mark.parametrize("digits", ["9" * 5000, "", "x"])
def test_numbers_beyond_all_measure(digits):
    with pytest.raises(InvalidInput):
        uploads._total(request("MOVE", oc_total_length=digits))
    body = SYNC.replace(b">10<", b">%s<" % (digits or "-1").encode())
    root = xml.parse(body)
    assert root is not None
    with pytest.raises(InvalidInput):
        report._parse(request("REPORT", body), root)


def deep(count: int, declared: bool = False) -> bytes:
    return b"".join(b'<a xmlns:n%d="x">' % n if declared else b"<a>" for n in range(count)) + b"</a>" * count


@pytest.mark.parametrize("count", [300, 3000, 20_000])
def test_xml_that_is_nested_too_deeply(count):
    for body in (LOCKINFO.replace(b"<D:href>", deep(count) + b"<D:href>"), PROPPATCH.replace(b"<i/>", deep(count,
        declared=True))):
        with pytest.raises(InvalidInput, match="nested"):
            xml.parse(body)


def test_xml_that_is_nested_as_deeply_as_anybody_may_want():
    body = LOCKINFO.replace(b"<D:href>", deep(200) + b"<D:href>")
    root = xml.parse(body)
    assert root is not None and lock._read_lockinfo(root)[0]
    body = PROPPATCH.replace(b"<i/>", deep(200, declared=True))
    assert proppatch.normalize(body) and "{urn:z}a" in raw_xml.properties(body)


def test_many_namespaces_for_many_elements():
    declared = b" ".join(b'xmlns:n%d="x"' % n for n in range(15_000))
    body = PROPPATCH.replace(b"<D:prop>", b"<D:prop " + declared + b">", 1).replace(b"<i/>", b'<b xmlns:q="x"/>' * 20_000)
    began = time.thread_time()
    try:
        proppatch.normalize(body)
        raw_xml.properties(body)
    except InvalidInput:
        pass
    assert time.thread_time() - began < 0.6


def test_a_property_has_the_namespaces_of_everything_around_it():
    body = (
        b'<D:propertyupdate xmlns:D="DAV:" xmlns:p="urn:1"><D:set xmlns:p="urn:2"><D:prop>'
        b'<p:a><p:b xmlns:p="urn:3"/></p:a></D:prop></D:set>'
        b"<D:set><D:prop><p:c/></D:prop></D:set></D:propertyupdate>"
    )
    assert raw_xml.properties(body) == {
        "{urn:2}a": '<p:a xmlns:p="urn:2"><p:b xmlns:p="urn:3"/></p:a>',
        "{urn:1}c": '<p:c xmlns:p="urn:1"/>',
    }


def test_more_properties_than_a_client_can_want():
    names = b"".join(b"<D:p%d/>" % number for number in range(2000))
    with pytest.raises(InvalidInput, match="properties"):
        propfind.read_wanted(request("PROPFIND", PROPFIND.replace(b"<D:getetag/>", names)))


@pytest.mark.parametrize("target", ["//[", "//[/x", "http://[::1/x"])
def test_an_address_that_is_none(raw: RawConnection, target: str):
    raw.send(f"GET {target} HTTP/1.1", "Host: x")
    assert raw.answer().status == 400


@pytest.mark.parametrize("text", ["99999999999", "9223372037", "9" * 5000, "nan", "-1", "0e999999999"])
def test_times_that_no_index_keeps(dav: DavClient, text: str):
    """A PUT with the first of them once stopped a volume on all its nodes, for good."""
    answer = dav("PUT", "/late", b"x", X_OC_Mtime=text)
    assert answer.status == (201 if text.startswith("0e") else 400)
    body = PROPPATCH.replace(b"Sun, 06 Nov 1994 08:49:37 GMT", text.encode())
    if answer.status == 400:
        assert dav("PUT", "/late", b"x").status == 201
    assert dav("PROPPATCH", "/late", body).status == 207
    for date in ("Fri, 31 Dec 9999 23:59:59 GMT", "2400-01-01T00:00:00Z", "99999999999"):
        with contextlib.suppress(InvalidInput):
            assert 0 <= dates.parse_any(date) < 1 << 63


def test_numbers_beyond_all_measure_over_http(dav: DavClient):
    assert dav("MKCOL", "/u1").status == 201
    base = "/remote.php/dav/uploads/demo/u9"
    assert dav.raw("MKCOL", base).status == 201
    answer = dav.raw("MOVE", base + "/.file", None, {"Destination": "/demo/x", "OC-Total-Length": "9" * 5000})
    assert answer.status == 400
    assert dav.raw("DELETE", base).status == 204


@pytest.mark.parametrize("line", ["Con\rtent: 5", "Hos\x00t: x", "\xd6: x", "a b: c", ": x", "x(: y"])
def test_a_field_whose_name_is_none(raw: RawConnection, line: str):
    """They could not be forwarded: 500 at a node that does not hold the volume."""
    raw.send("GET /demo/ HTTP/1.1", "Host: x", line)
    assert raw.answer().status == 400


def test_an_address_with_a_line_break(raw: RawConnection):
    raw.send("GET /demo/?a\rb HTTP/1.1", "Host: x")
    assert raw.answer().status == 400
