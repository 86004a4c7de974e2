"""The clock that chunks age by."""

import time

import pytest

from davfs.core.errors import CorruptData, UnknownFormat
from davfs.storage.age_clock import AgeClock


class Boot:
    def __init__(self, now):
        self.now = now

    def __call__(self):
        return self.now


def test_it_goes_on_from_where_it_was_saved_and_never_ahead(tmp_path):
    boot = Boot(1000.0)
    clock = AgeClock(tmp_path / "AGE", boot)
    began = clock.now_ns()
    assert abs(began - time.time_ns()) < 60e9
    boot.now = 1010.0
    clock.save()
    boot.now = 1013.0  # killed here
    assert clock.now_ns() - began == 13_000_000_000
    again = AgeClock(tmp_path / "AGE", Boot(5.0))  # after a reboot
    assert abs(again.now_ns() - began - 10_000_000_000) < 1000


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", CorruptData), ("{}", CorruptData), ('{"format": 1, "ns": "x"}', CorruptData),
        ('{"format": 2, "ns": 1}', UnknownFormat),
    ],
)
def test_another_file_is_refused(tmp_path, text, error):
    (tmp_path / "AGE").write_text(text)
    with pytest.raises(error):
        AgeClock(tmp_path / "AGE", Boot(1.0))
