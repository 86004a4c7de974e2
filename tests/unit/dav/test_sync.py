"""sync-collection (RFC 6578), and the etags of collections that tell a client whether it is worth asking."""

from __future__ import annotations

import pytest

from tests.support.dav_client import Answer, DavClient

D = "{DAV:}"
CTAG = "{http://calendarserver.org/ns/}getctag"
ASK = (
    '<propfind xmlns="DAV:"><prop><getetag/><sync-token/><supported-report-set/>'
    '<getctag xmlns="http://calendarserver.org/ns/"/></prop></propfind>'
)


def report(dav: DavClient, path: str, token: str = "", level: str = "infinite", limit: int = 0, **headers: str) -> Answer:
    count = f"<D:limit><D:nresults>{limit}</D:nresults></D:limit>" if limit else ""
    body = (
        f'<D:sync-collection xmlns:D="DAV:"><D:sync-token>{token}</D:sync-token><D:sync-level>{level}</D:sync-level>'
        f"{count}<D:prop><D:getetag/><D:resourcetype/></D:prop></D:sync-collection>"
    )
    return dav("REPORT", path, body, **headers)


def read(answer: Answer) -> tuple[dict[str, str | None], str, bool]:
    """(href -> etag, None for what went; token; whether it was cut off)."""
    assert answer.status == 207
    members: dict[str, str | None] = {}
    truncated = False
    for response in answer.xml.findall(f"{D}response"):
        status = response.findtext(f"{D}status") or ""
        if " 507 " in status:
            truncated = True
            assert response.find(f"{D}error/{D}number-of-matches-within-limits") is not None
            continue
        href = response.findtext(f"{D}href")
        assert href not in members
        members[href] = None if " 404 " in status else response.findtext(f"{D}propstat/{D}prop/{D}getetag")
        assert " 404 " in status or members[href]
    return members, answer.xml.findtext(f"{D}sync-token"), truncated


def etag(dav: DavClient, path: str) -> str:
    return dav("HEAD", path).headers["etag"]


def test_only_what_changed(dav: DavClient):
    for path in ("/a", "/a/b", "/c"):
        assert dav("MKCOL", path).status == 201
    for path in ("/a/1", "/a/b/2", "/c/3", "/4"):
        assert dav("PUT", path, path.encode()).status == 201
    first, token, truncated = read(report(dav, "/"))
    assert set(first) == {"/demo/a/", "/demo/a/b/", "/demo/c/", "/demo/a/1", "/demo/a/b/2", "/demo/c/3", "/demo/4"}
    assert not truncated
    assert first["/demo/a/1"] == etag(dav, "/a/1")
    nothing, same, _ = read(report(dav, "/", token))
    assert nothing == {}
    assert dav("PUT", "/a/b/2", b"new").status == 204
    assert dav("DELETE", "/c/3").status == 204
    changed, later, _ = read(report(dav, "/", same))
    assert set(changed) == {"/demo/a/", "/demo/a/b/", "/demo/a/b/2", "/demo/c/", "/demo/c/3"}  # and whose etag it changed
    assert changed["/demo/c/3"] is None
    assert changed["/demo/a/b/2"] == etag(dav, "/a/b/2")
    below, _, _ = read(report(dav, "/a/", token))
    assert set(below) == {"/demo/a/b/", "/demo/a/b/2"}
    members, _, _ = read(report(dav, "/", token, "1"))
    assert set(members) == {"/demo/a/", "/demo/c/"}  # something changed inside
    assert read(report(dav, "/", later))[0] == {}


def test_a_renamed_collection_comes_with_what_is_in_it(dav: DavClient):
    for path in ("/old", "/old/in"):
        assert dav("MKCOL", path).status == 201
    assert dav("PUT", "/old/in/f", b"1").status == 201
    _, token, _ = read(report(dav, "/"))
    assert dav("MOVE", "/old", Destination="/demo/new").status == 201
    members, token, _ = read(report(dav, "/", token))
    gone = {href for href, tag in members.items() if tag is None}
    assert "/demo/old" in gone
    assert gone <= {"/demo/old", "/demo/old/in", "/demo/old/in/f"}
    assert {href for href, tag in members.items() if tag} == {"/demo/new/", "/demo/new/in/", "/demo/new/in/f"}
    assert dav("DELETE", "/new").status == 204
    assert dav("MKCOL", "/new").status == 201
    members, _, _ = read(report(dav, "/", token))
    assert members["/demo/new/"]
    assert members["/demo/new/in"] is None  # the new one is not the old one


def test_page_by_page(dav: DavClient):
    assert dav("MKCOL", "/d").status == 201
    for number in range(25):
        assert dav("PUT", f"/d/{number}", b"").status == 201
    found: dict[str, str | None] = {}
    token, truncated, pages = "", True, 0
    while truncated:
        members, token, truncated = read(report(dav, "/", token, limit=7))
        assert len(members) <= 7
        found.update(members)
        pages += 1
        if pages == 2:
            assert dav("PUT", "/d/late", b"").status == 201
    assert pages in (4, 5)
    assert set(found) == {"/demo/d/", "/demo/d/late", *(f"/demo/d/{number}" for number in range(25))}


def test_tokens_that_are_none(dav: DavClient):
    for token in ("http://example.org/1", "urn:davfs:sync:other:1:1:", "urn:davfs:sync:x", "nonsense"):
        answer = report(dav, "/", token)
        assert answer.status == 403
        assert answer.xml.find(f"{D}valid-sync-token") is not None


def test_other_reports(dav: DavClient):
    assert dav("PUT", "/f", b"").status == 201
    assert report(dav, "/f").status == 403
    assert report(dav, "/missing").status == 404
    assert dav("REPORT", "/", '<expand-property xmlns="DAV:"/>').xml.find(f"{D}supported-report") is not None
    assert dav("REPORT", "/").status == 400
    assert report(dav, "/", level="2").status == 400
    assert report(dav, "/", level="", Depth="infinity").status == 207  # as clients of the draft ask
    assert dav("OPTIONS", "/").headers["allow"].count("REPORT") == 1


def test_properties_of_collections(dav: DavClient):
    assert dav("MKCOL", "/d").status == 201
    found = dav("PROPFIND", "/", ASK, Depth="1")
    for href in ("/demo/", "/demo/d/"):
        token = found.prop(f"{D}sync-token", href).text
        assert token
        assert found.prop(CTAG, href).text == found.prop(f"{D}getetag", href).text
        assert found.prop(f"{D}supported-report-set", href).find(f".//{D}sync-collection") is not None
    assert dav("PUT", "/d/f", b"").status == 201
    assert set(read(report(dav, "/", token))[0]) == {"/demo/d/", "/demo/d/f"}
    everything = dav("PROPFIND", "/d", Depth="0")
    assert everything.prop(f"{D}getetag") is not None
    assert everything.prop(f"{D}sync-token") is None  # not part of allprop (RFC 6578, 4)


@pytest.mark.parametrize("path", ["/", "/a", "/a/b"])
def test_a_collections_etag_changes_with_anything_inside(dav: DavClient, path):
    for made in ("/a", "/a/b", "/a/b/c", "/other"):
        assert dav("MKCOL", made).status == 201
    seen = [etag(dav, path)]

    def step(method: str, target: str, body: str = "", **headers: str) -> None:
        assert dav(method, target, body, **headers).status < 300
        now = etag(dav, path)
        assert now not in seen
        seen.append(now)

    step("PUT", "/a/b/c/f", body="1")
    step("PUT", "/a/b/c/f", body="2")
    step("MOVE", "/a/b/c/f", Destination="/demo/a/b/c/g")
    step("MKCOL", "/a/b/c/d")
    patch = '<propertyupdate xmlns="DAV:"><set><prop><x xmlns="x:">1</x></prop></set></propertyupdate>'
    step("PROPPATCH", "/a/b/c", body=patch)
    step("MOVE", "/a/b/c", Destination="/demo/other/c")
    step("MOVE", "/other/c", Destination="/demo/a/b/c")
    step("DELETE", "/a/b/c")
    if path != "/":
        assert dav("PUT", "/other/f", b"").status == 201
        assert etag(dav, path) == seen[-1]
    assert dav("GET", path, If_None_Match=seen[-1]).status == 304
    assert dav("DELETE", "/a/b", If_Match='"never"').status == 412
