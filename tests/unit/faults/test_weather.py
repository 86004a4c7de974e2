"""Weather: what several faults do together, and the rules for each node."""

from __future__ import annotations

from tests.faults.weather import CALM, Weather, parted, rules


def address(number: int) -> str:
    return f"10.0.0.{number}"


def test_a_partition_cuts_both_ways_and_nothing_within_a_side() -> None:
    deaf = parted((1, 2), range(1, 6)).deaf
    assert (1, 3) in deaf and (3, 1) in deaf and len(deaf) == 12
    assert (1, 2) not in deaf and (4, 5) not in deaf


def test_faults_add_up() -> None:
    one = Weather(frozenset({(1, 2)}), {(1, 2): 50}, {3: 0.1})
    both = one | Weather(frozenset({(2, 1)}), {(1, 2): 20, (2, 3): 10}, {3: 0.2})
    assert both == Weather(frozenset({(1, 2), (2, 1)}), {(1, 2): 50, (2, 3): 10}, {3: 0.2})
    assert one | CALM == one


def test_a_node_drops_what_reaches_it_and_leaves_its_own_alone() -> None:
    weather = Weather(frozenset({(1, 2), (2, 3)}), {(3, 2): 50, (2, 1): 50})
    text = rules(2, weather, address)
    assert 'iifname "eth0" ip saddr 10.0.0.1 drop' in text
    assert 'iifname "eth0" ip saddr 10.0.0.3 numgen random mod 1000 < 50 drop' in text
    assert text.count(" drop") == 2
    assert "drop" not in rules(2, CALM, address)
    assert rules(2, CALM, address).startswith("table inet davfs_faults {}\ndelete table")
