"""The client library against real nodes: the page's examples, competition, expiry, fences, positions, DAV beside it."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import ssl
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Callable, Iterator
from http.client import HTTPException
from pathlib import Path

import pytest

from davfs.cli.remote import connect as remote
from davfs.client import Cluster, Volume, connect
from davfs.core.chunking import digest_of
from davfs.core.errors import (
    DavfsError,
    InvalidInput,
    LeaseLost,
    Locked,
    NotFound,
    TokenExpired,
    TokenFreed,
    TokenRefused,
    TokenUnknown,
    VolumeHeld,
)
from tests.support.cluster import DevCluster
from tests.support.programs import Child, Plain

ROOT = Path(__file__).resolve().parents[2]
CHUNK = 4096


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevCluster]:
    """A drive with small chunks for this module."""
    cluster = DevCluster(tmp_path_factory.mktemp("client") / "drive", options=("--chunk-size", str(CHUNK)))
    try:
        cluster.start()
        yield cluster
        cluster.stop()
    finally:
        cluster.destroy()


@pytest.fixture
def volume(own: DevCluster, request: pytest.FixtureRequest) -> str:
    """A new volume that nobody has touched."""
    name = "v" + re.sub(r"\W", "-", request.node.name)[:50]
    with remote(own.config(1)) as nodes:
        nodes.ask("admin.volume_create", {"name": name})
    return name


@pytest.fixture(scope="module")
def folders(own: DevCluster, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a program, made when it is first asked for."""
    root = tmp_path_factory.mktemp("programs")

    def folder(name: str) -> Path:
        path = root / name
        if not path.exists():
            done = own.command("cert", "program", name, "--out", str(path))
            assert done.returncode == 0, done.stderr
        return path

    return folder


@pytest.fixture
def program(folders: Callable[[str], Path]) -> Iterator[Cluster]:
    with connect(folders("one")) as cluster:
        yield cluster


def test_the_examples_of_the_page_run(own: DevCluster, folders: Callable[[str], Path]) -> None:
    assert own.command("volume", "create", "reports").returncode == 0
    code = "\n".join(re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "client.md").read_text(), re.S))
    assert code.count("assign(") >= 4
    cwd = folders("backup").parent
    done = subprocess.run([sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, own.story(done.stderr)
    assert "reports free" in done.stdout


def test_two_programs_compete_and_one_has_the_volume_at_a_time(
    own: DevCluster, volume: str, folders: Callable[[str], Path]
) -> None:
    """Each adds its mark to one file, read and written back: a lost update would show."""
    rounds, errors = 4, []

    def work(name: str) -> None:
        try:
            with connect(folders(name)) as cluster:
                for _ in range(rounds):
                    with cluster.assign(volume, wait=60.0) as held:
                        before = held.read("/marks") if held.exists("/marks") else b""
                        held.write("/marks", before + name.encode() + b" ")
        except Exception as error:
            errors.append(error)

    for name in ("one", "two"):
        folders(name)
    threads = [threading.Thread(target=work, args=(name,)) for name in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(90)
    assert not errors, own.story(str(errors))
    with own.client(1, volume) as client:
        marks = client.request("GET", "marks").body.split()
    assert sorted(marks) == [b"one"] * rounds + [b"two"] * rounds


def test_a_refusal_says_who_and_until_when_and_dav_waits(
    own: DevCluster, volume: str, program: Cluster, folders: Callable[[str], Path]
) -> None:
    with program.assign(volume, ttl=4.0) as held, connect(folders("two")) as other:
        held.write("/a", b"by a program")
        with pytest.raises(VolumeHeld, match="held through program:one") as refused:
            other.assign(volume)
        assert refused.value.data["holder"] == "program:one"
        assert 0.0 <= refused.value.data["expires_in_s"] <= 4.0
        assert [(v.holder, v.name) for v in other.volumes() if v.name == volume] == [("program:one", volume)]
        for number in (1, 2, 3):
            with own.client(number, volume) as client:
                answer = client.request("GET", "a")
                assert answer.status == 423
                assert b"program:one" in answer.body
                assert int(answer.headers["retry-after"]) >= 1
    with own.client(2, volume) as client:
        assert client.request("GET", "a").body == b"by a program"
        assert client.put("b", b"by a person").ok
    with pytest.raises(VolumeHeld, match=r"held through node-\d"):
        program.assign(volume)


def test_a_program_waits_for_dav_locks(own: DevCluster, volume: str, program: Cluster) -> None:
    """The lock outlives its gateway, and the volume is free: still no program takes it."""
    body = (
        b'<?xml version="1.0"?><D:lockinfo xmlns:D="DAV:"><D:lockscope><D:exclusive/></D:lockscope>'
        b"<D:locktype><D:write/></D:locktype></D:lockinfo>"
    )
    with own.client(1, volume) as client:
        answer = client.request("LOCK", "f", body, {"Timeout": "Second-600"})
        assert answer.status == 201
        token = answer.headers["lock-token"].strip("<>")
    holder = int(str(own.volume(volume)["holder"]).rpartition("-")[2])
    own.kill(holder, signal.SIGTERM)  # graceful: it frees the volume, the lock stays
    own.serve(holder)
    asked = 2 if holder == 1 else 1
    own.until("free", lambda: own.volume(volume, number=asked)["holder"] is None, 20)
    with pytest.raises(Locked, match="people hold 1 DAV locks"):
        program.assign(volume)
    done = own.command("lock", "break", token, number=asked)
    assert done.returncode == 0, done.stderr
    with program.assign(volume, wait=30.0) as held:
        assert held.stat("/f").size == 0


def test_the_token_is_refreshed_in_the_background(volume: str, program: Cluster) -> None:
    with program.assign(volume, ttl=1.0) as held:
        epoch = held.epoch
        for number in range(6):
            held.write(f"/{number}", b"x")
            time.sleep(0.5)
        assert held.held
        assert held.epoch == epoch
        assert len(held.list()) == 6


@pytest.fixture
def child(folders: Callable[[str], Path], volume: str, tmp_path: Path) -> Iterator[Child]:
    started = Child(folders("child"), volume, tmp_path)
    yield started
    started.end()


def test_the_token_of_a_killed_program_expires(own: DevCluster, volume: str, program: Cluster, child: Child) -> None:
    child.process.kill()
    began = time.monotonic()
    with program.assign(volume, wait=30.0) as held:
        print(f"taken over {time.monotonic() - began:.1f} s after the kill (ttl 2 s)")
        assert held.read("/counter").startswith(b"child")


def test_a_stopped_program_cannot_write_once_another_took_over(
    own: DevCluster, volume: str, program: Cluster, child: Child
) -> None:
    os.kill(child.process.pid, signal.SIGSTOP)
    try:
        with program.assign(volume, wait=30.0) as held:
            held.open("/counter").write_at(0, b"second holder")
            os.kill(child.process.pid, signal.SIGCONT)
            assert [child.go_on() for _ in range(3)] == ["error LeaseLost\n"] * 3
            assert held.read("/counter") == b"second holder"
    finally:
        os.kill(child.process.pid, signal.SIGCONT)
    with own.client(3, volume) as client:
        assert client.request("GET", "counter").body == b"second holder"


def test_positions_against_a_plain_buffer(own: DevCluster, volume: str, program: Cluster) -> None:
    """Random writes, appends, cuts and reads, across chunk borders and beyond the end; a bytearray says what is right."""
    source = random.Random(7)
    model = bytearray()
    with program.assign(volume) as held:
        file = held.open("/f", create=True)
        for _ in range(25):
            at = source.choice((0, CHUNK - 1, CHUNK, len(model), source.randrange(5 * CHUNK)))
            data = source.randbytes(source.choice((0, 1, 2, CHUNK, 2 * CHUNK + 1, source.randrange(3 * CHUNK))))
            kind = source.randrange(4)
            if kind < 2:
                file.write_at(at, data)
                if data or at > len(model):
                    model.extend(bytes(max(0, at - len(model))))
                    model[at : at + len(data)] = data
            elif kind == 2:
                assert file.append(data) == len(model)
                model.extend(data)
            else:
                file.resize(at)
                model[:] = model[:at].ljust(at, b"\0")
            assert file.size == len(model)
            start = source.randrange(len(model) + CHUNK)
            assert file.read_at(start, 2 * CHUNK) == bytes(model[start : start + 2 * CHUNK])
        assert held.read("/f") == bytes(model)
        with pytest.raises(InvalidInput):
            file.write_at(-1, b"x")
        with pytest.raises(InvalidInput):
            file.write_at(1 << 60, b"x")
    with own.client(1, volume) as client:
        assert client.request("GET", "f").body == bytes(model)


def test_holes_and_files_of_many_segments(own: DevCluster, volume: str, program: Cluster) -> None:
    """A hole of 600 chunks is one chunk of zeros that is named 600 times; the list stands in segments."""
    far = 600 * CHUNK + 17
    with program.assign(volume) as held:
        file = held.open("/sparse", create=True)
        file.write_at(10, b"near")
        file.write_at(far, b"far")
        assert file.size == far + 3
        assert file.read_at(0, 20) == bytes(10) + b"near" + bytes(6)
        assert file.read_at(far - 2, 100) == b"\0\0far"
        file.write_at(300 * CHUNK - 2, b"over the border")
        assert file.read_at(300 * CHUNK - 4, 20) == b"\0\0over the border\0\0\0"
        file.resize(CHUNK)
        assert file.read_at(0, 2 * CHUNK) == bytes(10) + b"near" + bytes(CHUNK - 14)
        held.delete("/sparse")
        with pytest.raises(NotFound, match="deleted"):
            file.write_at(0, b"x")
        with pytest.raises(NotFound):
            held.stat("/sparse")


def test_writes_of_several_threads_all_count(volume: str, program: Cluster) -> None:
    with program.assign(volume) as held:
        file = held.open("/log", create=True)
        lines = [b"%d-%d\n" % (thread, number) for thread in range(4) for number in range(8)]
        groups = [lines[thread::4] for thread in range(4)]
        threads = [threading.Thread(target=lambda g=group: [file.append(line) for line in g]) for group in groups]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert sorted(held.read("/log").split()) == sorted(line.strip() for line in lines)


def test_a_node_that_dies_meanwhile_is_done_without(own: DevCluster, volume: str, program: Cluster) -> None:
    with program.assign(volume) as held:
        file = held.open("/f", create=True)
        file.write_at(0, bytes(3 * CHUNK))
        own.kill(3)
        try:
            file.write_at(CHUNK - 2, b"over")
            held.write("/g", b"g" * 2 * CHUNK)
            assert file.read_at(CHUNK - 4, 8) == b"\0\0over\0\0"
            assert held.read("/g") == b"g" * 2 * CHUNK
        finally:
            own.serve(3)
            own.until("node 3 is back", lambda: all(node["up"] for node in own.status()["nodes"]), 30)


def test_a_node_that_hangs_is_waited_for_once(own: DevCluster, volume: str, program: Cluster) -> None:
    """SIGSTOP: connections stand, nobody answers. The token is refreshed, chunks are written and read all the same."""
    with program.assign(volume) as held:
        held.write("/old", b"o" * 12 * CHUNK)
        held._session._bearer._kept._chunks.clear()
        os.kill(own.pid(2), signal.SIGSTOP)
        try:
            began = time.monotonic()
            held.write("/new", b"n" * 12 * CHUNK)
            wrote = time.monotonic()
            assert held.read("/old") == b"o" * 12 * CHUNK
            read = time.monotonic()
            print(f"12 chunks beside a hanging node: written in {wrote - began:.1f} s, read in {read - wrote:.1f} s")
            time.sleep(max(0.0, began + 6.0 - time.monotonic()))  # longer than the ttl
            held.write("/newer", b"n")
            assert held.held
        finally:
            os.kill(own.pid(2), signal.SIGCONT)
        assert held.read("/new") == b"n" * 12 * CHUNK


def test_tokens_that_are_no_good_are_told_apart(volume: str, program: Cluster, folders: Callable[[str], Path]) -> None:
    link = program._link

    def refresh(epoch: list[int], token: bytes) -> None:
        link.ask("token.refresh", {"volume": volume_id, "epoch": epoch, "token": token}, 5.0)

    held = program.assign(volume, ttl=1.0)
    credentials = held._session.holder.credentials
    volume_id, epoch, token = credentials.volume, list(credentials.epoch), credentials.token
    refresh(epoch, token)
    with pytest.raises(TokenRefused):
        refresh(epoch, bytes(32))
    with pytest.raises(TokenUnknown):
        refresh([epoch[0], epoch[1] + 1], token)
    for proof in ({"epoch": epoch, "token": bytes(32)}, {"epoch": [9, 9], "token": token}, {}):
        with pytest.raises((TokenRefused, TokenUnknown, InvalidInput)):
            link.call("node-1", "chunk.get", {"volume": volume_id, "digest": "0" * 64, **proof}, timeout=5.0)
    for method in ("admin.status", "node.meet", "node.status", "admin.volume_delete"):
        with pytest.raises(DavfsError) as refused:
            link.call("node-1", method, {"name": volume}, timeout=5.0)
        assert refused.value.code == "forbidden"
    held.free()
    with pytest.raises(TokenFreed):
        refresh(epoch, token)
    with pytest.raises(InvalidInput, match="freed"):
        held.epoch  # noqa: B018
    held = program.assign(volume, ttl=1.0)
    credentials = held._session.holder.credentials
    held._session._ended.set()  # the program forgets to refresh
    held._session._keeper.join(5)
    wait_for(lambda: not held.held)
    with pytest.raises(LeaseLost):
        held.write("/x", b"x")
    wait_for(lambda: program.volume(volume).holder is None)
    with pytest.raises(TokenExpired):
        refresh(list(credentials.epoch), credentials.token)
    held.free()


def wait_for(condition: Callable[[], object], limit: float = 15.0) -> None:
    ends = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.05)


def test_a_volume_that_was_lost_is_assigned_anew(volume: str, program: Cluster) -> None:
    first: Volume = program.assign(volume, ttl=1.0)
    first.write("/a", b"1")
    first._session._ended.set()
    wait_for(lambda: program.volume(volume).holder is None)
    with program.assign(volume) as second:
        assert second.read("/a") == b"1"
        assert second.epoch > first.epoch
        with pytest.raises(LeaseLost):
            first.write("/a", b"2")
        assert second.read("/a") == b"1"
    first.free()


# --- the HTTP API, as a program in another language uses it -----------------------------------------------------------


def test_the_http_api_by_hand(own: DevCluster, volume: str, program: Cluster, folders: Callable[[str], Path]) -> None:
    with program.assign(volume) as held:
        held.write("/a", b"x" * 3 * CHUNK)
    plain, base, token = Plain(folders("two")), f"/v1/volumes/{volume}", bytes(range(32))
    status, answer, _ = plain.ask("GET", "/v1/cluster")
    assert status == 200
    assert {node["name"] for node in answer["nodes"]} == set(plain.addresses)
    assert volume in [told["name"] for told in answer["volumes"]]
    assert plain.ask("GET", "/v1/volumes/nothing")[0] == 404

    wish = json.dumps({"token_digest": digest_of(token), "ttl": 30, "request_id": "once"}).encode()
    status, answer, _ = plain.ask("POST", f"{base}/assign", wish)
    assert (status, answer["ttl"]) == (200, 30.0)
    assert plain.ask("POST", f"{base}/assign", wish, "node-2")[1]["epoch"] == answer["epoch"], "asked twice, granted once"
    plain.proof = {"Authorization": f"Bearer {token.hex()}", "Davfs-Epoch": "{}.{}".format(*answer["epoch"])}
    with pytest.raises(VolumeHeld, match="program:two"):
        program.assign(volume)
    other = json.dumps({"token_digest": digest_of(b"other")}).encode()
    status, refusal, headers = plain.ask("POST", f"{base}/assign", other)
    assert (status, refusal["error"], refusal["data"]["holder"]) == (423, "volume-held", "program:two")
    assert int(headers["Retry-After"]) >= 1

    assert plain.ask("GET", f"{base}/records?first=1")[1]["error"] == "not-sealed"
    for node in plain.addresses:
        status, stands, _ = plain.ask("POST", f"{base}/seal", node=node)
        assert (status, stands["sealed"]) == (200, answer["epoch"])
    status, records, _ = plain.ask("GET", f"{base}/records?first=1")
    assert (status, records[4:6]) == (200, b"DR")
    last = ".".join(str(part) for part in [*stands["last"][0], stands["last"][1]])
    status, after, _ = plain.ask("POST", f"{base}/records?previous={last}", node="node-3")
    assert (status, after["last"]) == (200, stands["last"])
    assert plain.ask("POST", f"{base}/records?previous=1.1.77")[1]["error"] == "log-mismatch"

    chunk = b"a chunk by hand"
    assert plain.ask("PUT", f"{base}/chunks/{digest_of(chunk)}", chunk)[0] == 204
    assert plain.ask("GET", f"{base}/chunks/{digest_of(chunk)}")[:2] == (200, chunk)
    assert plain.ask("PUT", f"{base}/chunks/{digest_of(chunk)}", chunk + b"!")[0] == 400
    assert plain.ask("GET", f"{base}/chunks/{'0' * 64}")[0] == 404
    assert plain.ask("GET", f"{base}/chunks/..%2F..%2F..%2Fnode-1%2Fdavfs.toml")[0] in (400, 404)
    for path in (f"{base}/chunks/{digest_of(chunk)}", f"{base}/records?first=1"):
        status, refusal, _ = plain.ask("GET", path, Authorization=f"Bearer {bytes(32).hex()}")
        assert (status, refusal["error"]) == (403, "token-refused")
    assert plain.ask("GET", "/v1/volumes/demo/chunks/" + digest_of(chunk))[0] == 403, "another volume's token"

    assert plain.ask("POST", f"{base}/refresh", node="node-2")[0] == 200
    assert plain.ask("POST", f"{base}/free")[0] == 200
    assert plain.ask("POST", f"{base}/refresh")[1]["error"] == "token-freed"
    assert plain.ask("PUT", f"{base}/chunks/{digest_of(chunk)}", chunk)[1]["error"] == "token-freed"
    with own.client(1, volume) as client:
        assert client.request("GET", "a").body == b"x" * 3 * CHUNK


def test_a_program_is_no_node_on_the_other_listeners(own: DevCluster, folders: Callable[[str], Path]) -> None:
    """The forward listener believes nodes what they say of clients: it takes no program."""
    plain = Plain(folders("two"))
    with own.config(1).open("rb") as stream:
        settings = tomllib.load(stream)
    host, _, port = settings["forward"]["listen"].rpartition(":")
    plain.addresses["forward"] = (host, int(port))
    with pytest.raises((OSError, HTTPException)):
        plain.ask("GET", "/demo/", node="forward")
    plain.context = ssl.create_default_context(cafile=str(folders("two") / "ca.pem"))  # no certificate at all
    with pytest.raises(OSError, match=r"(?i)alert|certificate|handshake|reset|EOF"):
        plain.ask("GET", "/v1/cluster")


def test_reads_that_a_majority_confirms_and_two_copies_of_each_chunk(own: DevCluster, program: Cluster) -> None:
    """The policies of a volume hold for programs too."""
    with remote(own.config(1)) as nodes:
        nodes.ask("admin.volume_create", {"name": "careful", "policy": {"reads": "confirmed", "read_quorum": 2}})
    with program.assign("careful") as held:
        held.write("/a", b"a" * 2 * CHUNK)
        file = held.open("/a")
        assert file.read_at(CHUNK - 1, 2) == b"aa"
        confirmed: list[bool] = []
        confirm = held._session.holder.confirm
        held._session.holder.confirm = lambda: (confirmed.append(True), confirm())[1]  # type: ignore[method-assign]
        assert held.read("/a") == b"a" * 2 * CHUNK
        assert held.stat("/a").size == file.size
        assert len(confirmed) == 3
