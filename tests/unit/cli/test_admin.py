"""The administrator's commands against a node's handlers, over real node-to-node HTTP."""

import itertools
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from davfs.cli.main import main
from davfs.cli.remote import Remote
from davfs.core.cluster_state import ClusterState, value_of
from davfs.core.errors import ConsensusUnavailable
from davfs.core.model import DavLock, VolumeInfo, VolumePolicy
from davfs.core.sessions import SessionKey
from davfs.node.admin import Admin
from davfs.node.config import cluster_settings, load_config
from davfs.node.init import ClusterPlan, NodePlan, create_cluster, free_ports
from davfs.node.usage_admin import UsageAdmin
from davfs.rpc.identity import load_identity
from davfs.rpc.server import RpcServer


class OneLog:
    """A log that every command reaches at once; ``down`` takes its majority away."""

    def __init__(self, state: ClusterState) -> None:
        self.state = state
        self.down = False
        self.commands: list[tuple[Any, ...]] = []

    @property
    def leader(self) -> str | None:
        return None if self.down else "node-2"

    @property
    def term(self) -> int:
        return 7

    def barrier(self, timeout: float) -> None:
        if self.down:
            raise ConsensusUnavailable("no leader")

    def submit(self, command: tuple[Any, ...], timeout: float) -> Any:
        self.barrier(timeout)
        self.commands.append(command)
        return self.state.apply(command)


class Cluster:
    """Nodes 1 and 2 of three answer, over one state."""

    def __init__(self, folder: Path) -> None:
        ports = free_ports(9)
        nodes = [NodePlan(f"node-{i + 1}", "127.0.0.1", *ports[3 * i : 3 * i + 3]) for i in range(3)]
        self.files = create_cluster(folder, ClusterPlan(tuple(nodes)))
        self.state = ClusterState()
        self.log = OneLog(self.state)
        self.ids = itertools.count()
        for node in nodes:
            self.state.apply((f"join {node.name}", "node_set", node.name, f"http://127.0.0.1:{node.dav_port}", "", 1.0, ""))
        self.sessions: list[dict[str, Any]] = []
        self.servers = [self._serve(file) for file in self.files[:2]]

    def _serve(self, file: Path) -> RpcServer:
        config = load_config(file)
        admin = Admin(config, self.state, self.log, self._create, lambda: f"id-{next(self.ids)}")
        identity = load_identity(config.rpc.ca, config.rpc.cert, config.rpc.key)
        usage = UsageAdmin(self.state, self.log, lambda: self.sessions, lambda: f"id-{next(self.ids)}")
        server = RpcServer(*config.rpc.listen, identity, {**admin.handlers(), **usage.handlers()})
        server.start()
        return server

    def _create(self, name: str, policy: VolumePolicy) -> VolumeInfo:
        volume_id = f"volume-{next(self.ids)}"
        command = (f"id-{next(self.ids)}", "volume_create", volume_id, name, vars_of(policy), ["node-1", "node-2", "node-3"])
        value_of(self.log.submit(command, 1.0))
        return self.state.volume(volume_id).info()

    def stop(self) -> None:
        for server in self.servers:
            server.stop()


def vars_of(policy: VolumePolicy) -> dict[str, Any]:
    return {name: getattr(policy, name) for name in VolumePolicy.__slots__}


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path)
    yield cluster
    cluster.stop()


@pytest.fixture
def davfs(cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> Any:
    def run(*words: str, node: int = 0) -> tuple[int, str, str]:
        code = main([*words, "--config", str(cluster.files[node])])
        out, err = capsys.readouterr()
        return code, out, err

    return run


def test_status_has_the_keys_that_tools_rely_on(davfs: Any) -> None:
    davfs("volume", "create", "demo")
    code, out, _ = davfs("status", "--json")
    status = json.loads(out)
    assert code == 0
    assert [(n["name"], n["up"]) for n in status["nodes"]] == [("node-1", True), ("node-2", True), ("node-3", False)]
    assert all(n["dav"].startswith("http://127.0.0.1:") for n in status["nodes"])
    assert (status["leader"], status["term"]) == ("node-2", 7)
    (volume,) = status["volumes"]
    assert (volume["name"], volume["holder"], volume["epoch"]) == ("demo", None, 0)
    assert volume["replicas"] == ["node-1", "node-2", "node-3"]
    code, out, _ = davfs("status")
    assert "node-3  DOWN" in out
    assert "node-2  up, leader" in out


def test_a_node_that_is_down_is_passed_over(davfs: Any) -> None:
    code, out, _ = davfs("volume", "create", "demo", node=2)
    assert code == 0
    assert "/demo/" in out


def test_without_any_node_the_error_tells_what_each_said(cluster: Cluster, davfs: Any) -> None:
    cluster.stop()
    code, _, err = davfs("volume", "list")
    assert code == 1
    assert err.startswith("davfs: no node could answer. node-1:")
    assert "node-3:" in err
    assert davfs("status")[0] == 1


def test_without_a_majority_status_says_so_and_changes_are_refused(cluster: Cluster, davfs: Any) -> None:
    davfs("volume", "create", "demo")
    cluster.log.down = True
    code, out, _ = davfs("status")
    assert code == 0
    assert "No majority" in out
    assert json.loads(davfs("status", "--json")[1])["fresh"] is False
    code, _, err = davfs("volume", "delete", "demo", "--yes")
    assert code == 1
    assert "no leader" in err
    assert len(cluster.state.volumes) == 1


def test_volumes_are_made_shown_and_deleted(davfs: Any) -> None:
    assert davfs("volume", "create", "demo", "--chunk-size", "8192", "--copies", "2")[0] == 0
    policy = json.loads(davfs("volume", "show", "demo", "--json")[1])["policy"]
    assert (policy["chunk_size"], policy["copies"], policy["write_quorum"]) == (8192, 2, 2)
    assert "demo" in davfs("volume", "list")[1]
    code, _, err = davfs("volume", "create", "demo")
    assert (code, "there is a volume 'demo' already" in err) == (1, True)
    code, _, err = davfs("volume", "create", "other", "--copies", "5")
    assert (code, "copies: is 5, but the cluster has only 3 nodes" in err) == (1, True)
    code, _, err = davfs("volume", "show", "nothing")
    assert (code, "there is no volume 'nothing'" in err) == (1, True)
    assert "say --yes" in davfs("volume", "delete", "demo")[2]
    assert davfs("volume", "delete", "demo", "--yes")[0] == 0
    assert json.loads(davfs("volume", "list", "--json")[1]) == []


def test_a_volume_is_not_made_before_its_replicas_have_joined(cluster: Cluster, davfs: Any) -> None:
    cluster.state.nodes = {name: info for name, info in cluster.state.nodes.items() if name != "node-3"}
    code, _, err = davfs("volume", "create", "demo")
    assert (code, "wants 3 nodes and only 2 have joined (node-1, node-2)" in err) == (1, True)
    assert davfs("volume", "create", "demo", "--copies", "2", "--replicas", "1")[0] == 0


def test_a_token_by_hand_is_granted_refreshed_and_freed(cluster: Cluster, davfs: Any) -> None:
    davfs("volume", "create", "demo")
    grant = json.loads(davfs("volume", "assign", "demo", "--ttl", "60", "--address", "me", "--json")[1])
    assert grant["ttl"] == 60
    bearer = ("--token", grant["token"], "--epoch", "{}.{}".format(*grant["epoch"]))
    assert grant["token"] not in json.dumps(cluster.log.commands), "only the digest is sent"
    code, _, err = davfs("volume", "assign", "demo")
    assert (code, "held through me" in err) == (1, True)
    assert json.loads(davfs("status", "--json")[1])["volumes"][0]["holder"] == "me"
    assert "free it first" in davfs("volume", "delete", "demo", "--yes")[2]
    assert davfs("volume", "refresh", "demo", *bearer)[0] == 0
    assert json.loads(davfs("volume", "show", "demo", "--json")[1])["grant"] == {"ttl": 60.0, "refreshes": 1}
    wrong = ("--token", "00" * 32, *bearer[2:])
    assert davfs("volume", "refresh", "demo", *wrong)[0] == 1
    code, _, err = davfs("volume", "free", "demo", *wrong)
    assert (code, "The token is not the one that holds the volume" in err) == (1, True)
    assert "as `davfs volume assign` printed" in davfs("volume", "free", "demo", "--token", "xyz", "--epoch", "1")[2]
    assert davfs("volume", "free", "demo", *bearer)[0] == 0
    assert json.loads(davfs("status", "--json")[1])["volumes"][0]["holder"] is None
    assert "The token was given back" in davfs("volume", "refresh", "demo", *bearer)[2]


def test_a_program_waits_while_people_hold_locks(cluster: Cluster, davfs: Any) -> None:
    davfs("volume", "create", "demo")
    (volume,) = cluster.state.volumes.values()
    lock = DavLock("opaquelocktoken:1", ("a.txt",), False, True, "", "anna", 600)
    cluster.state.volumes = {volume.id: replace(volume, locks={lock.token: lock})}
    code, _, err = davfs("volume", "assign", "demo")
    assert (code, "people hold 1 DAV locks" in err) == (1, True)
    assert "exclusive on /a.txt for 600 s, by anna" in davfs("volume", "show", "demo")[1]


def test_a_change_that_two_nodes_are_asked_for_happens_once(cluster: Cluster, davfs: Any) -> None:
    davfs("volume", "create", "demo")
    remote = Remote(load_config(cluster.files[0]))
    try:
        args = {"request_id": "once", "name": "demo", "token_digest": "d", "address": "", "ttl": 5.0}
        answers = [remote.ask_node(node, "admin.volume_assign", args) for node in ("node-1", "node-2")]
    finally:
        remote.close()
    assert answers[0] == answers[1]


def test_nodes_whose_settings_differ_are_told_the_difference(cluster: Cluster) -> None:
    remote = Remote(load_config(cluster.files[0]))
    try:
        settings = cluster_settings(remote.config)
        remote.ask_node("node-2", "node.meet", {"settings": settings})
        with pytest.raises(Exception, match=r"cluster\.token_ttl is 5\.0 here and 9\.0 there"):
            remote.ask_node("node-2", "node.meet", {"settings": {**settings, "cluster.token_ttl": 9.0}})
    finally:
        remote.close()


def test_locks_are_listed_and_broken(cluster: Cluster, davfs: Any, caplog: pytest.LogCaptureFixture) -> None:
    assert davfs("lock", "list")[1] == "No locks.\n"
    for name in ("demo", "other"):
        davfs("volume", "create", name)
    first, second = sorted(cluster.state.volumes.values(), key=lambda volume: volume.name)
    owner = '<D:owner xmlns:D="DAV:"><D:href>Ann &amp; \x1bBen</D:href></D:owner>'
    mine = DavLock("opaquelocktoken:1", ("a b", "ü.txt"), False, True, owner, "anna", 600)
    other = DavLock("opaquelocktoken:2", (), True, False, "", "", 60)
    cluster.state.volumes = {
        first.id: replace(first, locks={mine.token: mine}), second.id: replace(second, locks={other.token: other})
    }  # fmt: skip
    code, out, _ = davfs("lock", "list")
    assert code == 0
    assert "demo    /a b/ü.txt  exclusive               anna     Ann &amp; ?Ben  600 s    opaquelocktoken:1" in out
    assert "other   /           shared, with all below  -        -               60 s     opaquelocktoken:2" in out
    assert [row["token"] for row in json.loads(davfs("lock", "list", "--volume", "demo", "--json")[1])] == [mine.token]
    assert "there is no volume" in davfs("lock", "list", "--volume", "nothing")[2]
    code, out, _ = davfs("lock", "break", mine.token)
    assert (code, out) == (0, "the lock of /a b/ü.txt in demo is broken\n")
    assert "opaquelocktoken:1 of anna on /a b/ü.txt in volume demo" in caplog.text
    assert cluster.log.commands[-1][1:4] == ("lock_break", first.id, mine.token)
    assert "through node-1" in cluster.log.commands[-1][4]
    code, _, err = davfs("lock", "break", mine.token)
    assert (code, "there is no lock opaquelocktoken:1" in err) == (1, True)
    assert list(cluster.state.volume(second.id).locks) == [other.token]


def test_sessions_are_collected_from_the_nodes_that_answer(cluster: Cluster, davfs: Any) -> None:
    assert "No sessions." in davfs("session", "list")[1]
    session = {
        "volume": "demo", "account": "", "address": "10.0.0.1", "agent": "Client/1.0", "node": "node-2", "began_s": 61.2,
        "quiet_s": 3.4, "requests": 7, "under_way": 0, "exclusive": True,
    }  # fmt: skip
    cluster.sessions = [session]
    code, out, _ = davfs("session", "list")
    assert code == 0
    assert "demo (alone)  -        10.0.0.1  node-2  61 s   3 s    7         Client/1.0" in out
    assert "Not asked, because they do not answer: node-3." in out
    assert json.loads(davfs("session", "list", "--volume", "other", "--json")[1]) == []
    davfs("volume", "create", "demo")
    (volume,) = cluster.state.volumes.values()
    cluster.state.volumes = {volume.id: replace(volume, session=SessionKey("", "10.0.0.1", "Client/1.0"))}
    shown = davfs("volume", "show", "demo")[1]
    assert "in use by somebody from 10.0.0.1 (Client/1.0) alone" in shown
    assert "demo (alone)" in shown
