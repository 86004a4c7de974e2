"""PROPFIND, PROPPATCH, MKCOL, COPY, MOVE and LOCK, over HTTP."""

from __future__ import annotations

import threading
from xml.etree import ElementTree

import pytest

from tests.support.dav_client import D, DavClient, RawConnection

LOCK = (
    '<D:lockinfo xmlns:D="DAV:"><D:lockscope><D:{}/></D:lockscope><D:locktype><D:write/></D:locktype>'
    "<D:owner><D:href>me</D:href> &amp; <x xmlns='urn:x'>you</x></D:owner></D:lockinfo>"
)


def propfind(*names: str) -> str:
    return f'<propfind xmlns="DAV:"><prop>{"".join(f"<{name}/>" for name in names)}</prop></propfind>'


def proppatch(inner: str) -> str:
    return f'<D:propertyupdate xmlns:D="DAV:" xmlns:x="urn:x">{inner}</D:propertyupdate>'


def lock(dav: DavClient, path: str, scope: str = "exclusive", **headers: str) -> str:
    answer = dav("LOCK", path, LOCK.format(scope), **headers)
    assert answer.status in (200, 201), answer.body
    return answer.headers["lock-token"].strip("<>")


# --- PROPFIND ---------------------------------------------------------------------------------------------------------


def test_propfind(dav: DavClient):
    etag = dav("PUT", "/f.html", b"12345").headers["etag"]
    assert dav("MKCOL", "/d").status == 201
    answer = dav("PROPFIND", "/", Depth="1")
    assert answer.status == 207
    assert answer.hrefs == ["/demo/", "/demo/d/", "/demo/f.html"]
    assert answer.prop(f"{D}getetag", "/demo/f.html").text == etag
    assert answer.prop(f"{D}getcontentlength", "/demo/f.html").text == "5"
    assert answer.prop(f"{D}getcontenttype", "/demo/f.html").text == "text/html"
    assert answer.prop(f"{D}resourcetype", "/demo/d/").find(f"{D}collection") is not None
    assert len(answer.prop(f"{D}resourcetype", "/demo/f.html")) == 0
    assert answer.prop(f"{D}getcontentlength", "/demo/d/") is None
    assert answer.prop(f"{D}quota-used-bytes", "/demo/") is None  # not in allprop (RFC 4331)
    assert len(answer.prop(f"{D}supportedlock", "/demo/d/")) == 2


def test_propfind_of_named_properties(dav: DavClient):
    assert dav("PUT", "/f", b"12345").status == 201
    names = '<getetag/><executable xmlns="http://apache.org/dav/props/"/><n xmlns=""/>'
    body = f'<propfind xmlns="DAV:"><prop>{names}</prop></propfind>'
    answer = dav("PROPFIND", "/f", body, Depth="0")
    assert [s.text for s in answer.xml.iter(f"{D}status")] == ["HTTP/1.1 200 OK", "HTTP/1.1 404 Not Found"]
    missing = [e.tag for e in answer.xml.findall(f".//{D}prop")[1]]
    assert missing == ["{http://apache.org/dav/props/}executable", "n"]
    quota = dav("PROPFIND", "/", propfind("quota-used-bytes", "quota-available-bytes"), Depth="0")
    assert int(quota.prop(f"{D}quota-used-bytes").text) >= 5  # what is in the trash counts until it is emptied
    assert int(quota.prop(f"{D}quota-available-bytes").text) > 0


def test_propname_and_include(dav: DavClient):
    assert dav("PUT", "/f", b"12345").status == 201
    assert dav("PROPPATCH", "/f", proppatch("<D:set><D:prop><x:a>1</x:a></D:prop></D:set>")).status == 207
    answer = dav("PROPFIND", "/f", '<propfind xmlns="DAV:"><propname/></propfind>', Depth="0")
    names = {e.tag for e in answer.xml.find(f".//{D}prop")}
    assert {f"{D}getetag", f"{D}lockdiscovery", "{urn:x}a"} <= names
    body = '<propfind xmlns="DAV:"><allprop/><include><quota-used-bytes/></include></propfind>'
    answer = dav("PROPFIND", "/", body, Depth="0")
    assert int(answer.prop(f"{D}quota-used-bytes").text) >= 5
    assert answer.prop(f"{D}resourcetype") is not None


def test_propfind_depths(dav: DavClient):
    assert dav("PUT", "/f", b"").status == 201
    answer = dav("PROPFIND", "/", Depth="infinity")
    assert answer.status == 403
    assert answer.xml.find(f"{D}propfind-finite-depth") is not None
    assert dav("PROPFIND", "/f", Depth="infinity").hrefs == ["/demo/f"]
    assert dav("PROPFIND", "/").hrefs == ["/demo/", "/demo/f"]
    assert dav("PROPFIND", "/f").hrefs == ["/demo/f"]
    assert dav("PROPFIND", "/", Depth="2").status == 400
    assert dav("PROPFIND", "/nothing", Depth="0").status == 404


@pytest.mark.parametrize(
    "body",
    [
        "<a/>",
        "<propfind xmlns='DAV:'/>",
        "<propfind xmlns='DAV:'><prop/><allprop/></propfind>",
        "<propfind",
        "x" * 2_000_000,
    ],
)
def test_propfind_malformed(dav: DavClient, body):
    assert dav("PROPFIND", "/", body, Depth="0").status in (400, 413)


@pytest.mark.parametrize("method", ["PROPFIND", "PROPPATCH", "LOCK", "REPORT"])
def test_compressed_xml_is_refused_as_such(dav: DavClient, method):
    assert dav(method, "/", b"\x1f\x8b\x08", Content_Encoding="gzip").status == 415
    assert dav("PROPFIND", "/", Content_Encoding="identity", Depth="0").status == 207


def test_propfind_chunked_body(raw: RawConnection, dav: DavClient):
    body = propfind("resourcetype").encode()
    raw.send(
        "PROPFIND /demo/ HTTP/1.1",
        "Host: x",
        "Depth: 0",
        "Transfer-Encoding: chunked",
        body=b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body),
    )
    answer = raw.answer()
    assert answer.prop(f"{D}resourcetype") is not None
    assert answer.prop(f"{D}displayname") is None


def test_large_listings_are_streamed_on_a_kept_connection(dav: DavClient):
    assert dav("MKCOL", "/many").status == 201
    for number in range(700):
        assert dav("PUT", f"/many/{number:04d}-{'x' * 60}", b"").status == 201
    answer = dav("PROPFIND", "/many", Depth="1")
    assert len(answer.hrefs) == 701
    assert answer.headers["transfer-encoding"] == "chunked"
    assert "connection" not in answer.headers
    assert dav("DELETE", "/many").status == 204


def test_volumes_as_collections(dav: DavClient):
    answer = dav.raw("PROPFIND", "/", None, {"Depth": "1"})
    assert answer.hrefs == ["/", "/Other/", "/demo/"]
    assert answer.prop(f"{D}resourcetype", "/Other/").find(f"{D}collection") is not None
    assert dav.raw("PROPFIND", "/", None, {"Depth": "infinity"}).status == 403
    assert dav.raw("PROPFIND", "/Other", None, {"Depth": "0"}).hrefs == ["/Other/"]
    for method in ("PUT", "DELETE", "MKCOL", "PROPPATCH", "LOCK", "COPY"):
        assert dav.raw(method, "/").status == 403


# --- PROPPATCH --------------------------------------------------------------------------------------------------------


def test_dead_properties(dav: DavClient):
    assert dav("PUT", "/f", b"").status == 201
    inner = "<D:set><D:prop xml:lang='de'><x:a q='1'>e&#233;&lt;<b xmlns='urn:b'/>t</x:a><n>null</n></D:prop></D:set>"
    assert dav("PROPPATCH", "/f", proppatch(inner)).status == 207
    names = '<propfind xmlns="DAV:"><prop><a xmlns="urn:x"/><n xmlns=""/></prop></propfind>'
    value = dav("PROPFIND", "/f", names, Depth="0").prop("{urn:x}a")
    assert (value.text, value[0].tag, value[0].tail, value.get("q")) == ("eé<", "{urn:b}b", "t", "1")
    assert value.get("{http://www.w3.org/XML/1998/namespace}lang") == "de"
    assert dav("COPY", "/f", Destination="/demo/g").status == 201
    assert dav("PROPFIND", "/", Depth="1").prop("{urn:x}a", "/demo/g") is not None
    both = (
        "<D:remove><D:prop><x:a/></D:prop></D:remove><D:set><D:prop><x:c>2</x:c></D:prop></D:set>"
        "<D:remove><D:prop><x:c/><x:no/></D:prop></D:remove>"
    )
    assert b"200 OK" in dav("PROPPATCH", "/f", proppatch(both)).body
    found = dav("PROPFIND", "/f", Depth="0")
    assert found.prop("{urn:x}a") is None
    assert found.prop("{urn:x}c") is None
    assert found.prop("n").text == "null"


def test_protected_properties_fail_the_whole_request(dav: DavClient):
    assert dav("PUT", "/f", b"").status == 201
    inner = "<D:set><D:prop><x:a>1</x:a><D:getetag>x</D:getetag></D:prop></D:set>"
    answer = dav("PROPPATCH", "/f", proppatch(inner))
    assert sorted(s.text[9:12] for s in answer.xml.iter(f"{D}status")) == ["403", "424"]
    assert dav("PROPFIND", "/f", Depth="0").prop("{urn:x}a") is None


def test_times_set_by_proppatch(dav: DavClient):
    assert dav("PUT", "/f", b"").status == 201
    win = (
        '<D:set><D:prop xmlns:w="urn:schemas-microsoft-com:">'
        "<w:Win32LastModifiedTime>Fri, 13 Feb 2009 23:31:30 GMT</w:Win32LastModifiedTime>"
        "<w:Win32FileAttributes>00000020</w:Win32FileAttributes></D:prop></D:set>"
    )
    assert b"200 OK" in dav("PROPPATCH", "/f", proppatch(win)).body
    assert dav("HEAD", "/f").headers["last-modified"] == "Fri, 13 Feb 2009 23:31:30 GMT"
    own = "<D:set><D:prop><D:getlastmodified>Sun, 09 Sep 2001 01:46:40 GMT</D:getlastmodified></D:prop></D:set>"
    assert dav("PROPPATCH", "/f", proppatch(own)).status == 207
    assert dav("HEAD", "/f").headers["last-modified"] == "Sun, 09 Sep 2001 01:46:40 GMT"
    assert b"409" in dav("PROPPATCH", "/f", proppatch(own.replace("Sun", "Some day").replace("2001", "x"))).body
    assert dav("MKCOL", "/d").status == 201
    assert b"200 OK" in dav("PROPPATCH", "/d", proppatch(own)).body
    assert dav("HEAD", "/d").headers["last-modified"] == "Sun, 09 Sep 2001 01:46:40 GMT"
    assert b"200 OK" in dav("PROPPATCH", "/d", proppatch(win)).body
    assert dav("HEAD", "/d").headers["last-modified"] == "Fri, 13 Feb 2009 23:31:30 GMT"
    assert b"403" in dav("PROPPATCH", "/", proppatch(own)).body  # the volume's own collection has no place for one
    seconds = "<D:set><D:prop><D:lastmodified>1000000000</D:lastmodified></D:prop></D:set>"  # rclone
    for path in ("/f", "/d"):
        assert b"200 OK" in dav("PROPPATCH", path, proppatch(seconds)).body
        assert dav("HEAD", path).headers["last-modified"] == "Sun, 09 Sep 2001 01:46:40 GMT"


@pytest.mark.parametrize("body", ["", "<a/>", "<D:propertyupdate"])
def test_proppatch_malformed(dav: DavClient, body):
    assert dav("PUT", "/f", b"").status == 201
    assert dav("PROPPATCH", "/f", body).status == 400
    assert dav("PROPPATCH", "/missing", proppatch("<D:set><D:prop><x:a/></D:prop></D:set>")).status == 404


# --- MKCOL, COPY, MOVE ------------------------------------------------------------------------------------------------


def test_mkcol(dav: DavClient):
    assert dav("MKCOL", "/d/").status == 201
    assert dav("MKCOL", "/d").status == 405
    assert dav("MKCOL", "/x/y").status == 409
    assert dav("MKCOL", "/e", b"<mkcol/>").status == 415
    assert dav("MKCOL", "").status == 405
    assert dav("PROPFIND", "/e", Depth="0").status == 404


def test_copy_of_a_collection_alone(dav: DavClient):
    assert dav("MKCOL", "/d").status == 201
    assert dav("PUT", "/d/f", b"x").status == 201
    assert dav("COPY", "/d", Destination="/demo/alone/", Depth="0").status == 201
    assert dav("PROPFIND", "/alone", Depth="1").hrefs == ["/demo/alone/"]
    assert dav("COPY", "/d", Destination="/demo/whole").status == 201
    assert dav("GET", "/whole/f").body == b"x"
    assert dav("COPY", "/d", Destination="/demo/whole", Depth="1").status == 400
    assert dav("COPY", "/d", Destination="/demo/whole").status == 204
    assert dav("COPY", "/d", Destination="/demo/whole", Overwrite="F").status == 412
    assert dav("COPY", "/d", Destination="/demo/x", Overwrite="?").status == 400
    assert dav("COPY", "/d", Destination="/demo/no/x").status == 409


def test_destinations(dav: DavClient):
    assert dav("PUT", "/f", b"x").status == 201
    for destination, status in [
        ("/demo/q%3Fx", 201),
        (f"https://127.0.0.1:{dav.port + 1}/demo/s;y", 201),
        ("http://elsewhere/demo/a", 502),
        ("", 400),
        ("demo/a", 400),
        ("/demo/f", 403),
        ("/demo/", 403),
        ("/", 403),
        ("/New", 403),
        ("/Other/f", 502),
    ]:
        assert dav("COPY", "/f", Destination=destination).status == status, destination
    public = {"Destination": "http://files.example/demo/p", "X_Forwarded_Host": "files.example"}
    assert dav("COPY", "/f", **public).status == 502, "no proxy is trusted here (test_proxies.py)"
    assert dav.raw("GET", "/demo/q%3Fx").body == b"x"
    assert dav("MOVE", "/f", Destination="/demo/f/g").status == 403
    assert dav("MOVE", "/missing", Destination="/demo/g").status == 404
    assert dav("MOVE", "", Destination="/demo/g").status == 403


def test_move_without_host_in_http_1_0(raw: RawConnection, dav: DavClient):
    assert dav("PUT", "/f", b"x").status == 201
    raw.send("MOVE /demo/f HTTP/1.0", "Destination: http://whatever/demo/g")
    assert raw.answer().status == 201
    assert raw.closed()


# --- LOCK -------------------------------------------------------------------------------------------------------------


def test_lock_protects_until_unlock(dav: DavClient):
    assert dav("PUT", "/f", b"x").status == 201
    answer = dav("LOCK", "/f", LOCK.format("exclusive"), Timeout="Infinite, Second-5", Depth="0")
    assert answer.status == 200
    token = answer.headers["lock-token"].strip("<>")
    active = answer.xml.find(f".//{D}activelock")
    assert active.findtext(f"{D}timeout") == "Second-604800"
    assert active.findtext(f"{D}depth") == "0"
    assert active.findtext(f"{D}locktoken/{D}href") == token
    assert active.findtext(f"{D}lockroot/{D}href") == "/demo/f"
    assert ElementTree.tostring(active.find(f"{D}owner"), encoding="unicode", method="text") == "me & you"
    for method, headers in [("PUT", {}), ("DELETE", {}), ("PROPPATCH", {}), ("MOVE", {"Destination": "/demo/g"})]:
        body = proppatch("<D:set><D:prop><x:a/></D:prop></D:set>") if method == "PROPPATCH" else None
        refused = dav(method, "/f", body, **headers)
        assert refused.status == 423, method
        assert refused.xml.findtext(f"{D}lock-token-submitted/{D}href") == "/demo/f"
    conflict = dav("LOCK", "/f", LOCK.format("shared"))
    assert conflict.status == 423
    assert conflict.xml.findtext(f"{D}no-conflicting-lock/{D}href") == "/demo/f"
    assert dav("PUT", "/f", b"y", If=f"(<{token}>)").status == 204
    assert dav("PUT", "/f", b"z", If=f"</demo/f> (<{token}>)").status == 204
    assert dav("UNLOCK", "/f", Lock_Token="<opaquelocktoken:nonsense>").status == 409
    assert dav("UNLOCK", "/f").status == 400
    assert dav("UNLOCK", "/f", Lock_Token=token).status == 204  # without <>, as Windows sends it
    assert dav("PUT", "/f", b"z").status == 204


def test_lock_of_nothing_makes_an_empty_file(dav: DavClient):
    answer = dav("LOCK", "/new", LOCK.format("exclusive"), Timeout="Second-600")
    assert answer.status == 201
    assert answer.xml.findtext(f".//{D}timeout") == "Second-600"
    assert dav("GET", "/new").body == b""
    token = answer.headers["lock-token"]
    assert dav("PUT", "/new", b"x", If=f"({token})").status == 204
    assert dav("UNLOCK", "/new", Lock_Token=token).status == 204
    assert dav("LOCK", "/no/parent", LOCK.format("exclusive")).status == 409


def test_inherited_locks(dav: DavClient):
    assert dav("MKCOL", "/d").status == 201
    assert dav("PUT", "/d/f", b"x").status == 201
    token = lock(dav, "/d", Depth="infinity")
    assert dav("LOCK", "/d/new", LOCK.format("exclusive")).status == 423
    assert dav("GET", "/d/new").status == 404
    found = dav("PROPFIND", "/d", propfind("lockdiscovery"), Depth="1")
    assert found.hrefs == ["/demo/d/", "/demo/d/f"]
    for href in found.hrefs:
        assert found.prop(f"{D}lockdiscovery", href).findtext(f".//{D}lockroot/{D}href") == "/demo/d"
    assert dav("PUT", "/d/g", b"x").status == 423
    assert dav("PUT", "/d/g", b"x", If=f"</demo/d> (<{token}>)").status == 201
    refreshed = dav("LOCK", "/d/f", None, If=f"(<{token}>)", Timeout="Second-77")
    assert refreshed.status == 200
    assert refreshed.xml.findtext(f".//{D}timeout") == "Second-77"
    assert "lock-token" not in refreshed.headers
    assert dav("LOCK", "/d/f", None, If="(<urn:x>)").status == 412
    assert dav("LOCK", "/d/f").status == 400
    assert dav("UNLOCK", "/d/f", Lock_Token=f"<{token}>").status == 204


def test_locks_of_members_stand_in_the_way_of_the_collection(dav: DavClient):
    assert dav("MKCOL", "/d").status == 201
    assert dav("PUT", "/d/f", b"x").status == 201
    token = lock(dav, "/d/f")
    assert dav("DELETE", "/d").status == 423
    assert dav("MOVE", "/d", Destination="/demo/e").status == 423
    refused = dav("LOCK", "/d", LOCK.format("exclusive"), Depth="infinity")
    assert refused.status == 207
    statuses = [
        (one.findtext(f"{D}href"), one.findtext(f"{D}status")) for one in refused.xml.findall(f"{D}response")
    ]
    assert statuses == [("/demo/d/f", "HTTP/1.1 423 Locked"), ("/demo/d/", "HTTP/1.1 424 Failed Dependency")]
    assert dav("LOCK", "/d", LOCK.format("shared"), Depth="infinity").status == 207
    moved = dav("MOVE", "/d", Destination="/demo/e", If=f"</demo/d/f> (<{token}>)")
    assert moved.status == 201
    assert len(dav("PROPFIND", "/e/f", propfind("lockdiscovery"), Depth="0").prop(f"{D}lockdiscovery")) == 0
    assert dav("PUT", "/e/f", b"y").status == 204


def test_shared_locks(dav: DavClient):
    tokens = [lock(dav, "/f", "shared") for _ in range(2)]
    found = dav("PROPFIND", "/f", propfind("lockdiscovery"), Depth="0").prop(f"{D}lockdiscovery")
    assert {e.text for e in found.iter(f"{D}href") if (e.text or "").startswith("opaque")} == set(tokens)
    assert dav("PUT", "/f", b"x").status == 423
    assert dav("PUT", "/f", b"x", If=f"(<{tokens[0]}>)").status == 204


def test_if_headers_of_the_rfc(dav: DavClient):
    """RFC 4918, 10.4.6 to 10.4.11: each example, and what comes of it without the token."""

    def put(path: str, condition: str = "") -> int:
        return dav("PUT", path, b"x", **({"If": condition} if condition else {})).status

    url = f"http://127.0.0.1:{dav.port}{dav.base}"
    dav("PUT", "/r", b"x")
    token = lock(dav, "/r", Depth="0")
    etag = dav("HEAD", "/r").headers["etag"]
    # 10.4.6: the token with a wrong etag, or the right etag
    assert put("/r", f'(<{token}> ["I am an ETag"]) (["I am another ETag"])') == 412
    assert put("/r", f'(<{token}> ["I am an ETag"]) ([{etag}])') == 204
    # 10.4.7: not locked by another token
    assert put("/r", f"(Not <{token}> <urn:uuid:58f202ac-22cf-11d1-b12d-002035b29092>)") == 412
    assert put("/r", f"(Not <urn:uuid:58f202ac-22cf-11d1-b12d-002035b29092> <{token}>)") == 204
    # 10.4.8: always true, whether the token is the resource's or not; the lock counts all the same
    assert put("/r", f"(<{token}>) (Not <DAV:no-lock>)") == 204
    assert put("/r", "(<urn:uuid:181d4fae-7d8c-11d0-a765-00a0c91e6bf2>) (Not <DAV:no-lock>)") == 423
    # 10.4.9: COPY with a condition on its source, tagged
    etag = dav("HEAD", "/r").headers["etag"]
    tagged = f'<{url}/r> (<{token}> [W/{etag}]) (["strong ETag"])'
    assert dav("COPY", "/r", Destination=f"{url}/copy", If=tagged).status == 201
    # 10.4.10: the token belongs to the resource that is named, and to no other
    assert dav("MKCOL", "/specs").status == 201
    assert put("/specs/rfc2518.txt") == 201
    member = lock(dav, "/specs/rfc2518.txt", Depth="0")
    assert dav("DELETE", "/specs/rfc2518.txt", If=f"<{url}/specs/> (<{member}>)").status == 412
    assert dav("DELETE", "/specs/rfc2518.txt", If=f"<{url}/specs/rfc2518.txt> (<{member}>)").status == 204
    above = lock(dav, "/specs")
    for number, condition in enumerate(
        [f"<{url}/specs/> (<{above}>)", f"<{dav.base}/specs> (<{above}>)", f"(<{above}>)"]
    ):
        assert put(f"/specs/new{number}", condition) == 201
    assert put("/specs/without") == 423
    # 10.4.11: what is not there has no etag, and Not of one holds
    assert put("/specs/other", f'<{url}/none> (["4217"])') == 412
    assert put("/specs/other", f'<{url}/none> (["4217"]) <{url}/specs> (<{above}>)') == 201
    assert put("/unlocked", f'<{url}/none> (Not ["4217"])') == 201
    assert dav("DELETE", "/specs", If=f"<{url}/specs> (<{above}>)").status == 204


@pytest.mark.parametrize(
    "body",
    [
        "<a/>",
        "<lockinfo xmlns='DAV:'/>",
        "<lockinfo",
        "<lockinfo xmlns='DAV:'><lockscope><shared/></lockscope></lockinfo>",
        LOCK.format("exclusive").replace("me", "x" * 9000),
    ],
)
def test_lock_malformed(dav: DavClient, body):
    assert dav("LOCK", "/f", body).status == 400
    assert dav("LOCK", "/f", LOCK.format("exclusive"), Depth="1").status == 400
    assert dav("GET", "/f").status == 404


def test_many_threads_lock_and_unlock(dav: DavClient):
    failures: list[object] = []

    def work(number: int) -> None:
        client = DavClient(dav.port)
        try:
            for _ in range(15):
                token = lock(client, f"/f{number}")
                assert client("UNLOCK", f"/f{number}", Lock_Token=f"<{token}>").status == 204
        except Exception as error:
            failures.append(error)
        finally:
            client.close()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not failures
