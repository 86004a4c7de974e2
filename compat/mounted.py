"""What people do with a mounted drive, step by step, through the kernel; shared by the runners that mount.

Must not import: davfs.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from compat import tree
from compat.client import DavClient
from compat.process import run
from compat.report import CompatError, Report
from compat.target import Target

SEED = 30
SETTLE = 60.0
"""Seconds within which what was written through a mount must have reached the server."""


def is_mounted(path: Path) -> bool:
    """Whether the kernel has something mounted at exactly this path."""
    escaped = str(path).replace(" ", "\\040")
    return any(line.split()[1] == escaped for line in Path("/proc/self/mounts").read_text().splitlines())


def wait_for(what: str, condition: Callable[[], bool], limit: float) -> None:
    """Poll until the condition holds; CompatError after `limit` seconds."""
    end = time.monotonic() + limit
    while not condition():
        if time.monotonic() > end:
            raise CompatError(f"not within {limit:.0f} s: {what}")
        time.sleep(0.1)


def unmount(path: Path, program: list[str], home: Path) -> None:
    """Unmount, lazily when the polite way fails; OSError-free, so that it can stand in a finally clause."""
    if not is_mounted(path):
        return
    with suppress(CompatError, OSError):
        run([*program, str(path)], home=home, timeout=60)
    if is_mounted(path):
        subprocess.run(["umount", "-l", str(path)], check=False, timeout=30, capture_output=True)


def operations(report: Report, mount: Path, target: Target, home: Path, files: int) -> None:
    """Write a tree, read it back, rename, change, remove; each step is also checked on the server itself."""
    plan = tree.plan(files, SEED)
    source = home / "source"
    tree.write(source, plan)
    wanted = tree.digests(source)
    with target.client() as client:
        with report.step("the mount lists the empty folder"):
            _expect(_names(mount), [])
        with report.step(f"a tree of {files} files is written"):
            shutil.copytree(source, mount / "tree", copy_function=shutil.copyfile)
        with report.step("it is listed as written"):
            _expect(sorted(tree.digests(mount / "tree")), sorted(wanted))
        with report.step("it reads back with the same digests"):
            _expect(tree.digests(mount / "tree"), wanted)
        with report.step("a folder is renamed"):
            (mount / "tree").rename(mount / "renamed tree")
            _expect(_names(mount), ["renamed tree"])
        with report.step("a file is renamed, then written again"):
            _rename_and_rewrite(mount, client)
        with report.step("a file is appended to"):
            with (mount / "note.txt").open("ab") as stream:
                stream.write(b" and more")
            _expect((mount / "note.txt").read_bytes(), b"second and more")
        with report.step("what does not exist is refused as such"):
            _expect_missing(mount / "never there.txt")
        with report.step("the server holds the whole tree"):
            wait_for("the whole tree on the server", lambda: _listed(client, "renamed tree") == set(wanted), SETTLE)
            for path, digest in wanted.items():
                _expect((path, hashlib.sha256(client.get(f"renamed tree/{path}").body).hexdigest()), (path, digest))
        with report.step("what another client put is read through the mount"):
            _read_others(mount, client)
        with report.step("the tree is removed"):
            shutil.rmtree(mount / "renamed tree")
            (mount / "note.txt").unlink()
            _expect(_names(mount), [])
            wait_for("an empty folder on the server", lambda: client.members() == [], SETTLE)


def _rename_and_rewrite(mount: Path, client: DavClient) -> None:
    first = mount / "first name.txt"
    first.write_bytes(b"first")
    wait_for("first name.txt on the server", lambda: client.get("first name.txt").body == b"first", SETTLE)
    first.rename(mount / "note.txt")
    (mount / "note.txt").write_bytes(b"second")
    _expect((mount / "note.txt").read_bytes(), b"second")
    wait_for("note.txt on the server", lambda: client.get("note.txt").body == b"second", SETTLE)
    _expect(client.get("first name.txt").status, 404)


def _read_others(mount: Path, client: DavClient) -> None:
    """Reads that no cache of the mount can answer: one file of over a chunk, some small ones."""
    large = tree.content(tree.TreeFile("large", tree.CHUNK + 1, 0, SEED))
    files = {
        "large.bin": large,
        "empty.txt": b"",
        **{f"small {number}.txt": b"x" * (number + 1) for number in range(5)},
    }
    _expect(client.request("MKCOL", "from elsewhere/").status, 201)
    for name, data in files.items():
        _expect(client.put(f"from elsewhere/{name}", data).status, 201)
    wait_for("the other client's folder in the mount", lambda: "from elsewhere" in _names(mount), SETTLE)
    _expect(_names(mount / "from elsewhere"), sorted(files))
    for name, data in files.items():
        if (mount / "from elsewhere" / name).read_bytes() != data:
            raise CompatError(f"{name} reads differently through the mount")
    shutil.rmtree(mount / "from elsewhere")


def _listed(client: DavClient, folder: str) -> set[str]:
    """The paths of all files that the server lists below a folder, relative to it."""
    found: set[str] = set()
    waiting = [folder]
    while waiting:
        path = waiting.pop()
        for name in client.members(path):
            if name.endswith("/"):
                waiting.append(f"{path}/{name[:-1]}")
            else:
                found.add(f"{path}/{name}"[len(folder) + 1 :])
    return found


def _names(folder: Path) -> list[str]:
    # davfs2 shows its own lost+found in the root of every mount.
    return sorted(name for name in os.listdir(folder) if name != "lost+found")


def _expect_missing(path: Path) -> None:
    try:
        path.read_bytes()
    except FileNotFoundError:
        return
    raise CompatError(f"{path.name} could be read")


def _expect(got: object, wanted: object) -> None:
    if got != wanted:
        raise CompatError(f"expected {wanted!r}"[:400] + f", got {got!r}"[:400])
