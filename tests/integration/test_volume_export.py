"""``davfs volume export`` and ``import``: everything comes back, of one moment, and what fails says so."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
import threading
import unicodedata
from pathlib import Path

import pytest

from tests.support.cluster import DAVFS, DevCluster

NAMES = ["plain.txt", "with space & +%41", "Zoë’s café 日本 🎉", unicodedata.normalize("NFD", "Ångström"), "n" * 255, "-rf"]
PROPERTY = (
    '<?xml version="1.0"?><D:propertyupdate xmlns:D="DAV:" xmlns:x="http://x/?a=b"><D:set><D:prop>'
    "<x:colour>gr&amp;en é<x:deep a='1'/></x:colour></D:prop></D:set></D:propertyupdate>"
)
ASK = '<?xml version="1.0"?><D:propfind xmlns:D="DAV:" xmlns:x="http://x/?a=b"><D:prop><x:colour/></D:prop></D:propfind>'


def make(drive: DevCluster, name: str) -> None:
    done = drive.command("volume", "create", name)
    assert done.returncode == 0, done.stderr
    with drive.client(1, name) as client:
        drive.until("the new volume", lambda: client.request("PROPFIND", "", headers={"Depth": "0"}).status == 207, 20)


def members(file: Path | bytes) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(file if isinstance(file, bytes) else file.read_bytes())) as tar:
        return {info.name: info for info in tar.getmembers()}


def run(drive: DevCluster, *words: str, feed: bytes | None = None, number: int = 1) -> subprocess.CompletedProcess[bytes]:
    command = [str(DAVFS), "volume", *words, "--config", str(drive.config(number))]
    return subprocess.run(command, input=feed, capture_output=True, timeout=120, check=False)


def test_everything_comes_back(drive: DevCluster, tmp_path: Path) -> None:
    make(drive, "whole")
    big = os.urandom(9_000_000)
    with drive.client(2, "whole") as client:
        assert client.request("MKCOL", "Papers").status == 201
        assert client.request("MKCOL", "Papers/Empty").status == 201
        for number, name in enumerate(NAMES):
            fields = {"X-OC-Mtime": str(1_500_000_000 + number)}
            assert client.request("PUT", f"Papers/{name}", body=name.encode(), headers=fields).status == 201
        assert client.put("big.bin", big).status == 201
        assert client.put("nothing", b"").status == 201
        for path in ("", "Papers", "Papers/plain.txt"):
            assert client.request("PROPPATCH", path, body=PROPERTY.encode()).status == 207
    first, second = tmp_path / "first.tar", tmp_path / "second.tar"
    done = run(drive, "export", "whole", str(first), number=3)
    assert done.returncode == 0, done.stderr
    assert b"8 files and 3 directories" in done.stderr

    make(drive, "back")
    done = run(drive, "import", "back", "-", feed=first.read_bytes(), number=2)
    assert done.returncode == 0, done.stderr
    assert run(drive, "export", "back", str(second)).returncode == 0
    one, two = members(first), members(second)
    assert set(one) == set(two) == {".", "Papers", "Papers/Empty", "big.bin", "nothing", *(f"Papers/{name}" for name in NAMES)}
    for name in set(one) - {"."}:
        for what in ("size", "type", "mtime"):
            assert getattr(one[name], what) == getattr(two[name], what), (name, what)
        heads = [{**info.pax_headers, "DAVFS.volume": ""} for info in (one[name], two[name])]
        assert heads[0] == heads[1], name
    assert "colour" in one["."].pax_headers["DAVFS.properties"] == two["."].pax_headers["DAVFS.properties"]
    assert one[f"Papers/{NAMES[2]}"].mtime == 1_500_000_002
    with drive.client(1, "back") as client:
        assert client.get("big.bin").body == big
        assert client.get(f"Papers/{NAMES[4]}").body == NAMES[4].encode()
        answer = client.request("PROPFIND", "Papers/plain.txt", headers={"Depth": "0"}, body=ASK.encode()).body
        assert "gr&amp;en é<" in answer.decode()
    checked = drive.command("volume", "fsck", "back")
    assert checked.returncode == 0, checked.stdout


def test_nothing_is_overwritten_unless_told(drive: DevCluster, tmp_path: Path) -> None:
    make(drive, "mine")
    with drive.client(1, "mine") as client:
        assert client.put("a", b"archived").status == 201
        assert client.put("b", b"archived").status == 201
        file = tmp_path / "mine.tar"
        assert run(drive, "export", "mine", str(file)).returncode == 0
        before = file.read_bytes()
        refused = run(drive, "export", "mine", str(file))
        assert refused.returncode == 1 and b"is there already" in refused.stderr
        assert file.read_bytes() == before
        assert run(drive, "export", "mine", str(file), "--overwrite").returncode == 0
        assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.tar"]

        client.put("a", b"newer")
        client.request("DELETE", "b")
        refused = run(drive, "import", "mine", str(file))
        assert refused.returncode == 1 and b"/a is there already" in refused.stderr
        assert (client.get("a").body, client.get("b").status) == (b"newer", 404)
        assert run(drive, "import", "mine", str(file), "--keep").returncode == 0
        assert (client.get("a").body, client.get("b").body) == (b"newer", b"archived")
        assert run(drive, "import", "mine", str(file), "--overwrite").returncode == 0
        assert (client.get("a").body, client.get("b").body) == (b"archived", b"archived")


def test_bad_archives_say_what_is_wrong(drive: DevCluster, tmp_path: Path) -> None:
    make(drive, "bad")
    with drive.client(1, "bad") as client:
        assert client.put("a", os.urandom(100_000)).status == 201
    whole = run(drive, "export", "bad", "-")
    assert whole.returncode == 0, whole.stderr
    cut = run(drive, "import", "bad", "-", "--overwrite", feed=whole.stdout[:60_000])
    assert cut.returncode == 1 and b"cut within" in cut.stderr
    nonsense = run(drive, "import", "bad", "-", feed=b"this is no archive at all" * 100)
    assert nonsense.returncode == 1 and b"no tar archive" in nonsense.stderr
    assert run(drive, "import", "nowhere", "-", feed=whole.stdout).stderr.startswith(b"davfs: there is no volume 'nowhere'")
    missing = run(drive, "import", "bad", str(tmp_path / "nothing.tar"))
    assert missing.returncode == 1 and b"is no file" in missing.stderr

    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name in ("../escape", "good/file", "bad\x01name"):
            info = tarfile.TarInfo(name)
            info.size = 4
            tar.addfile(info, io.BytesIO(b"data"))
        link = tarfile.TarInfo("link")
        link.type = tarfile.SYMTYPE
        link.linkname = "good/file"
        tar.addfile(link)
    done = run(drive, "import", "bad", "-", feed=out.getvalue())
    assert done.returncode == 1
    assert done.stderr.count(b"not imported") == 3 and b"is a link" in done.stderr
    with drive.client(1, "bad") as client:
        assert client.get("good/file").body == b"data"
        assert client.members() == ["a", "good/"]


def test_an_export_is_of_one_moment(drive: DevCluster) -> None:
    """Files wander between two directories, and these swap their names: each export has every file exactly once."""
    make(drive, "moving")
    count = 12
    with drive.client(1, "moving") as client:
        for folder in ("one", "two"):
            assert client.request("MKCOL", folder).status == 201
        for number in range(count):
            assert client.put(f"one/{number}", b"%d" % number).ok
    ended = threading.Event()

    def wander() -> None:
        with drive.client(2, "moving") as mover:
            base = drive.url(2, "moving")
            turn = 0
            while not ended.is_set():
                a, b = ("one", "two") if turn // count % 2 == 0 else ("two", "one")
                number = turn % count
                answer = mover.request("MOVE", f"{a}/{number}", headers={"Destination": f"{base}{b}/{number}"})
                assert answer.ok, answer.status
                turn += 1

    mover = threading.Thread(target=wander)
    mover.start()
    try:
        for _ in range(3):
            done = run(drive, "export", "moving", "-")
            assert done.returncode == 0, done.stderr
            files = [name for name, info in members(done.stdout).items() if info.isreg()]
            assert sorted(int(name.partition("/")[2]) for name in files) == list(range(count))
    finally:
        ended.set()
        mover.join(30)


@pytest.mark.slow
def test_an_import_goes_on_when_the_holder_is_killed(fresh: DevCluster, tmp_path: Path) -> None:
    contents = {f"d{n % 7}/{n}": os.urandom(2_000) for n in range(600)} | {"big": os.urandom(30_000_000)}
    file = tmp_path / "a.tar"
    with tarfile.open(file, "w") as tar:
        for name, data in contents.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    holder = fresh.holder()
    other = holder % 3 + 1
    command = [str(DAVFS), "volume", "import", "demo", str(file), "--config", str(fresh.config(other))]
    importing = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    with fresh.client(other) as client:
        fresh.until("the first files", lambda: client.request("PROPFIND", "d1", headers={"Depth": "0"}).status == 207, 20)
    fresh.kill(holder)
    _, errors = importing.communicate(timeout=120)
    assert importing.returncode == 0, errors
    back = run(fresh, "export", "demo", "-", number=other)
    assert back.returncode == 0, back.stderr
    with tarfile.open(fileobj=io.BytesIO(back.stdout)) as tar:
        found = {info.name: tar.extractfile(info).read() for info in tar.getmembers() if info.isreg()}
    found.pop(".holder-wanted", None)
    assert found == contents
