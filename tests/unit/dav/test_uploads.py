"""Uploads in parts as Nextcloud's clients make them, and the addresses that they use."""

from __future__ import annotations

import hashlib
import random
import secrets

import pytest

from tests.support.dav_client import Answer, DavClient

UPLOADS = "/remote.php/dav/uploads/demo"
FILES = "/remote.php/dav/files/demo"
MIB = 1 << 20


class Upload:
    """One upload under a name of its own."""

    def __init__(self, dav: DavClient) -> None:
        self.dav = dav
        self.base = f"{UPLOADS}/test-{secrets.token_hex(8)}"
        assert dav.raw("MKCOL", self.base + "/").status == 201

    def put(self, name: str, body: bytes, **headers: str) -> Answer:
        return self.dav.raw("PUT", f"{self.base}/{name}", body, {k.replace("_", "-"): v for k, v in headers.items()})

    def finish(self, target: str, **headers: str) -> Answer:
        fields = {"Destination": target, **{k.replace("_", "-"): v for k, v in headers.items()}}
        return self.dav.raw("MOVE", f"{self.base}/.file", None, fields)

    def listed(self) -> list[str]:
        answer = self.dav.raw("PROPFIND", self.base + "/", None, {"Depth": "1"})
        return answer.hrefs if answer.status == 207 else []


def test_parts_become_a_file(dav: DavClient):
    upload = Upload(dav)
    for name, body in (("000000000000005-000000000000009", b"world"), ("000000000000000-000000000000004", b"hello")):
        assert upload.put(name, body).status == 201
    assert upload.listed() == [
        f"{upload.base}/",
        f"{upload.base}/000000000000000-000000000000004",
        f"{upload.base}/000000000000005-000000000000009",
    ]
    assert dav("PROPFIND", "/", Depth="1").hrefs == ["/demo/"]  # nobody else sees it
    answer = upload.finish(f"http://127.0.0.1:{dav.port}{FILES}/f.txt", X_OC_Mtime="1000000000")
    assert (answer.status, answer.headers["x-oc-mtime"]) == (201, "accepted")
    got = dav("GET", "/f.txt")
    assert got.body == b"helloworld"
    assert (got.headers["etag"], got.headers["last-modified"]) == (answer.headers["etag"], "Sun, 09 Sep 2001 01:46:40 GMT")
    assert upload.listed() == []
    assert upload.put("1", b"late").status == 404
    again = Upload(dav)
    assert again.put("1", b"other").status == 201
    assert again.finish("/demo/f.txt", Overwrite="F").status == 412
    assert again.finish("/demo/f.txt", If_Match='"x"').status == 412
    assert again.finish("/demo/f.txt", If_Match=got.headers["etag"]).status == 204
    assert dav("GET", "/f.txt").body == b"other"


def test_numbers_are_compared_as_numbers(dav: DavClient):
    upload = Upload(dav)
    for number in (10, 2, 1, 11):
        assert upload.put(str(number), f"{number};".encode()).status == 201
    assert upload.put("2", b"two;").status == 204  # sent again
    assert upload.finish("/demo/f").status == 201
    assert dav("GET", "/f").body == b"1;two;10;11;"


@pytest.mark.parametrize(
    "sizes",
    [
        [5 * MIB, 5 * MIB, 5 * MIB, 123],  # cut alike: their chunks are those of the file
        [10 * MIB, 10 * MIB, 3 * MIB + 1],
        [5 * MIB, 6 * MIB + 7, 100, 4 * MIB],  # cut anew
        [1000] * 20,
        [0, 5 * MIB, 0],
        [9 * MIB + 3],
        [],
    ],
    ids=str,
)
def test_parts_of_all_sizes(dav: DavClient, sizes):
    source = random.Random(3)
    parts = [source.randbytes(size) for size in sizes]
    whole = b"".join(parts)
    upload = Upload(dav)
    for number, part in enumerate(parts):
        assert upload.put(f"{number:05}", part).status == 201
    md5, sha1 = hashlib.md5(whole).hexdigest(), hashlib.sha1(whole).hexdigest()
    assert upload.finish("/demo/f", OC_Total_Length=str(len(whole)), OC_Checksum=f"SHA1:{sha1}").status == 201
    got = dav("GET", "/f")
    assert got.body == whole
    assert got.headers["oc-checksum"] == f"MD5:{md5} SHA1:{sha1}"
    start = max(0, len(whole) - 10)
    if whole:
        assert dav("GET", "/f", Range=f"bytes={start}-").body == whole[start:]


def test_what_is_refused(dav: DavClient):
    upload = Upload(dav)
    assert upload.put("1", b"abc", OC_Checksum=f"SHA1:{'0' * 40}").status == 400
    assert upload.put("1", b"abc").status == 201
    assert upload.finish("/demo/f", OC_Total_Length="4").status == 400
    assert upload.finish("/demo/f", OC_Total_Length="x").status == 400
    assert upload.finish("/demo/f", OC_Checksum=f"SHA1:{'0' * 40}").status == 400
    assert upload.finish("/demo/missing/f").status == 409
    assert upload.finish("/demo/").status == 403
    assert upload.finish("/Other/f").status == 403
    assert upload.finish(f"{upload.base}/2").status == 403
    assert upload.finish("").status == 400
    assert dav("MKCOL", "/d").status == 201
    assert upload.finish("/demo/d").status == 405
    assert dav("HEAD", "/f").status == 404
    assert upload.put(".file", b"").status == 403
    for method in ("GET", "PROPPATCH", "LOCK", "COPY", "PATCH"):
        assert dav.raw(method, f"{upload.base}/1", b"", {"Destination": "/demo/f"}).status == 403
    assert dav.raw("MOVE", f"{upload.base}/1", None, {"Destination": "/demo/f"}).status == 403
    assert dav.raw("MKCOL", upload.base).status == 405
    assert dav.raw("MKCOL", f"{upload.base}/inner").status == 403
    assert dav("PUT", "/g", b"1").status == 201
    assert dav("COPY", "/g", Destination=f"{upload.base}/2").status == 403
    assert dav.raw("PUT", f"{UPLOADS}/never-begun/1", b"x").status == 404
    assert dav.raw("MKCOL", "/remote.php/dav/uploads/no-such-volume/x").status == 404
    assert upload.finish("/demo/f").status == 201
    assert dav("GET", "/f").body == b"abc"


def test_giving_up(dav: DavClient):
    upload = Upload(dav)
    for number in range(3):
        assert upload.put(str(number), b"x").status == 201
    assert dav.raw("DELETE", f"{upload.base}/1").status == 204
    assert len(upload.listed()) == 3
    assert dav.raw("DELETE", upload.base + "/").status == 204
    assert dav.raw("DELETE", upload.base + "/").status == 404
    assert upload.listed() == []


def test_locks_of_the_destination_count(dav: DavClient):
    assert dav("PUT", "/f", b"old").status == 201
    info = '<lockinfo xmlns="DAV:"><lockscope><exclusive/></lockscope><locktype><write/></locktype></lockinfo>'
    token = dav("LOCK", "/f", info, Depth="0").headers["lock-token"]
    upload = Upload(dav)
    assert upload.put("1", b"new").status == 201
    assert upload.finish("/demo/f").status == 423
    assert upload.finish("/demo/f", If=f"<{FILES}/f> ({token})").status == 204
    assert dav("GET", "/f").body == b"new"


def test_the_drive_under_nextclouds_address(dav: DavClient):
    assert dav.raw("MKCOL", f"{FILES}/d").status == 201
    assert dav.raw("PUT", f"{FILES}/d/a%20b", b"1").status == 201
    assert dav("GET", "/d/a%20b").body == b"1"
    listed = dav.raw("PROPFIND", f"{FILES}/d/", None, {"Depth": "1"})
    assert listed.hrefs == [f"{FILES}/d/", f"{FILES}/d/a%20b"]
    assert dav.raw("MOVE", f"{FILES}/d/a%20b", None, {"Destination": f"{FILES}/c"}).status == 201
    assert dav("GET", "/c").body == b"1"
    patch = '<propertyupdate xmlns="DAV:"><set><prop><lastmodified>1000000000</lastmodified></prop></set></propertyupdate>'
    assert dav.raw("PROPPATCH", f"{FILES}/c", patch).hrefs == [f"{FILES}/c"]
    assert "/remote.php/dav/files/demo/" in dav.raw("PROPFIND", "/remote.php/dav/files/", None, {"Depth": "1"}).hrefs
