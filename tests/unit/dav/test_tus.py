"""Resumable uploads by tus 1.0.0: what each request is answered, what breaks off, and what becomes of it."""

from __future__ import annotations

import base64
import http.client
import io
import random
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from davfs.dav.application import DavApplication
from davfs.dav.request import DavSettings
from tests.scale.local import alone
from tests.support.dav_client import Answer, DavClient, RawConnection

CONTENT = "application/offset+octet-stream"
MIB = 1 << 20
LOCK = "<lockinfo xmlns='DAV:'><lockscope><exclusive/></lockscope><locktype><write/></locktype></lockinfo>"


def metadata(**pairs: str) -> str:
    return ",".join(f"{name} {base64.b64encode(value.encode()).decode()}" for name, value in pairs.items())


def begin(dav: DavClient, length: int, name: str = "f.bin", path: str = "/", body: bytes = b"", **more: str) -> Answer:
    fields = {"Tus-Resumable": "1.0.0", "Upload-Length": str(length), "Upload-Metadata": metadata(filename=name, **more)}
    if body:
        fields["Content-Type"] = CONTENT
    return dav.raw("POST", dav.base + path, body, fields)


def where(answer: Answer) -> str:
    assert answer.status == 201, answer.body
    parts = urlsplit(answer.headers["location"])
    assert parts.scheme == "http"
    assert parts.netloc
    return parts.path


def patch(dav: DavClient, upload: str, offset: int, body: bytes, **headers: str) -> Answer:
    fields = {"Tus-Resumable": "1.0.0", "Upload-Offset": str(offset), "Content-Type": CONTENT, **headers}
    return dav.raw("PATCH", upload, body, fields)


def offset(dav: DavClient, upload: str) -> int:
    answer = dav.raw("HEAD", upload, None, {"Tus-Resumable": "1.0.0"})
    return int(answer.headers["upload-offset"]) if answer.status == 200 else -answer.status


def test_options_tell_it(dav: DavClient):
    told = dav("OPTIONS", "/").headers
    assert (told["tus-version"], told["tus-resumable"]) == ("1.0.0", "1.0.0")
    assert {"creation", "termination"} <= set(told["tus-extension"].split(","))


def test_a_file_in_pieces(dav: DavClient):
    assert dav("MKCOL", "/d").status == 201
    upload = where(begin(dav, 11, "ü 1.txt", "/d", mtime="1000000000"))
    told = dav.raw("HEAD", upload, None, {"Tus-Resumable": "1.0.0"}).headers
    assert (told["upload-offset"], told["upload-length"], told["cache-control"]) == ("0", "11", "no-store")
    first = patch(dav, upload, 0, b"hello ")
    assert (first.status, first.headers["upload-offset"], first.headers["tus-resumable"]) == (204, "6", "1.0.0")
    assert dav("PROPFIND", "/d", Depth="1").hrefs == ["/demo/d/"]  # nothing is seen before it is whole
    assert patch(dav, upload, 0, b"hello ").status == 409
    assert patch(dav, upload, 7, b"x").status == 409
    assert patch(dav, upload, 6, b"worlds").status == 413
    last = patch(dav, upload, 6, b"world")
    assert (last.status, last.headers["upload-offset"]) == (204, "11")
    got = dav("GET", "/d/%C3%BC%201.txt")
    assert (got.body, got.headers["last-modified"]) == (b"hello world", "Sun, 09 Sep 2001 01:46:40 GMT")
    assert got.headers["etag"] == last.headers["etag"]
    assert offset(dav, upload) == -404


def test_with_the_creation_and_empty(dav: DavClient):
    part = begin(dav, 5, body=b"hel")
    assert part.headers["upload-offset"] == "3"
    assert patch(dav, where(part), 3, b"lo").status == 204
    assert dav("GET", "/f.bin").body == b"hello"
    assert begin(dav, 4, body=b"over").headers["upload-offset"] == "4"
    assert dav("GET", "/f.bin").body == b"over"
    assert begin(dav, 0, "empty").headers["upload-offset"] == "0"
    assert dav("GET", "/empty").body == b""


def test_what_came_before_it_broke_off_is_kept(dav: DavClient, raw: RawConnection):
    data = random.Random(1).randbytes(3 * MIB)
    upload = where(begin(dav, len(data)))
    raw.send(
        f"PATCH {upload} HTTP/1.1", "Host: x", "Tus-Resumable: 1.0.0", "Upload-Offset: 0", f"Content-Type: {CONTENT}",
        f"Content-Length: {len(data)}", body=data[: 2 * MIB],
    )  # fmt: skip
    time.sleep(0.1)
    raw.close()
    ends = time.monotonic() + 10
    while not (kept := offset(dav, upload)) and time.monotonic() < ends:
        time.sleep(0.05)
    assert 0 < kept <= 2 * MIB
    assert patch(dav, upload, kept, data[kept:]).status == 204
    assert dav("GET", "/f.bin").body == data


def test_one_that_broke_off_at_once_leaves_nothing_in_the_way(dav: DavClient, raw: RawConnection):
    upload = where(begin(dav, 3))
    head = ("Host: x", "Tus-Resumable: 1.0.0", "Upload-Offset: 0", f"Content-Type: {CONTENT}", "Content-Length: 3")
    raw.send(f"PATCH {upload} HTTP/1.1", *head)
    time.sleep(0.1)
    raw.close()
    time.sleep(0.2)
    assert offset(dav, upload) == 0
    assert patch(dav, upload, 0, b"abc").status == 204


def test_two_at_one_place(dav: DavClient):
    """A PATCH that hangs while another one comes: whoever is whole first counts, the other is told where it goes on."""
    upload = where(begin(dav, 6))
    slow = http.client.HTTPConnection("127.0.0.1", dav.port, timeout=10)
    slow.putrequest("PATCH", upload)
    for name, value in (("Tus-Resumable", "1.0.0"), ("Upload-Offset", "0"), ("Content-Type", CONTENT), ("Content-Length", "3")):
        slow.putheader(name, value)
    slow.endheaders(b"ab")
    time.sleep(0.2)
    assert patch(dav, upload, 0, b"123").status == 204
    slow.send(b"c")
    assert slow.getresponse().status == 409
    slow.close()
    assert patch(dav, upload, 3, b"456").status == 204
    assert dav("GET", "/f.bin").body == b"123456"


def test_a_lock_that_came_meanwhile(dav: DavClient):
    upload = where(begin(dav, 3))
    token = dav("LOCK", "/f.bin", LOCK).headers["lock-token"]
    assert patch(dav, upload, 0, b"abc").status == 423
    assert offset(dav, upload) == 3  # nothing is lost
    assert begin(dav, 3).status == 423
    assert patch(dav, upload, 3, b"", If=f"(<{token.strip('<>')}>)").status in (204, 412)
    assert dav("UNLOCK", "/f.bin", Lock_Token=token).status == 204
    if offset(dav, upload) == 3:
        assert patch(dav, upload, 3, b"").status == 204
    assert dav("GET", "/f.bin").body == b"abc"


def test_giving_up(dav: DavClient):
    upload = where(begin(dav, 3))
    assert patch(dav, upload, 0, b"a").status == 204
    assert dav.raw("DELETE", upload, None, {"Tus-Resumable": "1.0.0"}).status == 204
    assert offset(dav, upload) == -404
    assert patch(dav, upload, 1, b"b").status == 404


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"Tus-Resumable": None}, 405),
        ({"Tus-Resumable": "0.2.2"}, 412),
        ({"Upload-Length": None}, 400),
        ({"Upload-Length": "-1"}, 400),
        ({"Upload-Length": "9" * 19}, 413),
        ({"Upload-Length": None, "Upload-Defer-Length": "1"}, 400),
        ({"Upload-Metadata": None}, 400),
        ({"Upload-Metadata": "filename ???"}, 400),
        ({"Upload-Metadata": metadata(filename="a/b")}, 400),
        ({"Upload-Metadata": metadata(filename="..")}, 400),
        ({"Upload-Metadata": metadata(filename="f", mtime="soon")}, 400),
    ],
)
def test_creations_that_are_refused(dav: DavClient, fields: dict[str, str | None], status: int):
    sent = {"Tus-Resumable": "1.0.0", "Upload-Length": "3", "Upload-Metadata": metadata(filename="f"), **fields}
    answer = dav.raw("POST", "/demo/", b"", {name: value for name, value in sent.items() if value is not None})
    assert answer.status == status, answer.body


def test_places_where_nothing_can_be_begun(dav: DavClient):
    assert dav("PUT", "/file", b"x").status == 201
    assert begin(dav, 3, path="/nowhere").status == 404
    assert begin(dav, 3, path="/file").status in (405, 409)
    assert begin(dav, 3, path="/.davfs-trash").status == 403
    assert dav("MKCOL", "/taken").status == 201
    assert begin(dav, 3, "taken").status == 405
    assert patch(dav, "/remote.php/dav/uploads/demo/never", 0, b"x").status == 404
    upload = where(begin(dav, 3))
    assert patch(dav, upload, 0, b"abc", **{"Content-Type": "text/plain"}).status == 415


class One:
    """A drive with one volume that is really kept, as another node's forwarded requests find it."""

    node = "node-1"

    def __init__(self, held: Any) -> None:
        self.held = held

    def volumes(self) -> list[Any]:
        return [self.held.info]

    def route(self, volume: str, **_: Any) -> Any:
        return self.held


def test_a_request_that_is_sent_again_is_answered_as_it_was(tmp_path: Path):
    """By a node that got no answer: the part is stored, or the whole file is in its place, already."""
    with alone(tmp_path / "v.sqlite", "ab" * 16, chunk_size=1000) as own:
        application = DavApplication(One(own.held), DavSettings())  # type: ignore[arg-type]

        def ask(method: str, path: str, request_id: str, body: bytes = b"", **fields: str) -> tuple[int, dict[str, str]]:
            environ: dict[str, Any] = {
                "REQUEST_METHOD": method, "REQUEST_URI": path, "wsgi.input": io.BytesIO(body), "CONTENT_TYPE": CONTENT,
                "CONTENT_LENGTH": str(len(body)), "davfs.forwarded": "node-2", "HTTP_X_DAVFS_REQUEST_ID": request_id,
                "HTTP_X_DAVFS_CONFIGURED": "1", "HTTP_X_DAVFS_HOST": "x", "HTTP_TUS_RESUMABLE": "1.0.0",
                **{f"HTTP_{name}": value for name, value in fields.items()},
            }  # fmt: skip
            seen: list[Any] = []
            b"".join(application(environ, lambda status, headers: seen.extend((status, headers))))
            return int(seen[0][:3]), dict(seen[1])

        made = {"UPLOAD_LENGTH": "2500", "UPLOAD_METADATA": metadata(filename="f")}
        status, told = ask("POST", f"/{own.held.info.name}/", "one", b"", **made)
        assert status == 201
        assert ask("POST", f"/{own.held.info.name}/", "one", b"", **made)[1]["Location"] == told["Location"]
        upload = urlsplit(told["Location"]).path
        for _ in range(2):
            status, told = ask("PATCH", upload, "two", b"a" * 1500, UPLOAD_OFFSET="0")
            assert (status, told["Upload-Offset"]) == (204, "1500")
        assert ask("PATCH", upload, "three", b"a" * 1500, UPLOAD_OFFSET="0")[0] == 409
        answers = [ask("PATCH", upload, "four", b"b" * 1000, UPLOAD_OFFSET="1500") for _ in range(2)]
        assert answers[0] == answers[1]
        assert (answers[0][0], answers[0][1]["Upload-Offset"]) == (204, "2500")
        assert ask("PATCH", upload, "five", b"b", UPLOAD_OFFSET="1500")[0] == 404
        content = own.held.open(("f",))
        assert b"".join(map(bytes, content.read(0, 2500))) == b"a" * 1500 + b"b" * 1000
