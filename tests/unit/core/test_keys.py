"""Which document an entry lives in: none grows with what one record makes, or with how many records there are."""

from __future__ import annotations

from collections import Counter

import pytest

from davfs.core import keys
from davfs.core.model import ROOT, Epoch, Position

EPOCH = Epoch(1, 0x2A)


def test_single_files_of_32_records_share_a_document() -> None:
    inodes = [keys.make_inode(Position(EPOCH, seq), 0) for seq in range(640)]
    assert set(Counter(map(keys.document_of, inodes)).values()) == {32}


@pytest.mark.parametrize("made", [1, 2, 5, 700])
def test_no_document_holds_many_inodes_whatever_a_record_makes(made: int) -> None:
    inodes = [keys.make_inode(Position(EPOCH, seq), number) for seq in range(200) for number in range(made)]
    assert len(set(inodes)) == len(inodes)
    held = Counter(map(keys.document_of, inodes))
    assert max(held.values()) <= (1 << keys.BUCKET_BITS) * keys.SHARED_INODES


def test_every_entry_of_an_inode_is_in_one_document_but_segments() -> None:
    inode = keys.make_inode(Position(EPOCH, 0x1234), 5)
    assert inode == "1234.1.2a-5"
    assert {keys.document_of(inode, kind) for kind in (keys.NAME, keys.MANIFEST, keys.PROPERTY)} == {"d/1234/0"}
    assert keys.document_of(inode, keys.SEGMENT, "7") == f"s/{inode}/7"


def test_inodes_of_format_1_stay_where_they_are() -> None:
    assert keys.document_of("1234.1.2a.0") == "b/12"
    assert keys.document_of("1234.1.2a.ff") == "b/12"
    assert keys.document_of(ROOT, keys.PROPERTY) == "b/system"
