"""``davfs volume``: volumes made and removed, and the design's flows by hand: assign, refresh, free."""

from __future__ import annotations

import json
import subprocess
import time
from functools import partial
from typing import Any

from compat.client import DavClient
from tests.support.cluster import DevCluster


def _done(done: subprocess.CompletedProcess[str]) -> Any:
    assert done.returncode == 0, f"{done.args}: {done.returncode}\n{done.stdout}{done.stderr}"
    return json.loads(done.stdout)


def _refused(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode != 0, f"{done.args} succeeded:\n{done.stdout}"
    assert "Traceback" not in done.stderr
    return done.stderr


def _is(client: DavClient, path: str, there: bool) -> bool:
    status = client.request("PROPFIND", path, headers={"Depth": "0"}).status
    return status == 207 if there else status == 404


def test_a_volume_is_made_listed_shown_and_deleted(drive: DevCluster) -> None:
    _done(drive.command("volume", "create", "third", "--json", "--chunk-size", "1048576"))
    assert "third" in [volume["name"] for volume in _done(drive.command("volume", "list", "--json", number=2))]
    shown = _done(drive.command("volume", "show", "third", "--json", number=3))
    assert shown["policy"]["chunk_size"] == 1048576
    assert "third" in _refused(drive.command("volume", "create", "third"))
    for number in (1, 2, 3):
        with drive.client(number, "third") as client:
            drive.until("the new volume", partial(_is, client, "", True), 10)
            assert client.put(f"{number}.txt", b"x" * 2_500_000).status == 201
    _done(drive.command("volume", "delete", "third", "--yes", "--force", "--json", number=2))
    for number in (1, 2, 3):
        with drive.client(number, "third") as client:
            drive.until("the end of the volume", partial(_is, client, "1.txt", False), 10)
    assert "third" in _refused(drive.command("volume", "show", "third"))


def test_a_volume_made_anew_is_empty(drive: DevCluster) -> None:
    """A volume's id is random and never reused: nothing of the old one shows."""
    _done(drive.command("volume", "create", "again", "--json"))
    with drive.client(1, "again") as client:
        drive.until("the new volume", lambda: client.put("old.txt", b"old").ok, 10)
        _done(drive.command("volume", "delete", "again", "--yes", "--force", "--json"))
        _done(drive.command("volume", "create", "again", "--json"))
        drive.until("the newer volume", lambda: client.put("new.txt", b"new").ok, 10)
        assert client.members() == ["new.txt"]
    _done(drive.command("volume", "delete", "again", "--yes", "--force", "--json"))


def test_a_program_holds_a_volume_by_hand(drive: DevCluster) -> None:
    """While a program holds a volume, WebDAV is answered 423 with Retry-After through every node; after free, served again."""
    _done(drive.command("volume", "create", "byhand", "--json"))
    granted = _done(drive.command("volume", "assign", "byhand", "--json", "--ttl", "20"))
    bearer = ("--token", granted["token"], "--epoch", ".".join(map(str, granted["epoch"])))
    refusal = _refused(drive.command("volume", "assign", "byhand", number=2))
    assert "held through a program; its token ends in " in refusal, "who, and until when"
    for number in (1, 2, 3):
        with drive.client(number, "byhand") as client:
            answer = client.put("refused.txt", b"x")
            assert answer.status == 423
            assert int(answer.headers["retry-after"]) >= 1
    _done(drive.command("volume", "refresh", "byhand", *bearer, "--json", number=3))
    _refused(drive.command("volume", "free", "byhand", "--token", "00" * 32, *bearer[2:]))
    _done(drive.command("volume", "free", "byhand", *bearer, "--json", number=2))
    with drive.client(3, "byhand") as client:
        drive.until("service after free", lambda: client.put("served.txt", b"x").ok, 10)
    epoch = drive.volume("byhand")["epoch"]
    assert epoch > granted["epoch"][1]
    _refused(drive.command("volume", "refresh", "byhand", *bearer))
    _done(drive.command("volume", "delete", "byhand", "--yes", "--force", "--json"))


def test_a_token_that_is_not_refreshed_ends(drive: DevCluster) -> None:
    _done(drive.command("volume", "create", "shortly", "--json"))
    granted = _done(drive.command("volume", "assign", "shortly", "--json", "--ttl", "2"))
    began = time.monotonic()
    with drive.client(2, "shortly") as client:
        drive.until("service after the token's end", lambda: client.put("a.txt", b"a").ok, 15)
    assert time.monotonic() - began > 0.5
    assert drive.volume("shortly")["epoch"] > granted["epoch"][1]
    _done(drive.command("volume", "delete", "shortly", "--yes", "--force", "--json"))
