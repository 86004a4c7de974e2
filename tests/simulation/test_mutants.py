"""Every mutant is found: by the schedule that is made for it, and some of them by random faults as well."""

import pytest

from tests.simulation import links, mutants
from tests.simulation.mutant_table import OTHERS, PAGE, ROWS, Row, checker_of, faults, found_by


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_mutant_is_found(row: Row) -> None:
    found = found_by(row.mutant, row.schedule, range(row.seeds))
    assert found is not None, f"{row.name} was found by none of {row.seeds} schedules"


@pytest.mark.parametrize(
    "mutant", [mutants.own_log_adopted, mutants.minority_sealed, mutants.reads_of_uncommitted_state], ids=lambda m: m.__name__
)
def test_random_faults_find_it_too(mutant: mutants.Mutant) -> None:
    assert found_by(mutant, faults, range(60)) is not None


def test_raft_messages_delivered_twice_are_found() -> None:
    assert links.frames_delivered_twice(0) == []
    assert found_by(links.repeated_frames_taken, links.frames_delivered_twice, range(5)) is not None


def test_the_page_has_them_all_and_none_was_missed() -> None:
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    assert [line.split("`")[1] for line in lines] == [row.name for row in (*ROWS, *OTHERS)]
    assert all(line.split("|")[4].strip() != "not found" for line in lines)


def test_a_failure_tells_its_checker() -> None:
    assert checker_of("invariant 10: x was refused under its own lock") == "locks (10)"
    assert checker_of("invariants 1 and 3: no order explains ...") == "linearizability (1, 3)"
