"""Medians, percentiles and ratios of compat.bench."""

import pytest

from compat.bench.stats import Samples, median, percentile


def test_median_of_odd_and_even_numbers() -> None:
    assert median([3.0, 1.0, 2.0]) == 2.0
    assert median([4.0, 1.0, 2.0, 3.0]) == 2.5


def test_percentile_is_the_nearest_rank() -> None:
    hundred = [float(number) for number in range(100, 0, -1)]
    assert percentile(hundred, 95) == 95.0
    assert percentile(hundred, 100) == 100.0
    assert percentile(hundred, 0.5) == 1.0
    assert percentile([2.0, 9.0, 1.0], 95) == 9.0


@pytest.mark.parametrize("percent", [0, -1, 101])
def test_percentile_refuses_what_is_no_percentage(percent: float) -> None:
    with pytest.raises(ValueError, match="percent"):
        percentile([1.0], percent)


def test_nothing_has_no_median_and_no_percentile() -> None:
    with pytest.raises(ValueError, match="no samples"):
        median([])
    with pytest.raises(ValueError, match="no samples"):
        percentile([], 95)


def test_samples_gather_over_turns_and_ratio_says_how_many_times_faster_ours_is() -> None:
    samples = Samples()
    samples.add("put", "davfs", [1.0, 3.0])
    samples.add("put", "davfs", [2.0])
    samples.add("put", "other", [8.0])
    assert samples.of("put", "davfs") == [1.0, 3.0, 2.0]
    assert samples.ratio("put", "davfs", "other") == 4.0
    assert samples.ratio("put", "davfs", "absent") is None
    assert samples.of("get", "davfs") == []
