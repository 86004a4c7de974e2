"""The data directory: marker, lock, refusals that say what to do."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys

import pytest

from davfs.core.errors import ConfigError, CorruptData, Unavailable, UnknownFormat
from davfs.core.model import NO_EPOCH, Epoch
from davfs.storage.data_dir import DataDirectory
from davfs.storage.files import TEMPORARY
from davfs.storage.replica_db import ReplicaDb


def test_an_empty_directory_is_made_ready_and_found_again(tmp_path):
    path = tmp_path / "new" / "data"
    with DataDirectory(path, "node-1") as first:
        incarnation = first.incarnation
        assert {p.name for p in path.iterdir()} == {"DAVFS", "chunks", "volumes", "raft"}
        assert first.volume_database("v1") == path / "volumes" / "v1.sqlite"
    with DataDirectory(path, "node-1") as again:
        assert again.incarnation == incarnation
    with DataDirectory(tmp_path / "other") as other:
        assert other.incarnation != incarnation


def test_a_second_process_is_kept_out(tmp_path):
    code = (
        "import sys; from pathlib import Path; from davfs.storage.data_dir import DataDirectory;"
        " d = DataDirectory(Path(sys.argv[1])); print('have it', flush=True); sys.stdin.read()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "d")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert other.stdout.readline() == "have it\n"
        with pytest.raises(Unavailable, match="in use by another process"):
            DataDirectory(tmp_path / "d")
    finally:
        other.kill()
        other.communicate(timeout=10)
    DataDirectory(tmp_path / "d").close()  # a killed process leaves no lock behind


def test_a_directory_of_something_else_is_refused(tmp_path):
    (tmp_path / "thesis.odt").write_text("x")
    with pytest.raises(ConfigError, match="not empty"):
        DataDirectory(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.odt"]
    with pytest.raises(ConfigError, match="is a file"):
        DataDirectory(tmp_path / "thesis.odt")


def test_an_empty_file_system_and_a_start_that_died_are_no_obstacle(tmp_path):
    (tmp_path / "lost+found").mkdir()
    (tmp_path / f"{TEMPORARY}DAVFS").write_text("{")
    DataDirectory(tmp_path).close()
    assert not (tmp_path / f"{TEMPORARY}DAVFS").exists()


def test_a_newer_format_is_refused_by_name(tmp_path):
    DataDirectory(tmp_path).close()
    marker = json.loads((tmp_path / "DAVFS").read_text())
    (tmp_path / "DAVFS").write_text(json.dumps(marker | {"format": 2}))
    with pytest.raises(UnknownFormat, match="format 2; this davfs knows format 1"):
        DataDirectory(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 1}', "\xff"])
def test_a_damaged_marker_is_said(tmp_path, text):
    DataDirectory(tmp_path).close()
    (tmp_path / "DAVFS").write_text(text)
    with pytest.raises(CorruptData, match="DAVFS"):
        DataDirectory(tmp_path)


def test_another_nodes_directory_is_refused(tmp_path):
    DataDirectory(tmp_path, "node-1").close()
    with pytest.raises(ConfigError, match="belongs to node-1"):
        DataDirectory(tmp_path, "node-2")


def test_leftovers_are_removed_and_nothing_else(tmp_path):
    DataDirectory(tmp_path).close()
    folder = tmp_path / "chunks" / "v1" / "ab"
    folder.mkdir(parents=True)
    (folder / f"{TEMPORARY}17-0").write_bytes(b"half")
    (folder / "abcd").write_bytes(b"whole")
    DataDirectory(tmp_path).close()
    assert [p.name for p in folder.iterdir()] == ["abcd"]


def test_a_dropped_database_is_gone_and_a_new_one_knows_nothing(tmp_path):
    with DataDirectory(tmp_path / "d") as directory:
        assert directory.stored_volumes() == []
        store = ReplicaDb(directory.volume_database("v1"))
        first = store.incarnation
        ReplicaDb(directory.volume_database("v2")).close()
        assert directory.stored_volumes() == ["v1", "v2"]
        store.close()
        directory.drop_volume("v1")
        assert directory.stored_volumes() == ["v2"]
        assert [file.name for file in directory.volumes.iterdir()] == ["v2.sqlite"]
        with contextlib.closing(ReplicaDb(directory.volume_database("v1"))) as again:
            assert again.incarnation != first and again.sealed == NO_EPOCH


def test_a_crash_while_a_database_is_dropped_leaves_no_half_of_it(tmp_path, monkeypatch):
    """Its write-ahead log alone would be taken for that of the next one; the file alone would have forgotten its end."""
    with DataDirectory(tmp_path / "d") as directory:
        with contextlib.closing(ReplicaDb(directory.volume_database("v1"))) as store:
            store.seal(Epoch(1, 7))
            wal = directory.volumes / "v1.sqlite-wal"
            left = wal.read_bytes()
        monkeypatch.setattr(directory, "_remove", lambda volume: None)  # the crash
        directory.drop_volume("v1")
        wal.write_bytes(left)  # as if a reader had kept it
    with DataDirectory(tmp_path / "d") as directory:
        assert list(directory.volumes.iterdir()) == []
        with contextlib.closing(ReplicaDb(directory.volume_database("v1"))) as again:
            assert again.sealed == NO_EPOCH
