"""Rows about conditions, ranges, times, properties and names."""

from __future__ import annotations

from xml.etree import ElementTree

from tests.compat.rows.peer import Peer, find, row, setup
from tests.support.dav_client import D, DavClient


@row
def if_match_of_nothing_fails(peer: Peer, dav: DavClient) -> None:
    assert dav("PUT", "/f", b"x", If_Match='"etag"').status == 412
    assert dav("PUT", "/g", b"x", If='(["etag"])').status == 412


@row
def a_tagged_if_with_a_wrong_etag_fails(peer: Peer, dav: DavClient) -> None:
    setup(dav("PUT", "/f", b"x"), 201)
    wrong = f'<http://127.0.0.1:{peer.port}{dav.base}/f> (["wrong"])'
    assert dav("PUT", "/f", b"y", If=wrong).status == 412


@row
def dates_of_conditions_are_those_of_http(peer: Peer, dav: DavClient) -> None:
    setup(dav("PUT", "/f", b"x"), 201)
    date = setup(dav("HEAD", "/f"), 200).headers["last-modified"]
    assert dav("GET", "/f", If_Modified_Since=date).status == 304
    assert dav("PUT", "/f", b"y", If_Modified_Since="Fri, 01 Jan 2100 00:00:00 GMT").status == 204


@row
def two_ranges_are_both_given(peer: Peer, dav: DavClient) -> None:
    setup(dav("PUT", "/f", b"0123456789"), 201)
    answer = dav("GET", "/f", Range="bytes=0-0,2-3")
    whole = answer.status == 200 and answer.body == b"0123456789"
    both = (
        answer.headers["content-type"].startswith("multipart/byteranges") and answer.body.count(b"Content-Range") == 2
    )
    assert whole or both


@row
def put_with_content_range_writes_in_place(peer: Peer, dav: DavClient) -> None:
    setup(dav("PUT", "/f", b"0123456789"), 201)
    assert dav("PUT", "/f", b"abc", Content_Range="bytes 3-5/10").status == 204
    assert dav("GET", "/f").body == b"012abc6789"


@row
def win32_times_are_the_files_times(peer: Peer, dav: DavClient) -> None:
    setup(dav("PUT", "/f", b"x"), 201)
    date = "Fri, 13 Feb 2009 23:31:30 GMT"
    body = (
        "<propertyupdate xmlns='DAV:'><set><prop><Win32LastModifiedTime xmlns='urn:schemas-microsoft-com:'>"
        f"{date}</Win32LastModifiedTime></prop></set></propertyupdate>"
    )
    setup(dav("PROPPATCH", "/f", body), 207)
    assert dav("HEAD", "/f").headers["last-modified"] == date


@row
def x_oc_mtime_is_taken_and_acknowledged(peer: Peer, dav: DavClient) -> None:
    answer = setup(dav("PUT", "/f", b"x", X_OC_Mtime="1234567890"), 201)
    assert answer.headers.get("x-oc-mtime") == "accepted"
    moved = setup(dav("MOVE", "/f", Destination=f"{dav.base}/g", X_OC_Mtime="1000000000"), 201)
    assert moved.headers.get("x-oc-mtime") == "accepted"
    assert dav("HEAD", "/g").headers["last-modified"] == "Sun, 09 Sep 2001 01:46:40 GMT"


@row
def the_etag_property_is_quoted_like_the_header(peer: Peer, dav: DavClient) -> None:
    setup(dav("PUT", "/f", b"x"), 201)
    assert find(dav, "/f", "<getetag/>").prop(f"{D}getetag").text == dav("HEAD", "/f").headers["etag"]


@row
def collections_have_an_etag_that_changes(peer: Peer, dav: DavClient) -> None:
    setup(dav("MKCOL", "/d"), 201)
    before = find(dav, "/d", "<getetag/>").prop(f"{D}getetag")
    setup(dav("PUT", "/d/f", b"x"), 201)
    after = find(dav, "/d", "<getetag/>").prop(f"{D}getetag")
    assert before is not None and before.text and before.text != after.text


@row
def a_name_that_xml_cannot_carry_is_refused(peer: Peer, dav: DavClient) -> None:
    made = dav("PUT", "/%01", b"x").status
    listing = dav("PROPFIND", "/", Depth="1")
    try:
        hrefs = listing.hrefs
    except ElementTree.ParseError:
        hrefs = []
    assert listing.status == 207 and hrefs
    assert made == 400
