"""The set of names of one run of the collector."""

import random

import pytest

from davfs.storage.reference_set import ReferenceSet


@pytest.mark.parametrize("where", ["file", "memory"])
def test_it_is_exact(tmp_path, where):
    path = tmp_path / ".tmp-1" if where == "file" else ":memory:"
    numbers = random.Random(3)
    inside = [numbers.randbytes(32).hex() for _ in range(500)] + ["s/1.2.3-4", "s/" + "ab" * 31]
    outside = [numbers.randbytes(32).hex() for _ in range(500)] + ["s/1.2.3-5", "ab" * 31]
    names = ReferenceSet(path)
    for start in range(0, len(inside), 7):
        names.add(inside[start : start + 9])  # some of them twice
    mixed = [*inside, *outside]
    numbers.shuffle(mixed)
    assert names.missing(mixed) == [name for name in mixed if name in set(outside)]
    assert names.count() == len(inside)
    names.close()
    assert where == "memory" or not path.exists()


def test_a_leftover_is_not_taken_for_the_set(tmp_path):
    (tmp_path / ".tmp-1").write_bytes(b"something else")
    names = ReferenceSet(tmp_path / ".tmp-1")
    assert names.count() == 0
    names.close()
