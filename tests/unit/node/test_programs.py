"""What a node answers programs: tokens over one state machine, and which methods are theirs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import davfs.cluster.service
from davfs.core.chunking import digest_of
from davfs.core.cluster_state import ClusterState, value_of
from davfs.core.errors import InvalidInput, TokenFreed, TokenRefused, TokenUnknown, VolumeHeld, VolumeNotFound
from davfs.core.model import VolumePolicy
from davfs.node.config import load_config
from davfs.node.init import ClusterPlan, NodePlan, create_cluster
from davfs.node.programs import VOLUME_METHODS, Programs

TOKEN = bytes(32)


class OneLog:
    """A log that every command reaches at once."""

    leader = "node-1"
    term = 1

    def __init__(self, state: ClusterState) -> None:
        self.state = state

    def barrier(self, timeout: float) -> None:
        """It is always up to date."""

    def submit(self, command: tuple[Any, ...], timeout: float) -> Any:
        return self.state.apply(command)


@pytest.fixture
def programs(tmp_path: Path) -> Programs:
    few = VolumePolicy(copies=1, write_quorum=1, replicas=1)
    (file,) = create_cluster(tmp_path, ClusterPlan((NodePlan("node-1", "127.0.0.1", 1, 2, 3),), defaults=few))
    state = ClusterState()
    value_of(state.apply(("a", "node_set", "node-1", "http://127.0.0.1:1", "", 1.0, "")))
    value_of(state.apply(("b", "volume_create", "v", "demo", {}, ["node-1"])))
    ids = iter(range(1000))
    return Programs(load_config(file), state, OneLog(state), lambda volume: 2.5, lambda: f"id {next(ids)}")


def ask(programs: Programs, method: str, peer: str = "program:one", **args: Any) -> dict[str, Any]:
    value, _ = programs.handlers()[f"token.{method}"](peer, args, b"")
    return dict(value)


def test_every_method_of_the_flows_is_open_to_programs_or_left_out_on_purpose() -> None:
    """A holder that is a program runs the same flows: what they call of nodes it must be allowed to."""
    source = Path(davfs.cluster.service.__file__).read_text()
    served = set(re.findall(r'^            "((?:replica|chunk)\.\w+)": self', source, re.M))
    of_nodes = {  # which alone collect, scrub and keep replicas
        "chunk.collect_begin", "chunk.collect_page", "chunk.collect_remove", "chunk.held", "replica.named", "replica.standing",
        "replica.take_late",
    }
    assert served - of_nodes == set(VOLUME_METHODS)


def test_a_token_lives_and_ends(programs: Programs) -> None:
    granted = ask(programs, "assign", name="demo", token_digest=digest_of(TOKEN))
    proof = {"volume": granted["volume"]["id"], "epoch": granted["epoch"], "token": TOKEN}
    assert (granted["volume"]["holder"], granted["ttl"]) == ("program:one", 5.0)
    assert granted["nodes"] == [
        {"name": "node-1", "dav": "http://127.0.0.1:1", "zone": "", "weight": 1.0, "rpc": ["127.0.0.1", 2]}
    ]
    with pytest.raises(VolumeHeld, match=r"held through program:one; its token ends in 2\.5 s") as refused:
        ask(programs, "assign", "program:two", name="demo", token_digest=digest_of(b"x"))
    assert (refused.value.data["holder"], refused.value.data["expires_in_s"]) == ("program:one", 2.5)
    assert ask(programs, "refresh", **proof)["volume"]["holder"] == "program:one"
    for method in ("refresh", "free"):
        with pytest.raises(TokenRefused):
            ask(programs, method, **{**proof, "token": b"x" * 32})
        with pytest.raises(TokenUnknown):
            ask(programs, method, **{**proof, "epoch": [1, 2]})
    assert ask(programs, "admit", **proof, node="node-1", incarnation="i")["volume"]["incarnations"] == {"node-1": "i"}
    with pytest.raises(TokenRefused):
        ask(programs, "admit", **{**proof, "token": b""}, node="node-1", incarnation="j")
    assert ask(programs, "free", **proof)["volume"]["holder"] is None
    for method in ("refresh", "free"):
        with pytest.raises(TokenFreed):
            ask(programs, method, **proof)


def test_a_program_cannot_pass_for_another_holder(programs: Programs) -> None:
    """The address is the name in the certificate, whatever the request says."""
    granted = ask(programs, "assign", name="demo", token_digest=digest_of(TOKEN), address="node-1")
    assert granted["volume"]["holder"] == "program:one"


@pytest.mark.parametrize(
    "args",
    [
        {}, {"name": "demo"}, {"name": 7, "token_digest": "0" * 64}, {"name": "demo", "token_digest": "0" * 63},
        {"name": "demo", "token_digest": "G" * 64}, {"name": "demo", "token_digest": "0" * 64, "ttl": 0.1},
        {"name": "demo", "token_digest": "0" * 64, "ttl": "long"},
        {"name": "demo", "token_digest": "0" * 64, "request_id": 7},
    ],
)  # fmt: skip
def test_malformed_wishes_are_refused(programs: Programs, args: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        ask(programs, "assign", **args)
    assert ask(programs, "volume", name="demo")["volume"]["holder"] is None


@pytest.mark.parametrize(
    "args", [{}, {"volume": "v", "epoch": [1], "token": b""}, {"volume": "v", "epoch": [1, 1], "token": "text"}]
)
def test_malformed_proofs_are_refused(programs: Programs, args: dict[str, Any]) -> None:
    for method in ("refresh", "free", "admit"):
        with pytest.raises(InvalidInput):
            ask(programs, method, **args)


def test_what_is_not_there(programs: Programs) -> None:
    with pytest.raises(VolumeNotFound):
        ask(programs, "assign", name="nothing", token_digest="0" * 64)
    with pytest.raises(VolumeNotFound):
        ask(programs, "volume", name="nothing")
    assert [volume["name"] for volume in ask(programs, "cluster")["volumes"]] == ["demo"]
