"""Documents that were read lately are given once more, and never as they were before a change."""

from __future__ import annotations

from davfs.core.ports import StoredDocument
from davfs.storage.lately import KEPT, KEPT_BYTES, Lately

OLD, NEW = StoredDocument(b"old", []), StoredDocument(b"new", [])


def read(lately: Lately, name: str, stored: StoredDocument) -> StoredDocument:
    """As the database does it."""
    found, state = lately.take(name)
    if found is None:
        found = stored
        lately.keep(name, found, state)
    return found


def test_each_is_given_once() -> None:
    lately = Lately()
    assert read(lately, "d", OLD) is OLD
    assert lately.take("d")[0] is OLD
    assert lately.take("d")[0] is None


def test_a_change_is_seen_by_who_reads_after_it() -> None:
    lately = Lately()
    read(lately, "d", OLD)
    read(lately, "other", OLD)
    with lately.changing(["d"]):
        pass
    assert read(lately, "d", NEW) is NEW
    assert lately.take("other")[0] is OLD
    lately.forget()
    assert lately.take("d")[0] is None


def test_what_was_read_while_something_changed_is_not_kept() -> None:
    lately = Lately()
    _, state = lately.take("d")
    with lately.changing(["d"]):
        pass
    lately.keep("d", OLD, state)
    assert lately.take("d")[0] is None


def test_it_stays_small() -> None:
    lately = Lately()
    read(lately, "large", StoredDocument(b"x" * KEPT_BYTES, [b"x"]))
    assert lately.take("large")[0] is None
    for number in range(KEPT + 1):
        read(lately, str(number), OLD)
    assert [lately.take(str(number))[0] for number in (0, KEPT)] == [None, OLD]
