"""A drive behind real reverse proxies, nginx and Apache, configured by the examples of docs/OPERATIONS.md.

The examples are taken from the page; only addresses and ports are this test's, and for the root what the page says.
"""

from __future__ import annotations

import http.client
import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pytest

from compat import litmus, rclone
from compat.client import DavClient
from compat.report import EXIT_OK, EXIT_TOOL_MISSING
from davfs.node.config import load_config
from davfs.node.init import ClusterPlan, NodePlan, create_cluster, free_ports, write_config
from tests.support.cluster import DevCluster
from tests.support.ports import free_run
from tests.support.tools import full_size, refuse, require_tool

PAGE = Path(__file__).resolve().parents[2] / "docs" / "OPERATIONS.md"
MODULES = Path("/usr/lib/apache2/modules")
APACHE_MODULES = (
    "mpm_event", "authz_core", "proxy", "proxy_http", "proxy_balancer", "lbmethod_byrequests", "slotmem_shm", "headers",
)  # fmt: skip
WAYS = [("nginx", "/files/"), ("nginx", "/"), ("apache", "/files/"), ("apache", "/")]
FILES = 300 if full_size() else 20
CHUNK = 4 << 20
RCLONE_WAYS = WAYS if full_size() else [WAYS[0], WAYS[3]]


@dataclass
class Proxy:
    """A proxy that runs: where it listens, and the path of the drive there."""

    port: int
    path: str

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{self.path}demo/"


def examples(language: str) -> list[str]:
    """The examples of the page, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(), re.M | re.S)


@pytest.fixture(scope="module")
def trusting() -> Iterator[DevCluster]:
    """A drive that trusts proxies on 127.0.0.1 and shows itself below /files too."""
    directory = Path(tempfile.mkdtemp(prefix="davfs-proxies-"))
    cluster = DevCluster(directory / "drive")
    try:
        private = free_ports(6)
        plans = [
            NodePlan(f"node-{i + 1}", "127.0.0.1", cluster.port + i, private[2 * i], private[2 * i + 1]) for i in range(3)
        ]
        for file in create_cluster(cluster.directory, ClusterPlan(tuple(plans))):
            config = load_config(file)
            write_config(replace(config, dav=replace(config.dav, trusted_proxies=("127.0.0.1",), prefix="/files")))
        cluster.start()
        yield cluster
        cluster.stop()
    finally:
        cluster.destroy()
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="module")
def start(trusting: DevCluster) -> Iterator[Callable[[str, str], Proxy]]:
    """Starts each proxy once for each path, in the foreground and in a folder of its own."""
    folder = Path(tempfile.mkdtemp(prefix="davfs-proxy-"))
    running: list[subprocess.Popen[bytes]] = []
    made: dict[tuple[str, str], Proxy] = {}

    def begin(kind: str, path: str) -> Proxy:
        if (kind, path) not in made:
            home = folder / f"{kind}-{len(made)}"
            home.mkdir()
            proxy = made[kind, path] = Proxy(free_run(1), path)
            command = (nginx if kind == "nginx" else apache)(home, proxy, trusting)
            with (home / "log").open("wb") as log:
                child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
            running.append(child)
            until_it_listens(proxy.port, child, home)
        return made[kind, path]

    yield begin
    for child in running:
        child.terminate()
    for child in running:
        with suppress(subprocess.TimeoutExpired):
            child.wait(10)
        if child.poll() is None:
            os.killpg(child.pid, 9)
            child.wait(5)
    shutil.rmtree(folder, ignore_errors=True)


def nginx(home: Path, proxy: Proxy, cluster: DevCluster) -> list[str]:
    program = require_tool("nginx")
    upstream, location = (at_home(text, proxy, cluster) for text in examples("nginx"))
    temporary = "\n".join(
        f"{name}_temp_path {home}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (home / "nginx.conf").write_text(
        f"{'user root;' if os.geteuid() == 0 else ''}\ndaemon off;\npid {home}/pid;\nerror_log {home}/error.log;\n"
        f"events {{}}\nhttp {{\naccess_log off;\n{temporary}\n{upstream}\n"
        f"server {{\nlisten 127.0.0.1:{proxy.port};\n{location}\n}}\n}}\n"
    )
    return [program, "-e", f"{home}/error.log", "-p", str(home), "-c", f"{home}/nginx.conf"]


def apache(home: Path, proxy: Proxy, cluster: DevCluster) -> list[str]:
    program = require_tool("apache2")
    (example,) = (at_home(text, proxy, cluster) for text in examples("apache"))
    if proxy.path == "/":
        example, changed = re.subn(r'set X-Forwarded-Prefix ".*"', "unset X-Forwarded-Prefix", example)
        assert changed == 1
    loads = "\n".join(f"LoadModule {name}_module {MODULES}/mod_{name}.so" for name in APACHE_MODULES)
    identity = "User www-data\nGroup www-data\n" if os.geteuid() == 0 else ""
    (home / "httpd.conf").write_text(
        f"ServerRoot {home}\nServerName 127.0.0.1\nListen 127.0.0.1:{proxy.port}\nPidFile {home}/pid\n"
        f"ErrorLog {home}/error.log\nDefaultRuntimeDir {home}\n{loads}\n{identity}"
        f"<VirtualHost *:{proxy.port}>\n{example}</VirtualHost>\n"
    )
    return [program, "-D", "FOREGROUND", "-f", f"{home}/httpd.conf"]


def at_home(example: str, proxy: Proxy, cluster: DevCluster) -> str:
    """An example with this cluster's addresses, for the path that is wanted."""
    for number in (1, 2, 3):
        example = example.replace(f"10.0.0.{number}:8080", f"127.0.0.1:{cluster.port + number - 1}")
    assert "10.0.0." not in example
    return example.replace("/files/", proxy.path)


def until_it_listens(port: int, child: subprocess.Popen[bytes], home: Path) -> None:
    ends = time.monotonic() + 10
    while True:
        with suppress(OSError):
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        told = "\n".join(file.read_text(errors="replace") for file in home.glob("*log"))
        assert child.poll() is None and time.monotonic() < ends, told
        time.sleep(0.05)


def run(capsys: pytest.CaptureFixture[str], main: Callable[[list[str]], int], words: list[str]) -> str:
    code = main(words)
    printed = capsys.readouterr()
    if code == EXIT_TOOL_MISSING:
        refuse(printed.err.strip())
    assert code == EXIT_OK, printed.out
    return printed.out


@pytest.mark.parametrize(("kind", "path"), WAYS)
def test_litmus(start: Callable[[str, str], Proxy], capsys: pytest.CaptureFixture[str], kind: str, path: str) -> None:
    run(capsys, litmus.main, [start(kind, path).url])


@pytest.mark.parametrize(("kind", "path"), RCLONE_WAYS)
def test_rclone(start: Callable[[str, str], Proxy], capsys: pytest.CaptureFixture[str], kind: str, path: str) -> None:
    run(capsys, rclone.main, [start(kind, path).url, "--files", str(FILES), "--binary", "debian"])


@pytest.mark.parametrize(("kind", "path"), WAYS)
def test_names_locks_and_sessions(
    start: Callable[[str, str], Proxy], trusting: DevCluster, kind: str, path: str
) -> None:
    proxy = start(kind, path)
    base = f"{path}demo"
    name = "100% of a+b#?[]&;'%20ü"
    with DavClient(proxy.url, timeout=30) as client:
        assert client.put(name, b"x" * 3_000_000).ok
        found = client.request("PROPFIND", "", headers={"Depth": "1"})
        hrefs = re.findall(r"<D:href>([^<]*)</D:href>", found.body.decode())
        assert f"{base}/" in hrefs and all(href.startswith(f"{base}/") for href in hrefs), hrefs
        (href,) = [href for href in hrefs if href.endswith("%C3%BC")]
        moved = client.request("MOVE", name, headers={"Destination": f"{proxy.url}renamed", "Overwrite": "T"})
        assert moved.ok, moved.body
        back = client.request("MOVE", "renamed", headers={"Destination": f"http://127.0.0.1:{proxy.port}{href}"})
        assert back.ok, back.body
        assert client.get(name).body == b"x" * 3_000_000
        assert client.request("MOVE", name, headers={"Destination": "http://elsewhere.example/demo/x"}).status == 502
        info = (
            '<D:lockinfo xmlns:D="DAV:"><D:lockscope><D:exclusive/></D:lockscope><D:locktype><D:write/></D:locktype>'
            "</D:lockinfo>"
        )
        locked = client.request("LOCK", "locked", info.encode())
        assert f"<D:lockroot><D:href>{base}/locked</D:href>".encode() in locked.body
        token = locked.headers["lock-token"]
        with trusting.client(2) as direct:
            assert direct.put("locked", b"no").status == 423
        tagged = {"If": f"<{proxy.url}locked> ({token})"}
        assert client.request("PUT", "locked", b"yes", headers=tagged).ok
        assert client.request("DELETE", "locked", headers=tagged).ok
        assert client.request("DELETE", name).ok

    # Another machine, as far as the proxy sees: with a made-up past that nobody is to believe.
    agent = f"session-{kind}-{len(path)}"
    connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=20, source_address=("127.0.0.77", 0))
    lies = {"X-Forwarded-For": "203.0.113.5", "Forwarded": "for=203.0.113.6", "X-Forwarded-Prefix": "/lie"}
    connection.request("PROPFIND", f"{base}/", headers={"Depth": "0", "User-Agent": agent, **lies})
    answer = connection.getresponse()
    assert answer.status == 207 and f"<D:href>{base}/</D:href>".encode() in answer.read()
    connection.close()
    listed = trusting.command("session", "list").stdout
    assert "127.0.0.77" in listed and "203.0.113" not in listed, listed


def large_chunks(cluster: DevCluster) -> set[Path]:
    """Whole chunks on the nodes' disks: behind a header, under their final names."""
    found = cluster.directory.glob("node-*/data/chunks/**/*")
    return {file for file in found if len(file.name) == 64 and file.is_file() and file.stat().st_size > CHUNK}


def new_chunks(cluster: DevCluster, before: set[Path]) -> bool:
    return bool(large_chunks(cluster) - before)


def test_a_large_upload_streams_through(start: Callable[[str, str], Proxy], trusting: DevCluster) -> None:
    """The first chunk is on the nodes' disks while the last bytes are not sent: no proxy keeps the file."""
    for kind, path in WAYS[::2]:
        proxy = start(kind, path)
        connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=30)
        connection.putrequest("PUT", f"{path}demo/slow")
        connection.putheader("Content-Length", str(3 * CHUNK))
        connection.endheaders()
        before, body = large_chunks(trusting), os.urandom(3 * CHUNK)
        connection.send(body[: 2 * CHUNK])
        trusting.until("a chunk of an upload that goes on", partial(new_chunks, trusting, before), 10)
        connection.send(body[2 * CHUNK :])
        assert connection.getresponse().status in (201, 204)
        connection.close()
        with DavClient(proxy.url) as client:
            assert client.get("slow").body == body
            assert client.request("DELETE", "slow").ok
