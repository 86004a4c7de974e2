"""When a small file's chunk may travel with its record."""

import pytest

from davfs.cluster.files import may_travel

ABC = ("a", "b", "c")


@pytest.mark.parametrize("write_quorum", [1, 2])
def test_a_majority_of_the_replicas_is_a_write_quorum(write_quorum: int) -> None:
    assert may_travel(write_quorum, ("c", "a", "b"), ABC)


def test_no_majority_is_enough_for_a_larger_write_quorum() -> None:
    assert not may_travel(3, ABC, ABC)
    assert not may_travel(4, (*ABC, "d", "e"), (*ABC, "d", "e"))


def test_its_nodes_have_to_be_the_replicas() -> None:
    assert not may_travel(2, ("a", "b", "d"), ABC)
