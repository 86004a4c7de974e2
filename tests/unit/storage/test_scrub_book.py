"""The book of the scrub: what was kept comes back; a bad one is as good as none."""

from pathlib import Path

import pytest

from davfs.storage.scrub_book import ScrubBook


def test_what_was_kept_comes_back(tmp_path: Path) -> None:
    book = ScrubBook(tmp_path)
    assert book.load() == []
    book.save([{"volume": "v", "found": {"bad": 1}}])
    assert ScrubBook(tmp_path).load() == [{"volume": "v", "found": {"bad": 1}}]


BAD = [b"", b"[]", b'{"format": 2, "passes": []}', b'{"format": 1, "passes": [1]}', b"\xff", b"[" * 9999]


@pytest.mark.parametrize("content", BAD)
def test_a_bad_book_is_as_good_as_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "SCRUBS").write_bytes(content)
    assert ScrubBook(tmp_path).load() == []
