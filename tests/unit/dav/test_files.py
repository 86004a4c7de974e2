"""GET, HEAD, PUT, DELETE and conditions, over HTTP. Each case is one that servers get wrong (docs/dav-compliance.md)."""

from __future__ import annotations

import pytest

from tests.support.dav_client import DavClient

FUTURE = "Fri, 01 Jan 2100 00:00:00 GMT"
PAST = "Fri, 01 Jan 1999 00:00:00 GMT"


def test_put_and_get(dav: DavClient):
    assert dav("PUT", "/f.txt", b"").status == 201
    first = dav("GET", "/f.txt")
    assert (first.status, first.body, first.headers["content-length"]) == (200, b"", "0")
    answer = dav("PUT", "/f.txt", b"hello")
    assert answer.status == 204
    got = dav("GET", "/f.txt", Depth="0")
    assert got.body == b"hello"
    assert got.headers["etag"] == answer.headers["etag"] != first.headers["etag"]
    assert got.headers["etag"].startswith('"')
    assert got.headers["content-type"] == "text/plain"
    assert got.headers["accept-ranges"] == "bytes"
    head = dav("HEAD", "/f.txt")
    assert (head.status, head.body) == (200, b"")
    assert {k: v for k, v in head.headers.items() if k != "date"} == {
        k: v for k, v in got.headers.items() if k != "date"
    }


def test_large_file(dav: DavClient):
    data = bytes(range(256)) * (40_000)
    assert dav("PUT", "/big", data).status == 201
    assert dav("GET", "/big").body == data
    part = dav("GET", "/big", Range="bytes=1048570-1048590")
    assert (part.status, part.body) == (206, data[1048570:1048591])
    assert part.headers["content-range"] == f"bytes 1048570-1048590/{len(data)}"


@pytest.mark.parametrize(
    "name",
    [
        "%C3%A9%E2%82%AC",
        "a%20b",
        "q%3Fx",
        "s;y",
        "%25",
        "%23",
        "a+b",
        "&amp;<>",
        "e%CC%81",
        "%F0%9F%98%80",
        "'\"",
        "x" * 255,
    ],
)
def test_odd_names(dav: DavClient, name):
    target = f"/{name}".replace("<", "%3C").replace(">", "%3E").replace('"', "%22")
    assert dav("PUT", target, b"1").status == 201
    hrefs = dav("PROPFIND", "/", Depth="1").hrefs
    assert len(hrefs) == 2
    assert dav.raw("GET", hrefs[1]).body == b"1"
    assert dav("MKCOL", "/to").status == 201
    assert (
        dav.raw("MOVE", hrefs[1], None, {"Destination": f"http://127.0.0.1:{dav.port}/demo/to{target}"}).status == 201
    )
    assert dav("GET", f"/to{target}").body == b"1"
    assert dav("PROPFIND", "/to/", Depth="1").hrefs == ["/demo/to/", hrefs[1].replace("/demo/", "/demo/to/")]


@pytest.mark.parametrize("name", ["%01", "a%0Ab", "%00", "%FF", "a%2Fb", "..", "%2E%2E", "%7F", "%ED%A0%80", "x" * 256])
def test_impossible_names_are_refused(dav: DavClient, name):
    status = 414 if len(name) > 255 else 400
    for method in ("PUT", "MKCOL", "LOCK", "GET"):
        assert dav(method, f"/{name}").status == status
    assert dav("PUT", "/f", b"").status == 201
    assert dav("MOVE", "/f", Destination=f"/demo/{name}").status == status
    assert dav("PROPFIND", "/", Depth="1").status == 207


def test_put_where_it_cannot_be(dav: DavClient):
    assert dav("MKCOL", "/d").status == 201
    answer = dav("PUT", "/d", b"x")
    assert answer.status == 405
    assert "PROPFIND" in answer.headers["allow"]
    assert dav("PUT", "", b"x").status == 405
    assert dav("PUT", "/missing/f", b"x").status == 409
    assert dav("PUT", "/f/", b"x").status == 409
    assert dav("PUT", "/f", b"abc").status == 201
    assert dav("PUT", "/f/g", b"x").status == 409
    assert dav("PUT", "/f", b"x", Content_Range="pages 0-0/3").status == 400
    assert dav("GET", "/f").body == b"abc"
    assert dav.raw("PUT", "/f", b"x").status == 404
    assert dav.raw("MKCOL", "/newvolume").status == 403
    assert dav.raw("GET", "/nowhere/f").status == 404


def test_conditions_of_reads(dav: DavClient):
    etag = dav("PUT", "/f", b"abc", X_OC_Mtime="1000000000").headers["etag"]
    modified = dav("GET", "/f").headers["last-modified"]
    assert modified == "Sun, 09 Sep 2001 01:46:40 GMT"
    for headers, status in [
        ({"If_None_Match": etag}, 304),
        ({"If_None_Match": etag.strip('"')}, 304),
        ({"If_None_Match": f'"x", W/{etag}'}, 304),
        ({"If_None_Match": "*"}, 304),
        ({"If_None_Match": '"x"'}, 200),
        ({"If_None_Match": '"x"', "If_Modified_Since": FUTURE}, 200),
        ({"If_Modified_Since": modified}, 304),
        ({"If_Modified_Since": PAST}, 200),
        ({"If_Modified_Since": "rubbish"}, 200),
        ({"If_Match": etag}, 200),
        ({"If_Match": "*"}, 200),
        ({"If_Match": '"x"'}, 412),
        ({"If_Match": f"W/{etag}"}, 412),
        ({"If_Unmodified_Since": PAST}, 412),
        ({"If_Unmodified_Since": modified}, 200),
        ({"If_Match": etag, "If_Unmodified_Since": PAST}, 200),
        ({"If": f"([{etag}])"}, 200),
        ({"If": '(["x"])'}, 412),
    ]:
        for method in ("GET", "HEAD"):
            answer = dav(method, "/f", **headers)
            assert answer.status == status, (method, headers)
            if status == 304:
                assert answer.headers["etag"] == etag


def test_conditions_of_writes(dav: DavClient):
    assert dav("PUT", "/f", b"1", If_Match="*").status == 412
    assert dav("PUT", "/f", b"1", If='(["x"])').status == 412
    assert dav("PUT", "/f", b"1", If_None_Match="*").status == 201
    assert dav("PUT", "/f", b"2", If_None_Match="*").status == 412
    etag = dav("GET", "/f").headers["etag"]
    assert dav("PUT", "/f", b"2", If_Match='"x"').status == 412
    assert dav("PUT", "/f", b"2", If_Modified_Since=FUTURE).status == 204
    assert dav("PUT", "/f", b"3", If_Match=etag).status == 412
    etag = dav("GET", "/f").headers["etag"]
    assert dav("PUT", "/f", b"3", If_Match=f'"x", {etag}').status == 204
    assert dav("PUT", "/f", b"4", If_Unmodified_Since=PAST).status == 412
    assert dav("DELETE", "/f", If_Match='"x"').status == 412
    for method, target in [("DELETE", ""), ("MOVE", "/demo/h"), ("COPY", "/demo/h")]:
        assert dav(method, "/g", If_Match="*", Destination=target).status == 412
        assert dav(method, "/g", Destination=target).status == 404
    assert dav("MKCOL", "/d", If_None_Match="joplin-never").status == 201
    assert dav("GET", "/f").body == b"3"


def test_tagged_if(dav: DavClient):
    one, two = (dav("PUT", f"/{name}", name.encode()).headers["etag"] for name in ("one", "two"))
    host = f"http://127.0.0.1:{dav.port}"
    assert dav("PUT", "/one", b"x", If=f"<{host}/demo/two> ([{one}])").status == 412
    assert dav("PUT", "/one", b"x", If=f"<http://elsewhere/demo/two> ([{two}])").status == 412
    assert dav("PUT", "/one", b"x", If=f"</Other/two> ([{two}])").status == 412
    assert dav("PUT", "/one", b"x", If=f"<{host}/demo/two> ([{two}])").status == 204
    assert dav("PUT", "/one", b"x", If=f"</demo/two> ([{two}])").status == 204
    assert dav("PUT", "/one", b"x", If="(broken").status == 400


def test_ranges(dav: DavClient):
    etag = dav("PUT", "/f", b"0123456789", X_OC_Mtime="1000000000").headers["etag"]
    assert dav("GET", "/f", Range="bytes=-3").body == b"789"
    assert dav("GET", "/f", Range="bytes=20-").status == 416
    assert dav("GET", "/f", Range="bytes=20-").headers["content-range"] == "bytes */10"
    assert dav("GET", "/f", Range="chars=1-2").body == b"0123456789"
    many = dav("GET", "/f", Range="bytes=0-0,2-3")
    assert many.status == 206
    assert many.headers["content-type"].startswith("multipart/byteranges; boundary=")
    assert b"Content-Range: bytes 0-0/10\r\n\r\n0\r\n" in many.body
    assert b"Content-Range: bytes 2-3/10\r\n\r\n23\r\n" in many.body
    for condition, status in [
        (etag, 206),
        ('"x"', 200),
        (f"W/{etag}", 200),
        ("Sun, 09 Sep 2001 01:46:40 GMT", 206),
        (PAST, 200),
        (FUTURE, 200),
    ]:
        assert dav("GET", "/f", Range="bytes=1-1", If_Range=condition).status == status
    assert dav("PUT", "/empty", b"").status == 201
    assert dav("GET", "/empty", Range="bytes=0-").status == 416


def test_mtimes(dav: DavClient):
    answer = dav("PUT", "/f", b"x", X_OC_Mtime="1234567890.5")
    assert answer.headers["x-oc-mtime"] == "accepted"
    assert dav("GET", "/f").headers["last-modified"] == "Fri, 13 Feb 2009 23:31:30 GMT"
    assert "x-oc-mtime" not in dav("PUT", "/g", b"x").headers
    assert dav("PUT", "/g", b"x", X_OC_Mtime="yesterday").status == 400
    for method, target, seconds in [("COPY", "/c", 1_000_000_000), ("MOVE", "/m", 1_000_000_001)]:
        answer = dav(method, "/f", Destination=f"/demo{target}", X_OC_Mtime=str(seconds))
        assert (answer.status, answer.headers["x-oc-mtime"]) == (201, "accepted")
    assert dav("GET", "/c").headers["last-modified"] == "Sun, 09 Sep 2001 01:46:40 GMT"
    assert dav("GET", "/m").headers["last-modified"] == "Sun, 09 Sep 2001 01:46:41 GMT"
    assert dav("MKCOL", "/d", X_OC_Mtime="1000000000").headers["x-oc-mtime"] == "accepted"
    assert dav("HEAD", "/d").headers["last-modified"] == "Sun, 09 Sep 2001 01:46:40 GMT"
    for method, source, target in (("COPY", "/d", "/e"), ("MOVE", "/e", "/i")):
        answer = dav(method, source, Destination=f"/demo{target}", X_OC_Mtime="1234567890")
        assert (answer.status, answer.headers["x-oc-mtime"]) == (201, "accepted")
        assert dav("HEAD", target).headers["last-modified"] == "Fri, 13 Feb 2009 23:31:30 GMT"
    assert dav("PUT", "/d/member", b"").status == 201
    assert dav("HEAD", "/d").headers["last-modified"] != "Sun, 09 Sep 2001 01:46:40 GMT"  # something came since


def test_delete(dav: DavClient):
    for path in ("/d", "/d/e"):
        assert dav("MKCOL", path).status == 201
    assert dav("PUT", "/d/e/f", b"x").status == 201
    assert dav("DELETE", "/d", Depth="0").status == 400
    assert dav("DELETE", "/d/").status == 204
    assert dav("GET", "/d/e/f").status == 404
    assert dav("DELETE", "/d").status == 404
    assert dav("DELETE", "").status == 403


def test_listings_for_people(dav: DavClient):
    assert dav("MKCOL", "/d").status == 201
    assert dav("PUT", "/d/<b>.txt".replace("<", "%3C").replace(">", "%3E"), b"x").status == 201
    page = dav("GET", "/d/")
    assert (page.status, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert b"&lt;b&gt;.txt" in page.body
    assert b"<b>.txt" not in page.body
    assert dav("GET", "/d").status in (301, 302)
    assert dav("HEAD", "/d").status == 200
    volumes = dav.raw("GET", "/")
    assert volumes.status == 200
    assert b"demo" in volumes.body
    assert b"Other" in volumes.body
    assert dav.raw("HEAD", "/").status == 200
    assert dav.raw("GET", "/:dir_browser/style.css").status == 200
    assert dav.raw("GET", "/:dir_browser/../../server.py").status == 400
    assert dav.raw("DELETE", "/:dir_browser/style.css").status == 404


def test_other_methods(dav: DavClient):
    assert dav("POST", "/f", b"x").status == 405
    for method in ("SEARCH", "BREW"):
        answer = dav(method, "/", b"<a/>")
        assert answer.status == 405
        assert "connection" not in answer.headers
    for target in ("/", "/demo/", "*", "/demo/nothing"):
        answer = dav.raw("OPTIONS", target)
        assert answer.status == 200
        assert answer.headers["dav"] == "1, 2, 3, sabredav-partialupdate"
        assert answer.headers["ms-author-via"] == "DAV"
        assert "LOCK" in answer.headers["allow"]


def test_a_public_request_cannot_pretend_to_be_forwarded(dav: DavClient):
    headers = {"X-Davfs-User": "admin", "X-Davfs-Request-Id": "1", "Timeout": "Second-5"}
    body = "<lockinfo xmlns='DAV:'><lockscope><exclusive/></lockscope><locktype><write/></locktype></lockinfo>"
    tokens = {dav.raw("LOCK", f"/demo/{n}", body, headers).headers["lock-token"] for n in "ab"}
    assert len(tokens) == 2
