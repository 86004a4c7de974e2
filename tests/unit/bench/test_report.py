"""The Markdown page of compat.bench: marks, absences and units."""

import pytest

from compat.bench.report import Operation, Server, below_goal, duration, render
from compat.bench.stats import Samples

PUT = Operation("put-1024", "PUT 1 KiB", 1024)
BIG = Operation("get-268435456", "GET 256 MiB", 268435456)
OPERATIONS = [PUT, BIG]
DAVFS = Server("davfs", "davfs", "1.0", opened=1)
APACHE = Server("apache-gluster", "Apache on Gluster", "2.4", opened=3)
RCLONE = Server("rclone-gluster", "rclone", problem="rclone is not installed")


def _samples() -> Samples:
    samples = Samples()
    samples.add(PUT.key, "davfs", [0.002] * 20)
    samples.add(PUT.key, "apache-gluster", [0.0039] * 19 + [0.05])
    samples.add(BIG.key, "davfs", [0.5])
    samples.add(BIG.key, "apache-gluster", [1.0])
    return samples


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.000431, "431 µs"), (0.00231, "2.31 ms"), (0.0009999, "1 ms"), (0.9999, "1 s"), (10.94, "10.9 s")],
)
def test_durations_are_written_for_people(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_the_goal_is_reached_at_exactly_twice_and_missed_just_below() -> None:
    assert below_goal(OPERATIONS, _samples()) == [PUT]


def test_cells_show_median_p95_and_throughput_of_large_bodies() -> None:
    page = render(["a fact"], OPERATIONS, [DAVFS, APACHE, RCLONE], _samples())
    assert "- a fact" in page
    assert "| PUT 1 KiB | 20 | 2 ms (2 ms) | 3.9 ms (3.9 ms) |" in page
    assert "| GET 256 MiB | 1 | 500 ms (500 ms), 537 MB/s | 1 s (1 s), 268 MB/s |" in page


def test_rows_below_the_goal_are_marked_and_named() -> None:
    page = render([], OPERATIONS, [DAVFS, APACHE], _samples())
    assert "| PUT 1 KiB | **1.95 ✗** |" in page
    assert "| GET 256 MiB | 2.00 |" in page
    assert "✗ below: PUT 1 KiB." in page


def test_absent_servers_are_named_with_the_reason_and_have_no_column() -> None:
    page = render([], OPERATIONS, [DAVFS, APACHE, RCLONE], _samples())
    assert "- rclone: **absent**: rclone is not installed" in page
    assert "| rclone" not in page


def test_a_server_that_failed_on_the_way_keeps_its_samples_and_says_so() -> None:
    failed = Server("apache-gluster", "Apache on Gluster", problem="GET 256 MiB: it broke")
    samples = _samples()
    del samples.seconds[(BIG.key, "apache-gluster")]
    page = render([], OPERATIONS, [DAVFS, failed], samples)
    assert "**incomplete**: GET 256 MiB: it broke" in page
    assert "| GET 256 MiB | – |" in page


def test_without_the_yardstick_the_goal_is_not_claimed() -> None:
    other = Server("apache", "Apache on a disk")
    samples = Samples()
    samples.add(PUT.key, "davfs", [0.001])
    samples.add(PUT.key, "apache", [0.005])
    page = render([], OPERATIONS, [DAVFS, other, RCLONE], samples)
    assert "| PUT 1 KiB | 5.00 |" in page
    assert "not judged" in page


def test_without_davfs_there_are_times_but_no_ratios() -> None:
    page = render([], OPERATIONS, [APACHE], _samples())
    assert "1 s (1 s)" in page
    assert "How many times" not in page


def test_the_floor_says_which_goals_no_server_could_reach() -> None:
    samples = _samples()
    samples.add(PUT.key, "floor", [0.001])
    samples.add(BIG.key, "floor", [0.55])
    page = render([], OPERATIONS, [DAVFS, APACHE, Server("floor", "floor")], samples)
    assert "| PUT 1 KiB | 3.90 | 1.95 | within reach |" in page
    assert "| GET 256 MiB | 1.82 | 2.00 | out of reach of any server |" in page
