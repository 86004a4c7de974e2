"""Rows about methods, destinations and answers."""

from __future__ import annotations

import contextlib

from tests.compat.rows.peer import Peer, find, locked, row, setup
from tests.support.dav_client import D, DavClient
from tests.support.rows_peer import EXTERNAL


@row
def copy_with_depth_0_copies_the_collection_alone(peer: Peer, dav: DavClient) -> None:
    setup(dav("MKCOL", "/d"), 201)
    setup(dav("PUT", "/d/f", b"x"), 201)
    setup(dav("COPY", "/d", Destination=f"{dav.base}/e", Depth="0"), 201)
    assert dav("GET", "/e/f").status == 404


@row
def what_appears_by_a_store_s_own_copy_or_move_is_201(peer: Peer, dav: DavClient) -> None:
    own = DavClient(peer.port, "own")
    setup(own("PUT", "/f", b"x"), 201)
    assert own("COPY", "/f", Destination="/own/copied").status == 201
    assert own("MOVE", "/f", Destination="/own/moved").status == 201


@row
def a_store_s_own_delete_minds_the_locks_of_members(peer: Peer, dav: DavClient) -> None:
    own = DavClient(peer.port, "own")
    setup(own("MKCOL", "/d"), 201)
    setup(own("PUT", "/d/f", b"x"), 201)
    locked(own, "/d/f")
    assert own("DELETE", "/d").status == 423


@row
def destination_is_taken_apart_before_it_is_unquoted(peer: Peer, dav: DavClient) -> None:
    for name, quoted in (("q?x", "q%3Fx"), ("s;y", "s%3By")):
        setup(dav("PUT", "/f", b"x"), 201, 204)
        setup(dav("MOVE", "/f", Destination=f"{dav.base}/{quoted}"), 201)
        assert dav("GET", f"/{quoted}").status == 200, name


@row
def a_destination_that_a_proxy_shows_is_this_server(peer: Peer, dav: DavClient) -> None:
    setup(dav("PUT", "/f", b"x"), 201)
    assert dav("MOVE", "/f", Destination=f"https://{EXTERNAL}{dav.base}/g").status == 201


@row
def move_in_http_1_0_without_host(peer: Peer, dav: DavClient) -> None:
    setup(dav("PUT", "/f", b"x"), 201)
    with contextlib.closing(peer.raw()) as connection:
        connection.send(f"MOVE {dav.base}/f HTTP/1.0", f"Destination: {dav.base}/g")
        assert connection.answer().status == 201


@row
def propfind_to_infinity_is_refused(peer: Peer, dav: DavClient) -> None:
    answer = dav("PROPFIND", "/", Depth="infinity")
    assert answer.status == 403
    assert answer.xml.find(f"{D}propfind-finite-depth") is not None


@row
def a_large_answer_is_streamed_on_a_kept_connection(peer: Peer, dav: DavClient) -> None:
    """Of 900 properties with long names: WsgiDAV builds it in memory, and what has no length would end the connection."""
    setup(dav("PUT", "/f", b""), 201)
    asked = "".join(f"<p{number}{'x' * 100} xmlns='urn:x'/>" for number in range(900))
    answer = find(dav, "/", asked, "1")
    assert answer.headers.get("transfer-encoding") == "chunked" and "connection" not in answer.headers
    assert len(answer.hrefs) == 2


@row
def propname_and_include_are_understood(peer: Peer, dav: DavClient) -> None:
    setup(dav("PUT", "/f", b"x"), 201)
    names = setup(dav("PROPFIND", "/f", "<propfind xmlns='DAV:'><propname/></propfind>", Depth="0"), 207)
    length = names.prop(f"{D}getcontentlength")
    assert length is not None and not length.text
    include = "<propfind xmlns='DAV:'><allprop/><include><supported-report-set/></include></propfind>"
    assert setup(dav("PROPFIND", "/", include, Depth="0"), 207).prop(f"{D}supported-report-set") is not None


@row
def methods_that_wsgidav_does_not_know(peer: Peer, dav: DavClient) -> None:
    setup(dav("PUT", "/f", b"0123456789"), 201)
    kind = {"Content-Type": "application/x-sabredav-partialupdate", "X-Update-Range": "bytes=3-5"}
    report = (
        "<sync-collection xmlns='DAV:'><sync-token/><sync-level>1</sync-level><prop><getetag/></prop></sync-collection>"
    )
    assert dav.raw("PATCH", f"{dav.base}/f", b"abc", kind).status == 204
    assert dav("REPORT", "/", report).status == 207
    assert dav("GET", "/f").body == b"012abc6789"


@row
def names_of_volumes_may_have_capitals(peer: Peer, dav: DavClient) -> None:
    assert DavClient(peer.port, "Other")("PROPFIND", "/", Depth="0").status == 207
