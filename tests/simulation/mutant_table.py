"""Which checker catches which mutant, by which schedules: what the tests run, and ``python -m tests.simulation.mutant_table``.

The command runs every mutant, under the schedule that is made for it and under the simulator's random faults, and writes
docs/mutants.md; it takes some minutes. An argument is the number of seeds of random faults, 100 without one.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from davfs.core.model import AVAILABLE
from davfs.sim.network import Weather
from davfs.sim.simulation import Simulation
from tests.simulation import (
    links,
    members,
    mutants,
    schedules,
    test_available,
    test_collector_races,
    test_locks,
    test_programs,
)
from tests.simulation.mutants import Mutant

PAGE = Path(__file__).parents[2] / "docs" / "mutants.md"
RANDOM_SEEDS = 100
Schedule = Callable[[int], list[str]]


@dataclass(frozen=True, slots=True)
class Row:
    """``schedule(seed)`` gives what was found. The mutant must be found by one of the first ``seeds`` of it; ``told``: the
    schedule in words; ``random``: whether random faults may find it as well."""

    mutant: Mutant
    schedule: Schedule
    seeds: int = 10
    told: str = ""
    random: bool = True

    @property
    def name(self) -> str:
        return self.mutant.__name__


def found_by(mutant: Mutant, schedule: Schedule, seeds: Iterable[int]) -> tuple[int, list[str]] | None:
    """(how many schedules it took, what was found), or None if no seed finds it."""
    with pytest.MonkeyPatch.context() as patch:
        mutant(patch)
        for count, seed in enumerate(seeds, 1):
            if failures := schedule(seed):
                return count, failures
    return None


def faults(seed: int) -> list[str]:
    """Random faults, as of ``davfs sim``."""
    return Simulation(seed).run().failures


def _cuts(seed: int) -> list[str]:
    return Simulation(seed, consistency=AVAILABLE, troubles=test_available.CUTS).run().failures


def _locks(seed: int) -> list[str]:
    return test_locks.LockSimulation(seed, Weather(slow=0.3, slow_delay=1.0)).run()


def _programs(seed: int) -> list[str]:
    return test_programs.ProgramSimulation(seed).run()


def _collected(play: Callable[[pytest.MonkeyPatch], list[str]]) -> Schedule:
    def schedule(seed: int) -> list[str]:
        with pytest.MonkeyPatch.context() as patch:
            return play(patch)

    return schedule


def both(*several: Mutant) -> Mutant:
    """Safeguards that stand in for each other, taken out together."""

    def mutant(patch: pytest.MonkeyPatch) -> None:
        for one in several:
            one(patch)

    mutant.__name__ = " and ".join(one.__name__ for one in several)
    mutant.__doc__ = " ".join(one.__doc__ or "" for one in several)
    return mutant


M, S, C, L, P = mutants, schedules, test_collector_races, test_locks, test_programs

ROWS = (
    Row(M.answer_before_a_majority_has_the_record, S.cut_off_in_the_middle),
    Row(M.unknown_told_as_done, S.cut_off_in_the_middle),
    Row(M.reads_of_uncommitted_state, S.cut_off_in_the_middle),
    Row(M.no_fence, S.late_record, 20),
    Row(M.read_before_seal, S.late_record, 20),
    Row(M.start_record_skipped, S.seen_once),
    Row(M.own_log_adopted, S.follower_lacks_the_last_record),
    Row(M.minority_sealed, S.follower_lacks_the_last_record),
    Row(M.lease_ignored, S.reads_at_the_old_holder),
    Row(M.lease_counted_from_the_callback, S.wakes_after_its_time),
    Row(M.wiped_replica_counted, S.comes_back_without_its_disk),
    Row(M.record_torn_over_two_documents, S.overwritten_by_a_move),
    Row(M.no_answer_remembered, S.sent_again),
    Row(M.majority_votes_on_content, S.rotten_copies),
    Row(M.two_step_change_of_replicas, S.written_while_replicas_change),
    Row(M.newcomer_not_awaited, S.newcomer_lacks_a_record),
    Row(members.one_copy_is_enough, members.slow_copies),
    Row(members.removed_without_a_look, members.needed_copies, random=False),
    Row(M.records_never_forgotten, S.a_long_day, 1, random=False),
    Row(M.uses_never_end, S.a_long_day, 1, random=False),
    Row(M.documents_never_dropped, S.a_long_day, 1, random=False),
)
"""Those that ``test_mutants.py`` runs; the others have tests beside what they break."""

OTHERS = (
    Row(links.repeated_frames_taken, links.frames_delivered_twice, 5, "frames between Raft members come twice and late", False),
    Row(test_available.late_records_enter_as_they_are, _cuts, 40, "an available volume, long partitions", False),
    Row(C.trusts_an_old_have_it, _collected(C.put_while_the_order_is_on_its_way), 1, "put again while it is removed", False),
    Row(C.ignores_the_trash, _collected(C.deleted_and_collected), 1, "deleted, not yet emptied, collected", False),
    Row(both(C.ignores_uploads, C.confirms_nothing), _collected(C.upload_longer_than_the_grace), 1, "a slow upload", False),
    Row(
        both(C.takes_orders_of_any_epoch, C.trusts_an_old_have_it), _collected(C.order_of_an_older_epoch), 1,
        "a collector of an older epoch wakes up", False,
    ),
    Row(C.forgets_what_is_named_meanwhile, _collected(C.renamed_behind_the_scan), 1, "copied behind the scan", False),
    Row(L.no_gate, _locks, L.MUTANT_SEEDS, "owners of locks and intruders, random faults", False),
    Row(L.locks_forgotten_by_the_next_holder, _locks, L.MUTANT_SEEDS, "owners of locks and intruders, random faults", False),
    Row(L.locks_checked_only_before_the_body, _locks, L.MUTANT_SEEDS, "owners of locks and intruders, random faults", False),
    Row(P.working_copy_votes, _programs, P.MUTANT_SEEDS, "programs and gateways, random faults", False),
    Row(P.any_log_adopted, _programs, P.MUTANT_SEEDS, "programs and gateways, random faults", False),
)  # fmt: skip

CHECKERS = (
    ("no order explains", "linearizability (1, 3)"),
    ("parts of two versions", "no mixed versions (3)"),
    ("conflict copy of a PUT", "no acknowledged PUT becomes a conflict copy (3)"),
    ("invariant 2", "one epoch (2)"),
    ("invariant 4", "enough copies (4)"),
    ("invariant 5", "convergence (5)"),
    ("invariant 6", "no chunk missing (6)"),
    ("invariant 9", "bounded memory (9)"),
    ("invariant 10", "locks (10)"),
    ("invariant 1", "nothing acknowledged is lost (1)"),
    ("Raft:", "delivered at most once (1)"),
    ("CorruptData", "a replica's own check of its log"),
)


def checker_of(failure: str) -> str:
    """The checker that a failure comes from, with the invariants that it guards."""
    return next((name for text, name in CHECKERS if text in failure), "the simulator: a part failed in a way that none may")


INTRODUCTION = """\
Each line is davfs with one safeguard of its design taken out (`tests/simulation/mutants.py`). It runs under the schedule
that is made for it (`tests/simulation/schedules.py`: one history, of which the seed chooses delays) until a checker finds
something, and under the simulator's random faults, up to {} seeds. The numbers behind checkers are the invariants
that they guard ([ARCHITECTURE.md](ARCHITECTURE.md)); "after" counts schedules. Without a mutant no checker finds anything under
the same schedules (`tests/simulation/test_directed.py`). `python -m tests.simulation.mutant_table` writes this page.

A chunk store that does not sync directories is not here: the simulator's chunks have none. The crash points have it
([TESTING.md](TESTING.md)).
"""


def table(seeds: int) -> Iterator[str]:
    """The page, line by line. ``seeds``: of random faults."""
    yield "# Mutants: is a broken davfs caught?\n"
    yield INTRODUCTION.format(seeds)
    yield "| mutant | what is wrong | schedule | caught by | after | random faults: caught by | after |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for row in (*ROWS, *OTHERS):
        doc = (row.mutant.__doc__ or "").split("\n\n")[0].replace("\n", " ").strip()
        told = row.told or row.schedule.__name__.replace("_", " ")
        shown = [f"`{row.name}`", " ".join(doc.split()), told, *_result(found_by(row.mutant, row.schedule, range(row.seeds)))]
        shown += _result(found_by(row.mutant, faults, range(seeds))) if row.random else ["", ""]
        yield f"| {' | '.join(shown)} |"


def _result(found: tuple[int, list[str]] | None) -> list[str]:
    if found is None:
        return ["not found", ""]
    count, failures = found
    return [", ".join(dict.fromkeys(checker_of(failure) for failure in failures)), str(count)]


def main() -> int:
    """Write the page; 1 if a mutant was not found by its own schedule."""
    logging.disable(logging.CRITICAL)  # simulated nodes complain of simulated faults
    began, lines = time.monotonic(), []
    for line in table(int(sys.argv[1]) if len(sys.argv) > 1 else RANDOM_SEEDS):
        print(line, flush=True)
        lines.append(line)
    PAGE.write_text("\n".join(lines) + "\n")
    print(f"{PAGE.name}: {time.monotonic() - began:.0f} s", file=sys.stderr)
    return 1 if any(line.split("|")[4].strip() == "not found" for line in lines if line.startswith("| `")) else 0


if __name__ == "__main__":
    raise SystemExit(main())
