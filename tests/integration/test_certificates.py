"""Certificates of nodes and programs end, are renewed under load without a restart, and are revoked; ended ones come back.

Certificates live for some seconds here, so everything happens that takes months otherwise.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from davfs.client import connect
from davfs.core.errors import CertificateRefused
from davfs.node.config import load_config
from davfs.rpc.client import RpcClient
from davfs.rpc.identity import load_identity
from tests.support.cluster import DAVFS, DevCluster
from tests.support.writes import Writer, judge

LIFE_S = 14.0


def listed(cluster: DevCluster, name: str) -> list[dict[str, Any]]:
    done = cluster.command("cert", "list", "--json")
    assert done.returncode == 0, cluster.story(done.stderr)
    return [row for row in json.loads(done.stdout) if row["name"] == name]


def serial_in_use(cluster: DevCluster, number: int) -> str:
    found = {node["name"]: node["certificate"] for node in cluster.status()["nodes"]}[f"node-{number}"]
    return str(found["serial"]) if found else ""


def renewed_since(cluster: DevCluster, first: dict[int, str]) -> bool:
    return all(serial_in_use(cluster, number) not in ("", serial) for number, serial in first.items())


def serves(cluster: DevCluster, number: int) -> bool:
    try:
        with cluster.client(number) as client:
            return client.put("hello", b"").ok
    except OSError:
        return False


def client_of(cluster: DevCluster, folder: Path) -> RpcClient:
    """Whoever has a node's files."""
    addresses = {member.name: member.rpc for member in load_config(cluster.config(1)).cluster.nodes}
    identity = load_identity(folder / "ca.pem", folder / "node.pem", folder / "node.key")
    return RpcClient(identity, addresses.__getitem__)


def without_authority(cluster: DevCluster, number: int) -> None:
    """Restart a node as one that has to ask others for its certificate."""
    cluster.kill(number)
    file = cluster.config(number)
    file.write_text(file.read_text().replace('ca = "tls/ca.pem"', 'ca = "tls/ca.pem"\nauthority = "nowhere"'))
    cluster.serve(number)


def test_renewed_under_load_revoked_ended_and_back(make_drive: Callable[..., DevCluster], tmp_path: Path) -> None:
    cluster = make_drive(options=("--certificate-days", str(LIFE_S / 86400)))
    cluster.start()
    without_authority(cluster, 3)
    cluster.until("node-3 to serve", lambda: serves(cluster, 3), 20)

    # Renewed while people write, by itself, by asking another node, without a restart.
    pids = [cluster.pid(number) for number in (1, 2, 3)]
    writers = [Writer([cluster.url(number)], number) for number in (1, 2, 3)]
    for writer in writers:
        writer.start()
    first = {number: serial_in_use(cluster, number) for number in (1, 2, 3)}
    cluster.until("every node to renew", lambda: renewed_since(cluster, first), 2 * LIFE_S)
    for writer in writers:
        writer.await_ack(10)
        writer.finish()
    assert [cluster.pid(number) for number in (1, 2, 3)] == pids
    failed = [attempt for writer in writers for attempt in writer.attempts if not attempt.ok]
    assert not failed, cluster.story(f"{failed}")
    with cluster.client(1) as client:
        assert judge(client, writers, ["hello"]) > 10

    # A stolen key: the node gets another, what was stolen reaches nothing, on an open connection neither.
    shutil.copytree(cluster.config(3).parent / "tls", tmp_path / "stolen")
    thief = client_of(cluster, tmp_path / "stolen")
    thief.call("node-1", "node.status", {})
    stolen = serial_in_use(cluster, 3)
    renewed = cluster.command("cert", "renew", "node-3")
    assert renewed.returncode == 0 and "uses the certificate" in renewed.stdout, cluster.story(renewed.stderr)
    revoked = cluster.command("cert", "revoke", stolen.upper())
    assert revoked.returncode == 0 and stolen in revoked.stdout, cluster.story(revoked.stderr)
    with pytest.raises(CertificateRefused, match="revoked"):
        thief.call("node-1", "node.status", {})
    thief.close()
    thief = client_of(cluster, tmp_path / "stolen")
    with pytest.raises(CertificateRefused):
        thief.call("node-2", "node.status", {})
    thief.close()
    assert [row["state"] for row in listed(cluster, "node-3") if row["serial"] == stolen] == ["revoked"]
    with cluster.client(3) as client:
        assert client.put("after", b"the node itself works").ok

    # Off for longer than its certificate lives: it says what to do, and that works.
    config = cluster.config(3)
    cluster.kill(3)
    ends = load_identity(*(config.parent / "tls" / name for name in ("ca.pem", "node.pem", "node.key"))).own.ends
    time.sleep(max(0.0, ends - time.time()) + 0.5)
    ended = cluster.serve(3)
    assert ended.wait(20) == 1
    log = cluster.log.with_name(f"{cluster.directory.name}.node-3.log").read_text()
    assert "ended on" in log and "davfs node token --renew node-3" in log
    here = cluster.command("status", number=3)
    assert here.returncode == 1 and "davfs cert renew" in here.stderr
    token = cluster.command("node", "token", "--renew", "node-3")
    assert token.returncode == 0, cluster.story(token.stderr)
    for wanted in (0, 1):  # it is good for one certificate
        got = cluster.command("cert", "renew", "--token", token.stdout.strip(), number=3)
        assert got.returncode == wanted, cluster.story(got.stderr)
    assert "used already" in got.stderr
    cluster.serve(3)
    cluster.until("node-3 to be back", lambda: serves(cluster, 3), 20)
    with cluster.client(3) as client:
        assert client.get("after").body == b"the node itself works"


def test_a_revoked_node_ends_and_a_revoked_program_reaches_nothing(
    make_drive: Callable[..., DevCluster], tmp_path: Path
) -> None:
    cluster = make_drive()
    cluster.start()
    folder = tmp_path / "backup"
    assert cluster.command("cert", "program", "backup", "--out", str(folder)).returncode == 0
    program = connect(folder)
    assert [volume.name for volume in program.volumes()] == ["demo"]
    cluster.until("the program to be listed", lambda: listed(cluster, "program:backup"), 15)
    (row,) = listed(cluster, "program:backup")
    assert 364 * 86400 < row["ends"] - time.time() < 366 * 86400

    assert cluster.command("cert", "revoke", row["serial"]).returncode == 0
    with pytest.raises(CertificateRefused):
        program.volumes()
    program.close()
    authority = cluster.directory / "authority"
    words = ["cert", "renew", "--program", str(folder)]
    refused = run(*words)
    assert refused.returncode == 1 and "revoked" in refused.stderr
    signed = run(*words, "--authority", str(authority))
    assert signed.returncode == 0, signed.stderr
    again = run(*words)  # a good one is enough to get the next
    assert again.returncode == 0 and "program:backup has the certificate" in again.stdout, again.stderr
    program = connect(folder)
    assert program.volumes()
    assert cluster.command("cert", "revoke", "program:backup").returncode == 0
    with pytest.raises(CertificateRefused):
        program.volumes()
    program.close()

    revoked = cluster.command("cert", "revoke", "node-2")
    assert revoked.returncode == 0 and "whatever else" in revoked.stdout, revoked.stderr
    cluster.until("the end of node-2", lambda: cluster.living_pid(2) is None, 20)
    log = (cluster.directory / "node-2" / "log").read_text()
    assert "of node-2 was revoked" in log and "davfs node token --renew node-2" in log
    by_hand = cluster.command("cert", "renew", "--authority", str(authority), number=2)
    assert by_hand.returncode == 0, "the key signs, but the cluster wants to know what counts"
    child = cluster.serve(2)
    assert child.wait(20) == 1
    token = cluster.command("node", "token", "--renew", "node-2").stdout.strip()
    assert cluster.command("cert", "renew", "--token", token, number=2).returncode == 0
    cluster.serve(2)
    cluster.until("node-2 to be back", lambda: serves(cluster, 2), 20)
    with cluster.client(2) as client:
        assert client.put("back", b"again").ok


def run(*words: str) -> Any:
    """A command that knows no node's file."""
    return subprocess.run([str(DAVFS), *words], capture_output=True, text=True, timeout=30, check=False)
