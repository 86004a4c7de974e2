"""The trash of a real drive: read over WebDAV through any node, listed, restored and emptied with ``davfs trash``."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

from tests.support.cluster import DevCluster

TRASH = ".davfs-trash"


def _list(drive: DevCluster, number: int) -> list[dict[str, Any]]:
    done = drive.command("trash", "list", "bin", "--json", number=number)
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def _old_file(file: Path) -> None:
    """An archive of a file that was made long ago: what it holds is kept when it is overwritten."""
    with tarfile.open(file, "w", format=tarfile.PAX_FORMAT) as tar:
        info = tarfile.TarInfo("ledger.csv")
        info.size, info.mtime, info.pax_headers = 6, 1_500_000_000, {"LIBARCHIVE.creationtime": "1500000000"}
        tar.addfile(info, io.BytesIO(b"year 1"))


def test_what_is_gone_is_seen_and_comes_back(drive: DevCluster, tmp_path: Path) -> None:
    assert drive.command("volume", "create", "bin").returncode == 0
    with drive.client(1, "bin") as client:
        drive.until("the new volume", lambda: client.request("MKCOL", "Papers").status == 201, 20)
        assert client.put("Papers/report.txt", b"a year's work").status == 201
    other = drive.holder("bin") % 3 + 1
    assert drive.command("trash", "empty", "bin", "--yes", number=other).returncode == 0  # what the look for the holder left
    _old_file(tmp_path / "old.tar")
    imported = drive.command("volume", "import", "bin", str(tmp_path / "old.tar"), number=other)
    assert imported.returncode == 0, imported.stderr
    with drive.client(other, "bin") as client:
        assert client.put("ledger.csv", b"year 2").status == 204
        assert client.request("DELETE", "Papers").status == 204
        root = client.request("PROPFIND", "", headers={"Depth": "1"})
        assert TRASH.encode() not in root.body
        listing = client.request("PROPFIND", TRASH + "/", headers={"Depth": "1"})
        assert listing.status == 207

        entries = {entry["path"]: entry for entry in _list(drive, other)}
        assert {path: entry["what"] for path, entry in entries.items()} == {"ledger.csv": "replaced", "Papers": "deleted"}
        ledger, papers = (f"{TRASH}/{entries[path]['name']}" for path in ("ledger.csv", "Papers"))
        assert entries["ledger.csv"]["name"].encode() in listing.body.replace(b"%20", b" ")
        assert client.get(ledger).body == b"year 1"
        assert client.get(f"{papers}/report.txt").body == b"a year's work"
        assert client.request("GET", f"{TRASH}/").status == 200
        refused = {
            client.put(f"{TRASH}/new", b"x").status,
            client.request("DELETE", ledger).status,
            client.request("MKCOL", f"{TRASH}/d").status,
            client.request("PROPPATCH", ledger).status,
            client.request("LOCK", ledger).status,
            client.move(ledger, f"{TRASH}/x").status,
            client.move(f"{papers}/report.txt", "x").status,
            client.move(TRASH, "x", method="COPY").status,
            client.request("COPY", "ledger.csv", headers={"Destination": drive.url(other, "bin") + TRASH + "/x"}).status,
        }
        assert refused == {403}
        assert client.get(f"{TRASH}/nothing").status == 404

        for path, data in ((f"{papers}/report.txt", b"a year's work"), (ledger, b"year 1")):
            assert client.move(path, f"copy of {len(data)}", method="COPY").status == 201
            assert client.get(f"copy of {len(data)}").body == data
        assert client.put("loose.txt", b"by mistake").status == 201
        assert client.request("DELETE", "loose.txt").status == 204
        (loose,) = (f"{TRASH}/{entry['name']}" for entry in _list(drive, other) if entry["path"] == "loose.txt")
        assert client.move(loose, "none/here.txt").status == 409
        assert client.move(loose, "ledger.csv", overwrite=False).status == 412
        assert client.move(loose, "loose again.txt").status == 201
        assert (client.get("loose again.txt").body, client.get(loose).status) == (b"by mistake", 404)

        done = drive.command("trash", "restore", "bin", entries["Papers"]["id"], number=other)
        assert (done.returncode, done.stdout) == (0, "restored /Papers\n"), done.stderr
        assert client.get("Papers/report.txt").body == b"a year's work"
        taken = drive.command("trash", "restore", "bin", entries["ledger.csv"]["id"], number=other)
        assert taken.returncode == 1
        assert "--to" in taken.stderr
        done = drive.command("trash", "restore", "bin", entries["ledger.csv"]["id"], "--to", "old/ledger.csv", number=other)
        assert done.returncode == 0, done.stderr
        assert (client.get("ledger.csv").body, client.get("old/ledger.csv").body) == (b"year 2", b"year 1")

        assert client.request("DELETE", "old").status == 204
        assert drive.command("trash", "empty", "bin", number=other).returncode == 1  # it asks, and nobody is there
        assert len(_list(drive, other)) == 1
        done = drive.command("trash", "empty", "bin", "--yes", number=other)
        assert done.stdout.startswith("2 entries removed"), done.stderr
        assert _list(drive, other) == []
    checked = drive.command("volume", "fsck", "bin")
    assert checked.returncode == 0, checked.stdout
