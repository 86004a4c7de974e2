"""Books: what was kept comes back; a bad one is as good as none."""

from pathlib import Path

import pytest

from davfs.storage.book import COLLECTIONS, SCRUBS, DiskBook


def test_what_was_kept_comes_back(tmp_path: Path) -> None:
    book = DiskBook(tmp_path, SCRUBS)
    assert book.load() == []
    book.save([{"volume": "v", "found": {"bad": 1}}])
    assert DiskBook(tmp_path, SCRUBS).load() == [{"volume": "v", "found": {"bad": 1}}]
    assert DiskBook(tmp_path, COLLECTIONS).load() == []


BAD = [b"", b"[]", b'{"format": 2, "passes": []}', b'{"format": 1, "passes": [1]}', b"\xff", b"[" * 9999]


@pytest.mark.parametrize("content", BAD)
def test_a_bad_book_is_as_good_as_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "SCRUBS").write_bytes(content)
    assert DiskBook(tmp_path, SCRUBS).load() == []
