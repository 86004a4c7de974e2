"""``davfs user ...`` against a node's handlers, over real node-to-node HTTP."""

from __future__ import annotations

import io
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from davfs.cli.main import main
from davfs.core import accounts
from davfs.core.cluster_state import ClusterState, value_of
from davfs.core.model import VolumePolicy
from davfs.core.passwords import verify_password
from davfs.node.account_admin import AccountAdmin
from davfs.node.config import load_config
from davfs.node.init import ClusterPlan, NodePlan, create_cluster, free_ports
from davfs.rpc.identity import load_identity
from davfs.rpc.server import RpcServer


class OneLog:
    """A log that every command reaches at once, as text that a test can search."""

    leader = "node-1"
    term = 1

    def __init__(self, state: ClusterState) -> None:
        self.state = state
        self.sent = ""

    def barrier(self, timeout: float) -> None:
        pass

    def submit(self, command: tuple[Any, ...], timeout: float) -> Any:
        self.sent += repr(command)
        return self.state.apply(command)


class Clock:
    def now(self) -> float:
        return 0.0

    def wall_ns(self) -> int:
        return 1_700_000_000 * 10**9


class Node:
    """One node, with the volumes demo and other."""

    def __init__(self, folder: Path) -> None:
        one = VolumePolicy(copies=1, write_quorum=1, replicas=1)
        plan = ClusterPlan((NodePlan("node-1", "127.0.0.1", *free_ports(3)),), defaults=one)
        (self.file,) = create_cluster(folder, plan)
        self.state = ClusterState()
        self.log = OneLog(self.state)
        policy = {"copies": 1, "write_quorum": 1, "replicas": 1}
        for name in ("demo", "other"):
            value_of(self.state.apply((name, "volume_create", f"id-{name}", name, policy, ["node-1"])))
        config = load_config(self.file)
        ids = itertools.count()
        admin = AccountAdmin(config.dav, self.state, self.log, Clock(), lambda: f"r{next(ids)}")
        identity = load_identity(config.rpc.ca, config.rpc.cert, config.rpc.key)
        self.server = RpcServer(*config.rpc.listen, identity, admin.handlers())
        self.server.start()


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    node = Node(tmp_path)
    yield node
    node.server.stop()


@pytest.fixture
def davfs(node: Node, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    def run(*words: str, typed: str = "") -> tuple[int, str, str]:
        monkeypatch.setattr("sys.stdin", io.StringIO(typed))
        code = main([*words, *([] if words[0] == "hash-password" else ["--config", str(node.file)])])
        out, err = capsys.readouterr()
        return code, out, err

    return run


def test_an_account_from_its_making_to_its_end(node: Node, davfs: Any) -> None:
    code, out, _ = davfs("user", "add", "ann", "--role", "demo=write", typed="very secret\n")
    assert (code, "account ann: write on demo, none on all others" in out) == (0, True)
    assert "anonymous = true" in out, "whoever makes an account should know that the door is open"
    assert "very secret" not in node.log.sent
    assert verify_password("very secret", node.state.accounts["ann"].password)
    assert json.loads(davfs("user", "list", "--json")[1]) == [
        {"name": "ann", "configured": False, "default": "none", "roles": {"demo": "write"}, "password": True,
         "app_passwords": 0}
    ]  # fmt: skip
    assert "write on demo, none on all others" in davfs("user", "list")[1]
    before = node.state.accounts["ann"].password
    assert davfs("user", "password", "ann", typed="another\n")[0] == 0
    assert verify_password("another", node.state.accounts["ann"].password)
    assert node.state.accounts["ann"].password != before
    assert "say --yes" in davfs("user", "delete", "ann")[2]
    assert davfs("user", "delete", "ann", "--yes")[0] == 0
    assert "No accounts." in davfs("user", "list")[1]
    assert "there is no account 'ann'" in davfs("user", "show", "ann")[2]


def test_roles(node: Node, davfs: Any) -> None:
    davfs("user", "add", "ann", "--no-password", "--default", "read")
    assert davfs("user", "role", "ann", "admin", "--volume", "demo")[1] == "account ann: admin on demo\n"
    assert davfs("user", "role", "ann", "none")[1] == "account ann: none by default\n"
    ann = node.state.accounts["ann"]
    assert (ann.role("id-demo"), ann.role("id-other")) == ("admin", "none")
    assert davfs("user", "role", "ann", "default", "--volume", "demo")[0] == 0
    assert node.state.accounts["ann"].role("id-demo") == "none"
    for words, said in [
        (("role", "ann", "default"), "with --volume"),
        (("role", "ann", "read", "--volume", "nemo"), "there is no volume 'nemo'"),
        (("role", "bob", "read"), "there is no account 'bob'"),
        (("add", "bob", "--no-password", "--role", "demo=owner"), "--role takes VOLUME=ROLE"),
        (("add", "bob", "--no-password", "--role", "nemo=read"), "there is no volume 'nemo'"),
        (("add", "ann", "--no-password"), "there is an account 'ann' already"),
        (("add", "a:b", "--no-password"), "must not have a colon"),
    ]:
        code, _, err = davfs("user", *words)
        assert (code, said in err) == (1, True), (words, err)


def test_app_passwords_are_shown_once(node: Node, davfs: Any) -> None:
    davfs("user", "add", "ann", "--no-password")
    code, out, _ = davfs("user", "app-password", "add", "ann", "--label", "the laptop", "--json")
    made = json.loads(out)
    assert code == 0
    assert accounts.holder_of(node.state.accounts, made["app_password"]) is not None
    assert made["app_password"] not in node.log.sent + davfs("user", "show", "ann", "--json")[1]
    shown = davfs("user", "show", "ann")[1]
    assert made["id"] in shown and "the laptop" in shown and "2023-11-1" in shown
    assert davfs("user", "app-password", "revoke", "ann", made["id"])[0] == 0
    assert accounts.holder_of(node.state.accounts, made["app_password"]) is None
    assert "has no app password" in davfs("user", "app-password", "revoke", "ann", made["id"])[2]
    again = davfs("user", "app-password", "add", "ann")[1]
    assert "shown only now" in again and "davfs_" in again


def test_an_empty_password_is_refused(davfs: Any) -> None:
    assert "the password is empty" in davfs("user", "add", "ann", typed="\n")[2]
    assert davfs("hash-password", typed="secret\n")[1].startswith("$argon2id$")
