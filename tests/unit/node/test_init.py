"""A new cluster's folders, and the pid files of what runs in them."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from davfs.core.errors import ConfigError, InvalidInput
from davfs.core.model import VolumePolicy
from davfs.core.passwords import hash_password, verify_password
from davfs.node.config import AUTHORITY, load_config
from davfs.node.init import (
    PUBLIC_AUTHORITY,
    ClusterPlan,
    NodePlan,
    create_cluster,
    free_ports,
    new_user,
    port_is_free,
)
from davfs.node.pidfile import pid_file, running_pid
from davfs.rpc.certs import hosts_of
from davfs.rpc.identity import load_identity, public_context


def plan(count: int = 3, host: str = "127.0.0.1", **more: object) -> ClusterPlan:
    nodes = tuple(NodePlan(f"node-{i}", host, 8000 + i, 9000 + i, 9100 + i) for i in range(1, count + 1))
    return ClusterPlan(nodes, **more)  # type: ignore[arg-type]


def test_every_node_gets_a_folder_that_is_whole_and_private(tmp_path: Path) -> None:
    files = create_cluster(tmp_path, plan(defaults=VolumePolicy(chunk_size=8192), token_ttl=2.0))
    configs = [load_config(file) for file in files]
    assert [c.name for c in configs] == ["node-1", "node-2", "node-3"]
    assert len({c.cluster for c in configs}) == 1
    assert configs[0].cluster.defaults.chunk_size == 8192
    for config in configs:
        assert config.data.is_dir()
        assert load_identity(config.rpc.ca, config.rpc.cert, config.rpc.key).name == config.name
        for secret in (config.file, config.rpc.key):
            assert stat.S_IMODE(secret.stat().st_mode) == 0o600


def test_a_second_cluster_in_the_same_folder_is_refused_and_harms_nothing(tmp_path: Path) -> None:
    (first, *_) = create_cluster(tmp_path, plan())
    before = first.read_bytes()
    with pytest.raises(ConfigError, match="there is a cluster already"):
        create_cluster(tmp_path, plan())
    assert first.read_bytes() == before


def test_a_plan_that_nodes_would_refuse_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="passwords would cross the network"):
        create_cluster(tmp_path, plan(host="10.0.0.1"))
    assert list(tmp_path.iterdir()) == []


def test_https_certificates_of_the_clusters_own_authority(tmp_path: Path) -> None:
    files = create_cluster(tmp_path, plan(host="10.0.0.1", dav_tls=True, dav_names=("files.example",)))
    for file in files:
        config = load_config(file)
        assert config.dav.cert is not None and config.dav.key is not None
        assert config.member.dav.startswith("https://10.0.0.1:")
        assert hosts_of(config.dav.cert) == ["10.0.0.1", "files.example"]
        assert stat.S_IMODE(config.dav.key.stat().st_mode) == 0o600
        public_context(config.dav.cert, config.dav.key)
        assert "cert = \"tls/" in file.read_text(), "the folder can be moved"
    assert (tmp_path / PUBLIC_AUTHORITY).read_bytes() == (tmp_path / AUTHORITY / "ca.pem").read_bytes()


def test_passwords_verify_and_a_strange_hash_is_refused() -> None:
    user = new_user("anna:pass:word")
    assert user.name == "anna"
    assert verify_password("pass:word", user.password)
    assert not verify_password("pass", user.password)
    assert hash_password("x", b"a" * 16) != hash_password("x", b"b" * 16)
    for strange in ("", "scrypt$1$2", "md5$1$1$1$aa$bb", "scrypt$1048576$8$8$YWFh$" + "A" * 44):
        with pytest.raises(InvalidInput):
            verify_password("x", strange)
    with pytest.raises(ConfigError, match="NAME:PASSWORD"):
        new_user("anna")


def test_free_ports_are_free_different_and_not_the_avoided_ones() -> None:
    ports = free_ports(6)
    assert len(set(ports)) == 6
    assert all(port_is_free(port) for port in ports)
    assert not set(free_ports(6, avoid=ports)) & set(ports)


def test_a_pid_file_tells_who_runs_until_the_process_ends_however_it_does(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    assert running_pid(path) is None
    with pid_file(path):
        assert running_pid(path) == os.getpid()
        with pytest.raises(ConfigError, match=f"runs already, as process {os.getpid()}"), pid_file(path):
            pass
    assert running_pid(path) is None
    assert not path.exists()
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom davfs.node.pidfile import pid_file\n"
        "with pid_file(Path(sys.argv[1])):\n print('in', flush=True)\n time.sleep(60)"
    )
    child = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE)
    try:
        assert child.stdout is not None
        child.stdout.readline()
        assert running_pid(path) == child.pid
    finally:
        child.kill()
        child.communicate()
    assert path.exists()
    assert running_pid(path) is None
    with pid_file(path):
        assert path.read_text() == f"{os.getpid()}\n"
