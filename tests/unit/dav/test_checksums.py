"""Checksums that clients announce: checked before anything is kept, kept with the file, given back where they are asked for."""

from __future__ import annotations

import base64
import hashlib
import zlib

import pytest

from tests.support.dav_client import DavClient

OC = "{http://owncloud.org/ns}"
ASK = '<propfind xmlns="DAV:"><prop><checksums xmlns="http://owncloud.org/ns"/></prop></propfind>'
BODY = b"what the client meant to send" * 3000
SHA1 = hashlib.sha1(BODY).hexdigest()
MD5 = hashlib.md5(BODY).hexdigest()
ADLER = f"{zlib.adler32(BODY):08x}"


def _b64(name: str, data: bytes = BODY) -> str:
    return base64.b64encode(hashlib.new(name, data).digest()).decode()


OCS = f"MD5:{MD5} SHA1:{SHA1}"  # what is kept beside any OC-Checksum, as ownCloud does
RIGHT = [
    ({"OC-Checksum": f"SHA1:{SHA1}"}, OCS),
    ({"OC-Checksum": f"sha1:{SHA1.upper()} MD5:{MD5}"}, f"MD5:{MD5} SHA1:{SHA1}"),
    ({"OC-Checksum": f"Adler32:{ADLER.lstrip('0')}"}, f"ADLER32:{ADLER} {OCS}"),
    ({"OC-Checksum": f"SHA256:{hashlib.sha256(BODY).hexdigest()}"}, f"{OCS} SHA256:{hashlib.sha256(BODY).hexdigest()}"),
    ({"OC-Checksum": f"SHA3-256:{hashlib.sha3_256(BODY).hexdigest()}"}, f"{OCS} SHA3-256:{hashlib.sha3_256(BODY).hexdigest()}"),
    ({"Digest": f"SHA-256={_b64('sha256')},MD5={_b64('md5')}"}, f"MD5:{MD5} SHA256:{hashlib.sha256(BODY).hexdigest()}"),
    ({"Digest": f"adler32={ADLER}"}, f"ADLER32:{ADLER}"),
    ({"Repr-Digest": f"sha-512=:{_b64('sha512')}:"}, f"SHA512:{hashlib.sha512(BODY).hexdigest()}"),
    ({"Content-Digest": f"sha-256=:{_b64('sha256')}:"}, f"SHA256:{hashlib.sha256(BODY).hexdigest()}"),
    ({"Content-MD5": _b64("md5")}, f"MD5:{MD5}"),
    ({"OC-Checksum": f"MD5:{MD5}", "Content-MD5": _b64("md5")}, OCS),
]
WRONG = [
    {"OC-Checksum": f"SHA1:{'0' * 40}"},
    {"OC-Checksum": f"MD5:{MD5} SHA1:{'0' * 40}"},
    {"OC-Checksum": "ADLER32:1"},
    {"OC-Checksum": "SHA1:short"},
    {"Digest": f"SHA-256={_b64('sha256', b'other')}"},
    {"Repr-Digest": f"sha-256=:{_b64('sha256', b'other')}:"},
    {"Repr-Digest": "sha-256=:!:"},
    {"Repr-Digest": "sha-256=:AAAA:"},
    {"Content-Digest": f"sha-256={_b64('sha256')}"},
    {"Content-MD5": _b64("md5", b"other")},
    {"OC-Checksum": f"MD5:{MD5}", "Content-MD5": _b64("md5", b"other")},
]


@pytest.mark.parametrize(("headers", "kept"), RIGHT)
def test_right_ones_are_kept_and_given(dav: DavClient, headers, kept):
    assert dav.raw("PUT", "/demo/f", BODY, headers).status == 201
    assert dav("GET", "/f").headers["oc-checksum"] == kept
    assert dav("HEAD", "/f").headers["oc-checksum"] == kept
    assert dav("GET", "/f", Range="bytes=0-3").headers["oc-checksum"] == kept  # of the whole file, as ownCloud has it
    for path, depth in (("/f", "0"), ("/", "1")):
        found = dav("PROPFIND", path, ASK, Depth=depth)
        assert found.prop(f"{OC}checksums", "/demo/f").findtext(f"{OC}checksum") == kept


@pytest.mark.parametrize("headers", WRONG)
def test_wrong_ones_change_nothing(dav: DavClient, headers):
    assert dav.raw("PUT", "/demo/new", BODY, headers).status == 400
    assert dav("HEAD", "/new").status == 404
    assert dav("PUT", "/old", b"as it was").status == 201
    assert dav.raw("PUT", "/demo/old", BODY, headers).status == 400
    assert dav("GET", "/old").body == b"as it was"
    small = {name: value for name, value in headers.items() if name != "Content-Digest"}
    if small:
        assert dav.raw("PUT", "/demo/old", b"small", small).status == 400  # a file that travels with its record
        assert dav("GET", "/old").body == b"as it was"


def test_unknown_algorithms_are_ignored(dav: DavClient):
    headers = {"OC-Checksum": "CRC99:1234", "Digest": "unixsum=1", "Repr-Digest": "x-new=:AAAA:"}
    assert dav.raw("PUT", "/demo/f", BODY, headers).status == 201
    assert "oc-checksum" not in dav("GET", "/f").headers
    assert dav("PROPFIND", "/f", ASK, Depth="0").prop(f"{OC}checksums") is None


def test_who_wants_a_digest_gets_it(dav: DavClient):
    both = f"SHA1:{SHA1} SHA256:{hashlib.sha256(BODY).hexdigest()}"
    assert dav("PUT", "/f", BODY, OC_Checksum=both).status == 201
    plain = dav("GET", "/f").headers
    assert "repr-digest" not in plain
    assert "digest" not in plain
    asked = dav("HEAD", "/f", Want_Repr_Digest="sha-512=3, sha-256=10, sha=0", Want_Digest="SHA-256;q=0.3, sha;q=1")
    assert asked.headers["repr-digest"] == f"sha-256=:{_b64('sha256')}:"
    assert asked.headers["digest"] == f"SHA-256={_b64('sha256')},SHA={_b64('sha1')}"


def test_they_go_with_the_content(dav: DavClient):
    assert dav("PUT", "/f", BODY, OC_Checksum=f"SHA1:{SHA1}").status == 201
    assert dav("COPY", "/f", Destination="/demo/copy").status == 201
    assert dav("MOVE", "/f", Destination="/demo/moved", X_OC_Mtime="1000000000").status == 201
    for name in ("copy", "moved"):
        assert dav("HEAD", f"/{name}").headers["oc-checksum"] == OCS
    assert dav("PUT", "/copy", BODY + b"!").status == 204
    assert "oc-checksum" not in dav("HEAD", "/copy").headers


def test_proppatch_of_checksums(dav: DavClient):
    """rclone repeats them when it sets a time; nobody can give a file others than those of its content."""
    patch = (
        '<propertyupdate xmlns="DAV:"><set><prop><lastmodified>1000000000</lastmodified><oc:checksums'
        ' xmlns:oc="http://owncloud.org/ns"><oc:checksum>{}</oc:checksum></oc:checksums></prop></set></propertyupdate>'
    )
    assert dav("PUT", "/f", BODY, OC_Checksum=f"SHA1:{SHA1}").status == 201
    assert b"200 OK" in dav("PROPPATCH", "/f", patch.format(f"SHA1:{SHA1}")).body
    head = dav("HEAD", "/f").headers
    assert (head["last-modified"], head["oc-checksum"]) == ("Sun, 09 Sep 2001 01:46:40 GMT", OCS)
    assert b"409" in dav("PROPPATCH", "/f", patch.format(f"SHA1:{'0' * 40}").replace("1000000000", "1")).body
    after = dav("HEAD", "/f").headers
    assert after == {**head, "date": after["date"]}


def test_etags_change_exactly_when_the_content_does(dav: DavClient):
    first = dav("PUT", "/f", BODY).headers["etag"]
    assert first.startswith('"')
    assert dav("PUT", "/f", BODY, X_OC_Mtime="1000000000").headers["etag"] == first
    assert dav("PUT", "/f", BODY[:-1] + b"?").headers["etag"] != first
    assert dav("PUT", "/f", BODY).headers["etag"] == first
    assert dav("COPY", "/f", Destination="/demo/g").status == 201
    assert dav("HEAD", "/g").headers["etag"] == first


def test_a_checksum_that_the_server_works_out(dav: DavClient):
    etag = dav("PUT", "/f", BODY, X_OC_Mtime="1000000000").headers["etag"]
    for algorithm, value in (("sha1", SHA1), ("md5", MD5), ("sha1", SHA1)):
        answer = dav("PATCH", "/f", X_Recalculate_Hash=algorithm)
        assert (answer.status, answer.headers["oc-checksum"]) == (204, f"{algorithm.upper()}:{value}")
    head = dav("HEAD", "/f").headers
    assert (head["oc-checksum"], head["etag"]) == (OCS, etag)
    assert head["last-modified"] == "Sun, 09 Sep 2001 01:46:40 GMT"
    assert dav("PATCH", "/f", X_Recalculate_Hash="crc7").status == 400
    assert dav("PATCH", "/missing", X_Recalculate_Hash="sha1").status == 404
