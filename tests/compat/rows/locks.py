"""Rows about locks and logins."""

from __future__ import annotations

import hashlib
import re
import threading
import time

from tests.compat.rows.peer import LOCK_BODY, Peer, basic, find, locked, row, setup
from tests.support.dav_client import D, DavClient


@row
def the_token_of_a_member_counts_when_its_collection_is_moved(peer: Peer, dav: DavClient) -> None:
    setup(dav("MKCOL", "/d"), 201)
    setup(dav("PUT", "/d/f", b"x"), 201)
    token = locked(dav, "/d/f")
    assert dav("MOVE", "/d", Destination=f"{dav.base}/e", If=f"<{dav.base}/d/f> (<{token}>)").status == 201


@row
def a_lock_below_a_locked_parent_leaves_no_file(peer: Peer, dav: DavClient) -> None:
    setup(dav("MKCOL", "/d"), 201)
    locked(dav, "/d", Depth="infinity")
    setup(dav("LOCK", "/d/new", LOCK_BODY, Depth="0"), 423)
    assert dav("GET", "/d/new").status == 404


@row
def inherited_locks_are_discovered(peer: Peer, dav: DavClient) -> None:
    setup(dav("MKCOL", "/d"), 201)
    setup(dav("PUT", "/d/f", b"x"), 201)
    locked(dav, "/d", Depth="infinity")
    found = find(dav, "/d/f", "<lockdiscovery/>").prop(f"{D}lockdiscovery")
    assert found is not None and found.find(f"{D}activelock") is not None


@row
def timeouts_of_locks_are_capped(peer: Peer, dav: DavClient) -> None:
    answer = setup(dav("LOCK", "/f", LOCK_BODY, Depth="0", Timeout="Infinite"), 201)
    seconds = re.search(rb"Second-(\d+)", answer.body)
    assert seconds is not None and int(seconds[1]) <= 604_800


@row
def a_refresh_by_somebody_else_is_refused(peer: Peer, dav: DavClient) -> None:
    client, path = DavClient(peer.login), dav.base.removeprefix("/demo") + "/f"
    answer = setup(client("LOCK", path, LOCK_BODY, Depth="0", Authorization=basic("ann")), 201)
    token = answer.headers["lock-token"]
    # WsgiDAV takes the lock of another account for none at all: this condition holds then, and names the token.
    assert client("LOCK", path, None, If=f"(Not {token})", Authorization=basic("bob")).status in (403, 412)
    setup(client("LOCK", path, None, If=f"({token})", Authorization=basic("ann")), 200)


@row
def many_connections_that_lock_and_unlock_are_all_served(peer: Peer, dav: DavClient) -> None:
    """Each LOCK and UNLOCK on a connection of its own, from 60 threads: cheroot resets some once its backlog is full."""
    wrong: list[str] = []
    ends = time.monotonic() + 1

    def work(number: int) -> None:
        while time.monotonic() < ends and not wrong:
            client = DavClient(peer.port)
            client.base = dav.base
            try:
                answer = client("LOCK", f"/{number}", LOCK_BODY, Depth="0")
                if answer.status in (200, 201):
                    answer = client("UNLOCK", f"/{number}", Lock_Token=answer.headers["lock-token"])
                if answer.status != 204:
                    wrong.append(f"{answer.status}")
            except OSError as error:
                wrong.append(f"{error!r}")
            finally:
                client.close()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(60)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not wrong


@row
def basic_is_offered_and_an_invented_nonce_is_not_taken(peer: Peer, dav: DavClient) -> None:
    client = DavClient(peer.login)
    asked = client("PROPFIND", "/", Depth="0")
    offered = asked.headers.get("www-authenticate", "").partition(" ")[0]
    realm = re.search(r'realm="([^"]*)"', asked.headers.get("www-authenticate", ""))
    if asked.status != 401 or realm is None:
        raise RuntimeError("no login is asked for")
    md5 = lambda text: hashlib.md5(text.encode()).hexdigest()  # noqa: E731
    first, second = md5(f"ann:{realm[1]}:ann"), md5(f"PROPFIND:{client.base}/")
    digest = md5(f"{first}:invented:00000001:c:auth:{second}")
    header = (
        f'Digest username="ann", realm="{realm[1]}", nonce="invented", uri="{client.base}/", qop=auth, nc=00000001, '
        f'cnonce="c", response="{digest}"'
    )
    taken = [client("PROPFIND", "/", Depth="0", Authorization=header).status for _ in range(2)]
    setup(client("PROPFIND", "/", Depth="0", Authorization=basic("ann")), 207)
    assert offered == "Basic" and taken == [401, 401]
