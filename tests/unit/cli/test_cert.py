"""``davfs cert program``: the folder that it writes, and what it says when it cannot."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from davfs.cli.main import main
from davfs.client.profile import load_profile
from davfs.node.config import AUTHORITY
from davfs.node.init import ClusterPlan, NodePlan, create_cluster


@pytest.fixture
def config(tmp_path: Path) -> Path:
    nodes = tuple(NodePlan(f"node-{n}", f"10.0.0.{n}", 8080, 8090, 8091) for n in (1, 2, 3))
    return create_cluster(tmp_path / "cluster", ClusterPlan(nodes, plain_http=True))[0]


def test_the_folder_names_the_nodes_and_the_program(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["cert", "program", "backup", "--config", str(config), "--out", str(tmp_path / "p")]
    assert main(words) == 0
    assert "program:backup" in capsys.readouterr().out
    profile = load_profile(tmp_path / "p")
    assert profile.identity.name == "program:backup"
    assert profile.nodes == {f"node-{n}": (f"10.0.0.{n}", 8090) for n in (1, 2, 3)}
    assert main(words) == 1, "what is there is not overwritten"
    assert "choose another folder" in capsys.readouterr().err


def test_without_the_authoritys_key_it_says_where_it_looked(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    elsewhere = shutil.move(config.parent.parent / AUTHORITY, tmp_path / "safe")
    words = ["cert", "program", "backup", "--config", str(config), "--out", str(tmp_path / "p")]
    assert main(words) == 1
    assert str(config.parent.parent / AUTHORITY) in capsys.readouterr().err
    assert not (tmp_path / "p").exists()
    assert main([*words, "--authority", str(elsewhere)]) == 0
    assert main(["cert", "program", "Not A Name", *words[3:]]) == 1
    assert "is no program name" in capsys.readouterr().err
