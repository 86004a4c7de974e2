"""Names over HTTP: every one comes back as it was given, and forms of one name are one file."""

from __future__ import annotations

import http.client
from collections.abc import Iterator

import pytest

from compat.client import DavClient
from tests.support.cluster import DevCluster

NFC, NFD = "Zo\u00eb", "Zoe\u0308"
ODD = [
    "a b", "a+b", "100%", "%41", "%2F", "q?x", "s;y", "h#z", "[x]", "{y}", "a&b<c>'\"", "~", "back\\slash", "a.", " lead",
    "trail ", "日本語", "🎉👩‍👩‍👧", "\u202eabc", "\u00a0", "CON", "Ω", "\u212b", "n" * 255, "日" * 85,
]  # fmt: skip


@pytest.fixture
def client(drive: DevCluster) -> Iterator[DavClient]:
    drive.command("volume", "create", "names")
    with drive.client(2, "names") as client:
        drive.until("the volume", lambda: client.request("PROPFIND", "", headers={"Depth": "0"}).status == 207, 20)
        yield client
        for name in client.members():
            client.request("DELETE", name.rstrip("/"))


def test_odd_names_come_back_as_they_are(client: DavClient) -> None:
    for name in ODD:
        assert client.put(name, name.encode()).status == 201, name
    assert sorted(client.members()) == sorted(ODD)
    for name in ODD:
        assert client.get(name).body == name.encode(), name
        target = client.absolute(f"moved {name}"[:60])
        assert client.request("MOVE", name, headers={"Destination": target}).status == 201, name
    assert sorted(client.members()) == sorted(f"moved {name}"[:60] for name in ODD)


def test_upper_and_lower_case_are_two(client: DavClient) -> None:
    for name in ("Readme", "README", "readme", "Straße", "STRASSE"):
        assert client.put(name, name.encode()).status == 201
    assert client.get("README").body == b"README"
    assert len(client.members()) == 5


def test_two_forms_of_a_name_are_one_file(client: DavClient) -> None:
    """A file that Linux wrote is found by a Mac, which asks for the decomposed name, and the other way round."""
    for first, second in ((NFC, NFD), (NFD, NFC)):
        assert client.put(first, b"one").status == 201
        assert client.get(second).body == b"one"
        assert client.put(second, b"two").status == 204
        assert client.get(first).body == b"two"
        assert client.members() == [first], "the name stays as it was given first"
        assert client.request("MKCOL", second).status == 405
        assert client.request("DELETE", second).status == 204
        assert client.members() == []


def test_directories_too_and_nothing_goes_inside_itself(client: DavClient) -> None:
    assert client.request("MKCOL", NFC).status == 201
    assert client.put(f"{NFD}/{NFD}", b"inside").status == 201
    assert client.get(f"{NFC}/{NFC}").body == b"inside"
    inside = client.absolute(f"{NFD}/deeper")
    for method in ("MOVE", "COPY"):
        assert client.request(method, NFC, headers={"Destination": inside}).status == 403
    itself = client.absolute(NFD)
    assert client.request("COPY", NFC, headers={"Destination": itself}).status == 403
    assert client.request("MOVE", NFC, headers={"Destination": itself}).status == 201  # it takes the name in that form
    assert client.members() == [f"{NFD}/"]
    assert client.get(f"{NFC}/{NFC}").body == b"inside"


def test_a_lock_is_on_the_file_and_not_on_a_spelling(client: DavClient) -> None:
    assert client.put(NFC, b"one").status == 201
    body = (
        b'<D:lockinfo xmlns:D="DAV:"><D:lockscope><D:exclusive/></D:lockscope><D:locktype><D:write/></D:locktype></D:lockinfo>'
    )
    locked = client.request("LOCK", NFC, body=body, headers={"Timeout": "Second-60"})
    assert locked.status == 200
    token = locked.headers["lock-token"]
    assert client.put(NFD, b"two").status == 423
    assert client.request("DELETE", NFD).status == 423
    assert client.request("LOCK", NFD, body=body).status == 423
    assert client.request("PUT", NFD, body=b"two", headers={"If": f"({token})"}).status == 204
    assert client.request("UNLOCK", NFD, headers={"Lock-Token": token}).status == 204
    assert client.request("DELETE", NFD).status == 204


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("%00", 400), ("a%0Ab", 400), ("%7F", 400), ("%C2%85", 400), ("a%2Fb", 400), ("%ED%A0%80", 400), ("%FF", 400),
        ("%EF%BF%BF", 400), (f"{'n' * 256}", 414), ("/".join(["d" * 255] * 17), 414),
    ],
)  # fmt: skip
def test_what_is_no_name_is_refused(drive: DevCluster, client: DavClient, path: str, status: int) -> None:
    def ask(method: str, target: str, **headers: str) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", drive.port, timeout=20)
        connection.request(method, f"/names/{target}", headers=headers)
        answer = connection.getresponse().status
        connection.close()
        return answer

    for method in ("PUT", "MKCOL", "GET", "PROPFIND", "DELETE", "LOCK"):
        assert ask(method, path) == status, (method, path)
    assert client.put("source", b"x").ok
    assert ask("MOVE", "source", Destination=f"/names/{path}") == status
    assert client.members() == ["source"]
