"""What older versions wrote is read as it was meant, and what this one writes is what it always wrote."""

from __future__ import annotations

import gzip
import re

import pytest

from davfs.core.errors import CorruptData, UnknownFormat
from davfs.core.raft_log import HardState
from davfs.storage import raft_journal
from davfs.storage.raft_journal import RaftJournal
from tests.golden.vectors import ENTRIES, FOLDER, GROWING, PARCEL, VECTORS, file_of

FILES = sorted(FOLDER.glob("*.bin"))


def parts(file):
    name, number = re.fullmatch(r"(.+)-(\d+)\.bin", file.name).groups()
    return name, int(number)


def test_every_format_has_its_vector():
    newest: dict[str, int] = {}
    for name, number in map(parts, FILES):
        newest[name] = max(number, newest.get(name, 0))
    assert newest == {name: vector.format for name, vector in VECTORS.items()}, "python -m tests.golden.make"


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_it_is_read(file):
    vector = VECTORS[parts(file)[0]]
    assert vector.read(file.read_bytes()) == vector.value


@pytest.mark.parametrize("name", [name for name in VECTORS if name not in GROWING])
def test_it_is_written_as_ever(name):
    vector = VECTORS[name]
    assert vector.make() == file_of(name, vector.format).read_bytes()


@pytest.mark.parametrize(
    "name", ["record", "start-record", "chunk", "change", "document", "raft-parcel", "raft-hello", "raft-data"]
)
def test_each_flipped_bit_and_each_cut_is_noticed(name):
    """Those that carry a checksum of their own; the rest travel inside one of these, or inside TLS."""
    vector = VECTORS[name]
    data = file_of(name, vector.format).read_bytes()
    damaged = [data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :] for at in range(len(data)) for bit in (0, 7)]
    for bad in damaged + [data[:length] for length in range(len(data))]:
        with pytest.raises((ValueError, CorruptData, UnknownFormat)):
            vector.read(bad)


def test_a_raft_journal_is_read(tmp_path):
    for file in sorted(FOLDER.glob("raft-journal-*.sqlite.gz")):
        path = tmp_path / file.name.removesuffix(".gz")
        path.write_bytes(gzip.decompress(file.read_bytes()))
        journal = RaftJournal(path)
        image = journal.load()
        journal.close()
        assert (image.boot, image.hard) == (2, HardState(2, "node-2", 7))
        assert (image.entries, image.snapshot) == (ENTRIES, PARCEL.snapshot)
    assert (FOLDER / f"raft-journal-{raft_journal.FORMAT}.sqlite.gz").exists()
