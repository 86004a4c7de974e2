"""Behind reverse proxies: whose word counts, and what is below a prefix, in every place where a URL comes in or goes out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from davfs.core.errors import InvalidInput
from davfs.core.passwords import hash_password
from davfs.dav.application import DavApplication
from davfs.dav.authenticator import Authenticator
from davfs.dav.proxies import FORWARDED, Hop, Proxies, parse_forwarded
from davfs.dav.request import DavSettings
from davfs.dav.server import DavServer
from davfs.dav.target import OtherServer, Target, below_prefix, parse_destination, parse_prefix
from tests.support.dav_client import DavClient
from tests.support.memory_drive import MemoryDrive

TRUSTED = ("10.0.0.0/8", "::1", "127.0.0.1")


def seen(peer: str, family: str = "x-forwarded", prefix: str = "", **fields: str) -> dict[str, Any]:
    environ = {"REMOTE_ADDR": peer, "REQUEST_URI": "/demo/f", "HTTP_HOST": "inner:8080", "wsgi.url_scheme": "http"}
    environ |= {f"HTTP_{name.upper()}": value for name, value in fields.items()}
    own, found = Proxies(TRUSTED, family, prefix).seen(environ)
    return {**own, "prefix": found}


@pytest.mark.parametrize(
    ("peer", "field", "client"),
    [
        ("10.0.0.9", "198.51.100.7", "198.51.100.7"),
        ("10.0.0.9", "203.0.113.5, 198.51.100.7", "198.51.100.7"),  # the first was made up by the client
        ("10.0.0.9", "203.0.113.5, 198.51.100.7, 10.0.0.8", "198.51.100.7"),  # through two proxies of ours
        ("10.0.0.9", "10.1.1.1, 10.0.0.8", "10.1.1.1"),
        ("10.0.0.9", "198.51.100.7:4711", "198.51.100.7"),
        ("10.0.0.9", "[2001:db8::1]:80", "2001:db8::1"),
        ("::1", "2001:db8::1", "2001:db8::1"),
        ("::ffff:10.0.0.9", "::ffff:198.51.100.7", "198.51.100.7"),
        ("10.0.0.9", "unknown", "10.0.0.9"),
        ("10.0.0.9", "198.51.100.7, nonsense, 10.0.0.8", "10.0.0.8"),
        ("10.0.0.9", "", "10.0.0.9"),
        ("198.51.100.7", "203.0.113.5", "198.51.100.7"),  # no proxy of ours: not a word is believed
        ("", "203.0.113.5", ""),
    ],
)
def test_the_clients_address_is_what_the_first_trusted_proxy_saw(peer: str, field: str, client: str) -> None:
    assert seen(peer, X_FORWARDED_FOR=field)["REMOTE_ADDR"] == client


def test_a_stranger_changes_neither_host_nor_scheme_nor_prefix_and_nothing_is_passed_on() -> None:
    fields = {"X_FORWARDED_HOST": "evil", "X_FORWARDED_PROTO": "https", "X_FORWARDED_PREFIX": "/x", "FORWARDED": "for=1.2.3.4"}
    for peer in ("198.51.100.7", "10.0.0.9"):
        own = seen(peer, **fields)
        assert not [name for name in own if "FORWARDED" in name]
    own = seen("198.51.100.7", **fields)
    assert (own["HTTP_HOST"], own["wsgi.url_scheme"], own["prefix"]) == ("inner:8080", "http", "")
    own = seen("10.0.0.9", **fields)
    assert (own["HTTP_HOST"], own["wsgi.url_scheme"], own["prefix"]) == ("evil", "https", "/x")
    assert own["REMOTE_ADDR"] == "10.0.0.9", "only the family that is configured is read"
    own = seen("10.0.0.9", FORWARDED, **fields)
    assert (own["HTTP_HOST"], own["REMOTE_ADDR"], own["prefix"]) == ("inner:8080", "1.2.3.4", "")


def test_lists_of_hosts_and_schemes_belong_to_the_addresses() -> None:
    own = seen(
        "10.0.0.9", X_FORWARDED_FOR="198.51.100.7, 10.0.0.8", X_FORWARDED_PROTO="https, http",
        X_FORWARDED_HOST="made.up, files.example.org, inside",
    )  # fmt: skip
    assert (own["wsgi.url_scheme"], own["HTTP_HOST"]) == ("https", "files.example.org")
    assert seen("10.0.0.9", X_FORWARDED_PROTO="gopher")["wsgi.url_scheme"] == "http"


@pytest.mark.parametrize(
    ("field", "hops"),
    [
        ("for=192.0.2.43", [Hop("192.0.2.43")]),
        ("For=\"[2001:db8:cafe::17]:4711\";proto=HTTPS;by=203.0.113.43", [Hop("[2001:db8:cafe::17]:4711", "https")]),
        ("for=192.0.2.43, for=198.51.100.17;host=\"a,b\"", [Hop("192.0.2.43"), Hop("198.51.100.17")]),
        ("for=_gazonk; host=files.example.org ,, for=\"unk\\nown\"", [Hop("_gazonk", "", "files.example.org"), Hop("unknown")]),
        ("", []),
        (" ; ,", []),
    ],
)  # fmt: skip
def test_the_forwarded_field(field: str, hops: list[Hop]) -> None:
    assert parse_forwarded(field) == hops


@pytest.mark.parametrize("field", ["for", "for=a b", 'for="a', "=x", "for=a;;=", "for==a", "x" * 9000])
def test_a_malformed_forwarded_field_is_refused(field: str) -> None:
    with pytest.raises(InvalidInput):
        parse_forwarded(field)


def test_forwarded_is_followed_like_the_other() -> None:
    field = 'for=evil, for=198.51.100.7;proto=https;host=files.example.org, for="10.0.0.8:1"'
    own = seen("10.0.0.9", FORWARDED, FORWARDED=field, X_FORWARDED_FOR="1.2.3.4")
    assert (own["REMOTE_ADDR"], own["wsgi.url_scheme"], own["HTTP_HOST"]) == ("198.51.100.7", "https", "files.example.org")


def test_prefixes() -> None:
    assert [parse_prefix(text) for text in ("", "/", "/files", "/files/", "/a b//%C3%BC", "/x%26y")] == [
        "", "", "/files", "/files", "/a%20b/%C3%BC", "/x%26y",
    ]  # fmt: skip
    for text in ("files", "/..", "/a/./b", "/a%2Fb", "/%0a", "/" + "x" * 2000, "/%ff"):
        with pytest.raises(InvalidInput):
            parse_prefix(text)
    for path, rest in [
        ("/files", "/"), ("/files/", "/"), ("//files//demo/x", "/demo/x"), ("/%66iles/demo/a%3Fb/", "/demo/a%3Fb/"),
        ("/filesx/demo", None), ("/", None), ("/demo", None),
    ]:  # fmt: skip
        assert below_prefix(path, "/files") == rest, path
    assert below_prefix("/a%20b/%c3%bc/demo", "/a%20b/%C3%BC") == "/demo"
    assert below_prefix("/demo//x", "") == "/demo//x"


def test_a_destination_outside_of_the_prefix_is_another_server() -> None:
    hosts = ["files.example.org"]
    assert parse_destination("https://files.example.org/files/demo/a", hosts, "/files") == Target("demo", ("a",))
    assert parse_destination("/files/demo/a/", hosts, "/files") == Target("demo", ("a",), True)
    for outside in ("/demo/a", "https://files.example.org/demo/a", "https://files.example.org/"):
        with pytest.raises(OtherServer, match="below /files/"):
            parse_destination(outside, hosts, "/files")


def test_a_request_below_the_configured_prefix_and_one_beside_it() -> None:
    environ = {"REMOTE_ADDR": "198.51.100.7", "HTTP_HOST": "h"}
    proxies = Proxies((), prefix="/files")
    for uri, inner, prefix in [
        ("/files/demo/a?x=/files", "/demo/a?x=/files", "/files"),
        ("http://h/files/demo/a", "/demo/a", "/files"),
        ("/files", "/", "/files"),
        ("/demo/a", "/demo/a", ""),
        ("*", "*", ""),
    ]:
        own, found = proxies.seen({**environ, "REQUEST_URI": uri})
        assert (own["REQUEST_URI"], found) == (inner, prefix)


# --- served ---------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def behind() -> Iterator[int]:
    """A node that a proxy shows below /outer, passing on /files."""
    settings = DavSettings(trusted_proxies=TRUSTED, prefix="/files")
    server = DavServer("127.0.0.1", 0, DavApplication(MemoryDrive("demo"), settings), threads=8)
    server.start()
    yield server.port
    server.stop(1)


@pytest.fixture
def dav(behind: int) -> Iterator[Any]:
    client = DavClient(behind)
    says = {"X-Forwarded-Prefix": "/outer", "X-Forwarded-Host": "files.example.org", "X-Forwarded-Proto": "https"}

    def ask(method: str, path: str, body: bytes | str | None = None, **fields: str) -> Any:
        sent = {name.replace("_", "-"): value for name, value in fields.items()}
        return client.raw(method, path, body, {**says, **sent})

    yield ask
    client.close()


LOCKINFO = (
    '<D:lockinfo xmlns:D="DAV:"><D:lockscope><D:exclusive/></D:lockscope><D:locktype><D:write/></D:locktype></D:lockinfo>'
)
BASE = "/outer/files/demo"
PUBLIC = "https://files.example.org" + BASE


def test_every_href_has_the_prefix(dav: Any) -> None:
    assert dav("MKCOL", "/files/demo/d").status == 201
    assert dav("PUT", "/files/demo/d/a%20b", b"x").status == 201
    assert dav("PROPFIND", "/files/", Depth="1").hrefs == ["/outer/files/", f"{BASE}/"]
    assert dav("PROPFIND", "/files/demo/d", Depth="1").hrefs == [f"{BASE}/d/", f"{BASE}/d/a%20b"]
    patch = '<D:propertyupdate xmlns:D="DAV:"><D:set><D:prop><x xmlns="n:">v</x></D:prop></D:set></D:propertyupdate>'
    assert dav("PROPPATCH", "/files/demo/d/a%20b", patch).hrefs == [f"{BASE}/d/a%20b"]
    sync = '<D:sync-collection xmlns:D="DAV:"><D:sync-token/><D:sync-level>1</D:sync-level><D:prop/></D:sync-collection>'
    assert dav("REPORT", "/files/demo/d/", sync).hrefs == [f"{BASE}/d/a%20b"]
    page = dav("GET", "/files/demo/d/").body.decode()
    assert 'href="a%20b"' in page and 'href="/outer/files/:dir_browser/style.css"' in page and '="/:dir' not in page
    assert dav("GET", "/files/:dir_browser/style.css").status == 200
    moved = dav("GET", "/files/demo/d")
    assert (moved.status, moved.headers["location"]) == (301, f"{BASE}/d/")


def test_where_an_upload_goes_on_is_where_the_client_sees_it(dav: Any) -> None:
    began = dav("POST", "/files/demo/", Tus_Resumable="1.0.0", Upload_Length="3", Upload_Metadata="filename dXA=")
    location = began.headers["location"]
    assert location.startswith("https://files.example.org/outer/files/remote.php/dav/uploads/demo/tus-")
    path = location.removeprefix("https://files.example.org/outer")
    more = {"Tus_Resumable": "1.0.0", "Upload_Offset": "0", "Content_Type": "application/offset+octet-stream"}
    assert dav("PATCH", path, b"abc", **more).status == 204
    assert dav("GET", "/files/demo/up").body == b"abc"


def test_locks_destinations_and_tags_below_the_prefix(dav: Any) -> None:
    dav("DELETE", "/files/demo/l")
    assert dav("PUT", "/files/demo/l", b"x").status == 201
    locked = dav("LOCK", "/files/demo/l", LOCKINFO)
    token = locked.headers["lock-token"]
    assert locked.xml.findtext(".//{DAV:}lockroot/{DAV:}href") == f"{BASE}/l"
    found = dav("PROPFIND", "/files/demo/l", Depth="0")
    assert found.xml.findtext(".//{DAV:}lockroot/{DAV:}href") == f"{BASE}/l"
    refused = dav("PUT", "/files/demo/l", b"y")
    assert refused.status == 423 and f"{BASE}/l<".encode() in refused.body
    for tag, status in [(f"{PUBLIC}/l", 204), (f"{BASE}/l", 204), ("/demo/l", 412), (f"https://elsewhere{BASE}/l", 412)]:
        assert dav("PUT", "/files/demo/l", b"y", If=f"<{tag}> ({token})").status == status, tag
    below = dav("LOCK", "/files/demo/", LOCKINFO, Depth="infinity")
    assert below.status == 207 and below.hrefs == [f"{BASE}/l", f"{BASE}/"]
    to = f"{PUBLIC}/moved"
    assert dav("MOVE", "/files/demo/l", Destination=to, If=f"<{PUBLIC}/l> ({token})").status == 201
    assert dav("COPY", "/files/demo/moved", Destination="https://inner/demo/c").status == 502
    assert dav("COPY", "/files/demo/moved", Destination="/demo/c").status == 502
    assert dav("COPY", "/files/demo/moved", Destination=f"{BASE}/c").status == 201
    assert dav("DELETE", "/files/demo/c").status == 204


def test_beside_the_prefix_and_without_a_proxy_it_is_the_same_drive(behind: int) -> None:
    client = DavClient(behind)
    try:
        assert client("PUT", "/direct", b"x").status in (201, 204)
        assert client("PROPFIND", "/direct", Depth="0").hrefs == ["/demo/direct"]
        assert client.raw("PROPFIND", "/files/demo/direct", None, {"Depth": "0"}).hrefs == ["/files/demo/direct"]
        assert client("COPY", "/direct", Destination="http://127.0.0.1/demo/copy").status in (201, 204)
        answer = client.raw("PROPFIND", "/demo/", None, {"Depth": "0", "X-Forwarded-Prefix": "/a/../b"})
        assert answer.status == 400 and b"no path such as" in answer.body
    finally:
        client.close()


def test_guessers_behind_one_proxy_are_told_apart() -> None:
    settings = DavSettings(trusted_proxies=("127.0.0.1",))
    users = {"anna": hash_password("secret", b"salt" * 4)}
    application = DavApplication(MemoryDrive("demo"), settings, authenticator=Authenticator(users))
    server = DavServer("127.0.0.1", 0, application, threads=4)
    server.start()
    client = DavClient(server.port)

    def guess(address: str) -> int:
        wrong = {"Authorization": "Basic YW5uYTp3cm9uZw==", "X-Forwarded-For": f"203.0.113.1, {address}"}
        return int(client.raw("GET", "/demo/", None, wrong).status)

    try:
        assert [guess("198.51.100.7") for _ in range(6)] == [401] * 5 + [429]
        assert guess("198.51.100.8") == 401
    finally:
        client.close()
        server.stop(1)

