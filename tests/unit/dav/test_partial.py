"""Parts of files written in place: PATCH as SabreDAV has it, and PUT with Content-Range."""

from __future__ import annotations

import base64
import hashlib
import random

import pytest

from tests.support.dav_client import Answer, DavClient, RawConnection

TYPE = "application/x-sabredav-partialupdate"
MIB = 1 << 20


def patch(dav: DavClient, where: str, body: bytes, path: str = "/f", **headers: str) -> Answer:
    return dav("PATCH", path, body, Content_Type=TYPE, X_Update_Range=where, **headers)


# The table of SabreDAV's page; a dot is a zero byte.
@pytest.mark.parametrize(
    ("where", "result"),
    [
        ("bytes=0-3", b"----567890"),
        ("bytes=1-4", b"1----67890"),
        ("bytes=0-", b"----567890"),
        ("bytes=-4", b"123456----"),
        ("bytes=-2", b"12345678----"),
        ("bytes=2-", b"12----7890"),
        ("bytes=12-", b"1234567890\0\0----"),
        ("append", b"1234567890----"),
        ("bytes=8-11", b"12345678----"),
        ("Bytes = 3-6", b"123----890"),
    ],
)
def test_where_the_part_goes(dav: DavClient, where, result):
    before = dav("PUT", "/f", b"1234567890", OC_Checksum=f"MD5:{hashlib.md5(b'1234567890').hexdigest()}").headers["etag"]
    answer = patch(dav, where, b"----", X_OC_Mtime="1000000000")
    assert (answer.status, answer.headers["x-oc-mtime"]) == (204, "accepted")
    got = dav("GET", "/f")
    assert got.body == result
    assert got.headers["etag"] == answer.headers["etag"] != before
    assert got.headers["last-modified"] == "Sun, 09 Sep 2001 01:46:40 GMT"
    assert "oc-checksum" not in got.headers  # it was that of another content


@pytest.mark.parametrize(
    ("where", "status"),
    [
        ("bytes=0-4", 416),
        ("bytes=3-2", 416),
        ("bytes=-11", 416),
        ("bytes=", 400),
        ("bytes=0-3,5-8", 400),
        ("lines=1-2", 400),
        ("bytes=a-b", 400),
        ("bytes=9999999999999999-", 400),
    ],
)
def test_ranges_that_are_none(dav: DavClient, where, status):
    assert dav("PUT", "/f", b"1234567890").status == 201
    assert patch(dav, where, b"----").status == status
    assert dav("GET", "/f").body == b"1234567890"


def test_refusals(dav: DavClient, raw: RawConnection):
    assert patch(dav, "append", b"1").status == 404
    assert patch(dav, "append", b"1", If_Match='"x"').status == 412
    assert dav("MKCOL", "/d").status == 201
    assert patch(dav, "append", b"1", "/d").status == 403
    assert patch(dav, "append", b"1", "/").status == 403
    etag = dav("PUT", "/f", b"1234567890").headers["etag"]
    assert dav("PATCH", "/f", b"1", X_Update_Range="append").status == 415
    assert dav("PATCH", "/f", b"1", Content_Type=TYPE).status == 400
    assert patch(dav, "append", b"1", If_Match='"other"').status == 412
    assert patch(dav, "append", b"1", Content_MD5=base64.b64encode(hashlib.md5(b"2").digest()).decode()).status == 400
    assert dav("GET", "/f").body == b"1234567890"
    digest = base64.b64encode(hashlib.sha256(b"!").digest()).decode()
    assert patch(dav, "append", b"!", If_Match=etag, Content_Digest=f"sha-256=:{digest}:").status == 204
    assert dav("GET", "/f").body == b"1234567890!"
    raw.send(
        "PATCH /demo/f HTTP/1.1", "Host: x", f"Content-Type: {TYPE}", "X-Update-Range: append", "Transfer-Encoding: chunked"
    )
    raw.socket.sendall(b"1\r\nx\r\n0\r\n\r\n")
    assert raw.answer().status == 411
    options = dav("OPTIONS", "/").headers
    assert "sabredav-partialupdate" in options["dav"]
    assert "PATCH" in options["allow"]


def test_a_part_that_breaks_off_changes_nothing(dav: DavClient, raw: RawConnection):
    assert dav("PUT", "/f", b"1234567890").status == 201
    raw.send("PATCH /demo/f HTTP/1.1", "Host: x", f"Content-Type: {TYPE}", "X-Update-Range: append", "Content-Length: 100")
    raw.socket.sendall(b"half")
    raw.close()
    assert dav("GET", "/f").body == b"1234567890"


def test_locks(dav: DavClient):
    assert dav("PUT", "/f", b"1234567890").status == 201
    info = (
        '<lockinfo xmlns="DAV:"><lockscope><exclusive/></lockscope><locktype><write/></locktype></lockinfo>'
    )
    token = dav("LOCK", "/f", info, Depth="0").headers["lock-token"]
    assert patch(dav, "append", b"1").status == 423
    assert dav("PUT", "/f", b"1", Content_Range="bytes 0-0/10").status == 423
    assert patch(dav, "append", b"1", If=f"({token})").status == 204


@pytest.mark.parametrize(
    ("where", "body", "status", "result"),
    [
        ("bytes 2-5/10", b"----", 204, b"12----7890"),
        ("bytes 2-5/*", b"----", 204, b"12----7890"),
        ("bytes 8-11/20", b"----", 204, b"12345678----"),
        ("bytes 10-13/14", b"----", 204, b"1234567890----"),
        ("bytes 2-5/5", b"----", 416, b"1234567890"),
        ("bytes 2-5/9", b"----", 416, b"1234567890"),
        ("bytes 2-6/10", b"----", 400, b"1234567890"),
        ("bytes */10", b"----", 400, b"1234567890"),
        ("bytes 5-2/10", b"----", 400, b"1234567890"),
    ],
)
def test_put_with_content_range(dav: DavClient, where, body, status, result):
    assert dav("PUT", "/f", b"1234567890").status == 201
    assert dav("PUT", "/f", body, Content_Range=where).status == status
    assert dav("GET", "/f").body == result
    assert dav("PUT", "/missing", body, Content_Range="bytes 0-3/4").status == 404


@pytest.mark.parametrize("start", [0, 1, 4 * MIB - 1, 4 * MIB, 5 * MIB + 17, 9 * MIB, 14 * MIB])
def test_large_parts(dav: DavClient, start):
    """Several chunks at once, at every kind of edge; the file had 9 MiB."""
    source = random.Random(7)
    old, new = source.randbytes(9 * MIB), source.randbytes(8 * MIB + 5)
    assert dav("PUT", "/f", old).status == 201
    assert patch(dav, f"bytes={start}-", new).status == 204
    expected = old[:start].ljust(start, b"\0") + new + old[start + len(new) :]
    assert dav("GET", "/f").body == expected
    etag = dav("HEAD", "/f").headers["etag"]
    assert patch(dav, "append", new[: 4 * MIB + 3]).status == 204
    assert dav("GET", "/f").body == expected + new[: 4 * MIB + 3]
    assert dav("HEAD", "/f").headers["etag"] != etag
