"""``davfs dev``, ``serve`` and ``status`` as other tools rely on them: files, who stays dead, what is found again."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

from tests.support.cluster import DAVFS, DevCluster, _runs


def test_a_whole_life(make_drive: Callable[..., DevCluster]) -> None:
    """Start, kill one by hand, bring it back by hand, stop, start again: one story, since each start costs seconds."""
    cluster = make_drive()
    cluster.start()
    pids = [cluster.pid(number) for number in (1, 2, 3)]
    assert len(set(pids)) == 3
    for number, pid in enumerate(pids, start=1):
        command = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
        assert command[command.index("serve") :][:3] == ["serve", "--config", str(cluster.config(number))]
        with cluster.client(number) as client:
            assert client.members() == []
    with cluster.client(1) as client:
        assert client.put("kept.txt", b"kept").ok
    _check_status(cluster)

    cluster.kill(3)
    cluster.until("status to see it", lambda: not _up(cluster)["node-3"], 10)
    assert cluster.living_pid(3) is None
    with cluster.client(1) as client:
        assert client.put("without node 3.txt", b"still").ok
    assert cluster.living_pid(3) is None, "a node killed by hand stays dead"
    cluster.serve(3)
    cluster.until("node 3 to be back", lambda: _up(cluster)["node-3"], 20)
    pids = [cluster.pid(number) for number in (1, 2, 3)]

    assert cluster.stop() == 0
    assert not cluster.ready.exists()
    assert not any(_runs(pid) for pid in pids), "stop ends nodes restarted by hand too"

    cluster.start()
    for number in (1, 2, 3):
        with cluster.client(number) as client:
            assert client.get("kept.txt").body == b"kept"
            assert client.get("without node 3.txt").body == b"still"
    pids = [cluster.pid(number) for number in (1, 2, 3)]
    dev = cluster._dev
    assert dev is not None
    dev.send_signal(signal.SIGTERM)
    assert dev.wait(30) == 0, "SIGTERM stops like Ctrl-C"
    assert not cluster.ready.exists()
    assert not any(_runs(pid) for pid in pids)


def _check_status(cluster: DevCluster) -> None:
    for number in (1, 2, 3):
        status = cluster.status(number)
        assert [node["name"] for node in status["nodes"]] == ["node-1", "node-2", "node-3"]
        assert [node["dav"].rstrip("/") for node in status["nodes"]] == [
            cluster.url(number, "").rstrip("/") for number in (1, 2, 3)
        ]
        assert all(node["up"] is True for node in status["nodes"])
        assert status["leader"] in ("node-1", "node-2", "node-3")
        (volume,) = status["volumes"]
        assert volume["name"] == "demo"
        assert volume["holder"] in ("node-1", "node-2", "node-3")
        assert volume["epoch"] >= 1
        assert sorted(volume["replicas"]) == ["node-1", "node-2", "node-3"]
    text = cluster.command("status").stdout
    assert "demo" in text
    assert "node-2" in text


def test_with_users_nobody_else_is_let_in(make_drive: Callable[..., DevCluster]) -> None:
    cluster = make_drive(users=("ann:se cret",))
    cluster.start()
    for number in (1, 2, 3):
        with cluster.client(number) as client:
            answer = client.put("a.txt", b"a")
            assert answer.status == 401
            assert answer.headers["www-authenticate"].startswith("Basic")
        with cluster.client(number, user="ann:wrong") as client:
            assert client.get("").status == 401
        with cluster.client(number, user="ann:se cret") as client:
            assert client.put(f"a{number}.txt", b"a").status == 201
    assert cluster.stop() == 0


def test_a_graceful_stop_costs_the_next_holder_nothing(fresh: DevCluster) -> None:
    """SIGTERM frees the volume: no wait for the token's end."""
    holder = fresh.holder()
    other = holder % 3 + 1
    fresh.kill(holder, signal.SIGTERM)
    with fresh.client(other) as client:
        took = fresh.until("a write", lambda: client.put("next.txt", b"x").ok, 10)
    assert took < 2.5, f"the next holder served after {took:.1f} s"


def test_an_unknown_key_is_an_error_that_names_it(tmp_path: Path) -> None:
    folder = tmp_path / "cluster"
    made = [str(DAVFS), "init", "--dir", str(folder), *(f"node-{number}=127.0.0.{number}" for number in (1, 2, 3))]
    subprocess.run(made, capture_output=True, timeout=20, check=True)
    config = folder / "node-1" / "davfs.toml"
    good = config.read_text()
    config.write_text(good.replace("[node]\n", "[node]\ncolour_of_disk = 3\n", 1))
    done = subprocess.run(
        [str(DAVFS), "serve", "--config", str(config)], capture_output=True, text=True, timeout=20, check=False
    )
    assert done.returncode != 0
    assert "colour_of_disk" in done.stderr
    assert "Traceback" not in done.stderr
    config.write_text(good.replace("[node]\n", "[node]\nname = 7\n", 1).replace('name = "node-1"\n', "", 1))
    done = subprocess.run(
        [str(DAVFS), "serve", "--config", str(config)], capture_output=True, text=True, timeout=20, check=False
    )
    assert done.returncode != 0
    assert "name" in done.stderr


def _up(cluster: DevCluster) -> dict[str, bool]:
    return {node["name"]: node["up"] for node in cluster.status()["nodes"]}


def test_a_restart_disturbs_no_exclusive_volume(make_drive: Callable[..., DevCluster]) -> None:
    """To see whether all is served, nobody visits a volume that the first visitor would have to itself; and a claim that
    is left over, or a program's grant, keeps nothing from starting."""
    drive = make_drive(options=("--session-idle", "60"))
    drive.start()
    assert drive.command("volume", "create", "alone", "--mode", "exclusive").returncode == 0
    assert drive.command("volume", "create", "program").returncode == 0
    assert drive.command("volume", "assign", "program", "--ttl", "600").returncode == 0
    with drive.client(1, "alone") as client:
        drive.until("the new volume", lambda: client.put("a.txt", b"a", {"User-Agent": "Mine/1.0"}).ok, 20)
    assert drive.stop() == 0
    drive.start()
    with drive.client(2, "alone") as client:
        assert client.get("a.txt", {"User-Agent": "Mine/1.0"}).body == b"a"
        assert client.get("a.txt", {"User-Agent": "Other/1.0"}).status == 423
    assert drive.stop() == 0
