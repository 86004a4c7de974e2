"""When a node renews its certificate, what it says when it cannot, and what comes back after the end."""

from __future__ import annotations

import datetime
import logging
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from davfs.cli.status import AUTHORITY_WARNING_S, warnings
from davfs.core.cluster_state import ClusterState
from davfs.core.errors import CertificateRefused, ConfigError, ConsensusUnavailable
from davfs.core.model import VolumePolicy
from davfs.node.certificates import Certificates
from davfs.node.config import AUTHORITY, NodeConfig, load_config
from davfs.node.init import ClusterPlan, NodePlan, create_cluster
from davfs.node.renewal import Ended, Renewal, load_own, renew_by_hand
from davfs.rpc import certs
from davfs.rpc.client import RpcClient
from davfs.rpc.identity import Peer

DAY = 86_400.0
ONE = VolumePolicy(copies=1, write_quorum=1, replicas=1)


class Log:
    """Raft of one, that may be without a majority."""

    leader: str | None = "node-1"
    term = 1

    def __init__(self, state: ClusterState) -> None:
        self.state = state
        self.down = False

    def barrier(self, timeout: float) -> None:
        if self.down:
            raise ConsensusUnavailable("no leader")

    def submit(self, command: tuple[Any, ...], timeout: float) -> Any:
        self.barrier(timeout)
        return self.state.apply(command)


class Node:
    """One node's certificate, and a clock to turn."""

    def __init__(self, file: Path) -> None:
        self.config: NodeConfig = load_config(file)
        self.identity = load_own(self.config)
        self.now = self.identity.own.made
        self.state = ClusterState()
        self.log = Log(self.state)
        self.count = 0
        self.certificates = Certificates(self.config, self.state, self.log, self.new_id, lambda: self.now)
        self.client = RpcClient(self.identity, lambda name: ("127.0.0.1", 1))
        self.renewal = Renewal(
            self.config, self.identity, self.state, self.client, self.certificates, lambda: not self.log.down, lambda: self.now
        )
        self.state.apply(("join", "node_set", "node-1", "http://h", "", 1.0, ""))

    def new_id(self) -> str:
        self.count += 1
        return f"id-{self.count}"

    @property
    def serial(self) -> str:
        return self.identity.own.serial


@pytest.fixture
def node(tmp_path: Path) -> Node:
    plan = ClusterPlan((NodePlan("node-1", "127.0.0.1", 8080, 8090, 8091),), defaults=ONE, certificate_days=30.0)
    return Node(create_cluster(tmp_path, plan)[0])


def test_it_lists_itself_and_renews_at_two_thirds(node: Node) -> None:
    first = node.serial
    node.renewal.look()
    assert list(node.state.certificates.listed) == [first]
    node.now += 19.9 * DAY
    node.renewal.look()
    assert node.serial == first
    changed: list[str] = []
    node.renewal.changed.append(lambda: changed.append(node.serial))
    node.now += 0.2 * DAY
    node.renewal.look()
    assert changed == [node.serial] and node.serial != first
    assert set(node.state.certificates.listed) == {first, node.serial}
    assert load_own(node.config).own == node.identity.own


def test_without_the_authoritys_key_it_warns_and_tries_again(
    node: Node, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = node.serial
    shutil.move(tmp_path / AUTHORITY, tmp_path / "home")
    node.now += 21 * DAY
    with caplog.at_level(logging.WARNING):
        node.renewal.look()
        node.renewal.look()
    assert caplog.text.count("could not be renewed") == 1, "it does not ask all the time"
    assert node.renewal.status()["trouble"] == "", "there is a lot of time"
    node.now += 5 * DAY
    node.renewal.look()
    status = node.renewal.status()
    assert "no node could sign" in status["trouble"] and status["serial"] == first
    (text,) = warnings([{"name": "node-1", "certificate": status}, {"name": "node-2", "certificate": None}], node.now)
    assert text.startswith("the certificate of node-1 ends on 2") and "no node could sign" in text
    shutil.move(tmp_path / "home", tmp_path / AUTHORITY)
    node.now += 0.1 * DAY
    node.renewal.look()
    assert node.serial != first


def test_files_that_somebody_replaced_are_taken_in_and_broken_ones_are_not(
    node: Node, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = renew_by_hand(node.config, tmp_path / AUTHORITY)
    node.renewal.look()
    assert node.serial == made.own.serial
    node.config.rpc.cert.write_text("nothing")
    with caplog.at_level(logging.WARNING):
        node.renewal.look()
        node.renewal.look()
    assert caplog.text.count("is not used") == 1 and node.serial == made.own.serial


def test_a_changed_https_certificate_is_told_of_once(tmp_path: Path) -> None:
    plan = ClusterPlan((NodePlan("node-1", "127.0.0.1", 8080, 8090, 8091),), defaults=ONE, dav_tls=True)
    node = Node(create_cluster(tmp_path, plan)[0])
    told: list[int] = []
    node.renewal.public_changed = lambda: told.append(1)
    node.renewal.look()
    certs.issue_public(tmp_path / AUTHORITY, ["127.0.0.1"], node.config.file.parent / "tls")
    node.renewal.look()
    node.renewal.look()
    assert told == [1]


def test_a_revoked_node_is_told_to_end_and_one_past_its_end_says_what_to_do(node: Node) -> None:
    node.renewal.look()
    node.state.apply(("r", "cert_revoke", node.serial))
    with pytest.raises(CertificateRefused, match="revoked"):
        node.renewal.look()
    with pytest.raises(Ended, match=r"davfs node token --renew node-1.*davfs cert renew --config .*--token"):
        load_own(node.config, node.identity.own.ends)


def test_a_cluster_that_slept_past_the_end_wakes_by_itself_where_the_key_is(node: Node, tmp_path: Path) -> None:
    certs.issue(tmp_path / AUTHORITY, "node-1", [], node.config.rpc.cert.parent, datetime.timedelta(days=1))
    node.renewal.look()
    first, node.log.down = node.serial, True
    node.now += 0.9 * DAY
    node.renewal.look()
    assert node.serial == first, "Raft does not answer, and there is time"
    node.now += 0.2 * DAY
    node.renewal.look()
    assert node.serial != first


def test_what_is_shown_here_is_listed_and_what_is_over_or_gone_is_refused(node: Node) -> None:
    peer = Peer("program:backup", "b" * 40, node.now, node.now + DAY)
    node.certificates.admit_peer(peer)
    node.certificates.admit_peer(Peer("join:x", "c" * 40, node.now, node.now + DAY))
    node.renewal.look()
    assert node.state.certificates.listed["b" * 40].name == "program:backup"
    assert "c" * 40 not in node.state.certificates.listed, "a token is no one's certificate"
    node.now += 2 * DAY
    with pytest.raises(CertificateRefused, match="has ended"):
        node.certificates.admit_peer(peer)
    rows, _ = node.certificates.handlers()["admin.cert_list"]("node-1", {}, b"")
    assert {row["name"]: row["state"] for row in rows} == {"node-1": "good", "program:backup": "ended"}
    node.state.apply(("r", "cert_revoke", "program:backup"))
    with pytest.raises(CertificateRefused, match="was revoked"):
        node.certificates.admit_peer(replace(peer, ends=node.now + DAY))
    with pytest.raises(CertificateRefused, match="revoked by name"):
        node.certificates.admit_peer(replace(peer, serial="d" * 40, ends=node.now + DAY))


def test_the_end_of_the_authority_is_told_of_years_before(node: Node) -> None:
    status = node.renewal.status()
    nodes = [{"name": name, "certificate": status} for name in ("node-1", "node-2")]
    assert warnings(nodes, status["authority_ends"] - AUTHORITY_WARNING_S - DAY) == []
    (text,) = warnings(nodes, status["authority_ends"] - AUTHORITY_WARNING_S + DAY)
    assert "the cluster's authority ends" in text


def test_another_nodes_certificate_is_not_taken_for_its_own(node: Node, tmp_path: Path) -> None:
    certs.issue(tmp_path / AUTHORITY, "node-2", [], node.config.rpc.cert.parent)
    with pytest.raises(ConfigError, match="not of 'node-1'"):
        load_own(node.config)
