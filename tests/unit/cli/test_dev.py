"""What `davfs dev` makes of its folder and its options, before any process runs."""

import argparse
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from davfs.cli.dev import prepare, welcome
from davfs.cli.main import main, parser
from davfs.cli.processes import Nodes, process_lives
from davfs.core.errors import ConfigError
from davfs.core.passwords import verify_password


def options(folder: Path, *words: str) -> argparse.Namespace:
    return parser().parse_args(["dev", "--dir", str(folder), *words])


def prepared(folder: Path, *words: str) -> list[Any]:
    return prepare(folder, options(folder, *words))


def test_a_new_folder_holds_three_nodes_that_let_everyone_in(tmp_path: Path) -> None:
    configs = prepared(tmp_path, "--port", "18000")
    assert [c.name for c in configs] == ["node-1", "node-2", "node-3"]
    assert [c.dav.listen for c in configs] == [("127.0.0.1", 18000 + i) for i in range(3)]
    assert all(c.dav.anonymous for c in configs)
    ports = [c.rpc.listen[1] for c in configs] + [c.forward.listen[1] for c in configs]
    assert len(set(ports)) == 6


def test_a_second_run_keeps_what_the_files_say(tmp_path: Path) -> None:
    first = prepared(tmp_path, "--port", "18000", "--ttl", "2", "--chunk-size", "65536")
    written = [c.file.read_bytes() for c in first]
    assert prepared(tmp_path) == first
    assert [c.file.read_bytes() for c in first] == written


def test_options_go_before_the_files_and_are_kept(tmp_path: Path) -> None:
    first = prepared(tmp_path, "--port", "18000")
    second = prepared(tmp_path, "--port", "19000", "--ttl", "3", "--user", "anna:secret")
    assert [c.member.dav for c in second] == [f"http://127.0.0.1:{19000 + i}" for i in range(3)]
    assert [c.rpc for c in second] == [c.rpc for c in first]
    assert {c.cluster.token_ttl for c in second} == {3.0}
    assert not any(c.dav.anonymous for c in second)
    assert verify_password("secret", second[0].dav.users[0].password)
    assert prepared(tmp_path) == second


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--nodes", "4"), "1, 3, 5 or 7 nodes can vote"),
        (("--chunk-size", "5"), "chunk_size: must be a whole number from 4096"),
        (("--ttl", "0.1"), "cluster.token_ttl: must be a number from 0.5"),
        (("--port", "65535"), "dav.listen: must be HOST:PORT with a port from 1 to 65535"),
        (("--user", "anna"), "NAME:PASSWORD"),
    ],
)
def test_a_wrong_option_is_an_error_that_names_it(tmp_path: Path, words: tuple[str, ...], told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        prepared(tmp_path, *words)
    assert told in caught.value.message


def test_another_number_of_nodes_is_refused(tmp_path: Path) -> None:
    prepared(tmp_path, "--nodes", "1")
    with pytest.raises(ConfigError, match="holds a cluster of 1 nodes, not 3"):
        prepared(tmp_path, "--nodes", "3")


def test_ten_nodes_or_more_would_keep_their_order(tmp_path: Path) -> None:
    assert [c.name for c in prepared(tmp_path, "--nodes", "7")] == [f"node-{i}" for i in range(1, 8)]


def test_the_welcome_says_how_to_mount_everywhere(tmp_path: Path) -> None:
    text = welcome(prepared(tmp_path, "--port", "18000"), ["my files"], tmp_path)
    for word in ("Windows", "macOS", "Linux", "rclone", "http://127.0.0.1:18002/my%20files/", str(tmp_path)):
        assert word in text


def test_a_process_that_merely_waits_for_its_parent_is_over() -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    assert process_lives(child.pid)
    child.send_signal(signal.SIGKILL)
    while process_lives(child.pid):
        pass
    assert child.wait(5) == -signal.SIGKILL


def test_stop_leaves_a_stranger_with_an_old_number_alone(tmp_path: Path) -> None:
    """A pid file that nobody locks is left over, whoever has the number now."""
    configs = prepared(tmp_path)
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        configs[0].pid_file.write_text(f"{stranger.pid}\n")
        Nodes(configs).stop()
        assert process_lives(stranger.pid)
    finally:
        stranger.kill()
        stranger.wait()


def test_errors_are_one_line_and_exit_code_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--config", str(tmp_path / "davfs.toml")]) == 1
    err = capsys.readouterr().err
    assert err.startswith(f"davfs: {tmp_path / 'davfs.toml'}: no such file")
    assert err.count("\n") == 1
    assert main(["init", "--dir", str(tmp_path / "c"), "a=10.0.0.1", "b=10.0.0.2"]) == 1
    assert "give 1, 3, 5 or 7" in capsys.readouterr().err
    assert main(["init", "--dir", str(tmp_path / "c"), "a=10.0.0.1", "--plain-http", "--user", "u:p"]) == 0
    assert "davfs serve --config a/davfs.toml" in capsys.readouterr().out
