"""``davfs sim``: run the flows under the seeded simulator and judge what came of it.

A seed names exactly one history, so a failure is run again with ``--seed N --trace``; what is told of one that failed is
its story made small.
"""

from __future__ import annotations

import argparse
import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from davfs.core.errors import InvalidInput

if TYPE_CHECKING:
    from davfs.sim.schedule import Schedule
    from davfs.sim.simulation import Verdict

STORIES = 3
"""So many failed seeds of a run are made small: each takes up to a minute."""


def register(commands: Any) -> None:
    """Add the command."""
    command = commands.add_parser(
        "sim",
        help="run the protocols under simulated faults",
        description="Run the protocols with a simulated network, Raft, disk and clock, and check the invariants.",
    )
    command.add_argument("--seed", type=int, default=0, metavar="N", help="the (first) seed (default: 0)")
    command.add_argument("--seeds", type=int, default=1, metavar="COUNT", help="how many seeds from there on")
    command.add_argument("--steps", type=int, default=60, metavar="M", help="operations of clients (default: 60)")
    command.add_argument("--nodes", type=int, default=0, choices=(0, 3, 5, 7), help="nodes (default: what the seed says)")
    command.add_argument("--members", action="store_true", help="nodes join, are drained and removed all the while")
    command.add_argument("--jobs", type=int, default=1, metavar="J", help="processes at work (default: 1)")
    command.add_argument(
        "--without", default="", metavar="LIST", help="leave out faults by their numbers, or strikes: strikes,3,17"
    )
    command.add_argument("--trace", action="store_true", help="print everything that happened")
    command.add_argument("--quick", action="store_true", help="do not make the story of a failure small")
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the seeds; 1 if any of them failed."""
    from davfs.sim.runs import play_all  # heavy: only when it is asked for

    logging.disable(logging.CRITICAL)  # simulated nodes complain of simulated faults
    plans = [_plan(arguments, seed) for seed in range(arguments.seed, arguments.seed + arguments.seeds)]
    if arguments.trace:
        return _trace(plans)
    few = len(plans) <= 20

    def told(verdict: Verdict) -> None:
        if few or verdict.failures:
            print(verdict.summary(), flush=True)
        for failure in verdict.failures:
            print(f"  {failure}", flush=True)

    total = play_all(plans, max(1, arguments.jobs), told, lambda line: print(line, flush=True))
    for line in total.lines():
        print(line)
    for seed, _ in [] if arguments.quick else total.failed[:STORIES]:
        _tell(next(plan for plan in plans if plan.seed == seed))
    return 1 if total.failed else 0


def _plan(arguments: argparse.Namespace, seed: int) -> Schedule:
    from davfs.sim.schedule import general, without

    plan = general(seed, arguments.steps, arguments.nodes, arguments.members)
    left_out = [part.strip() for part in arguments.without.split(",") if part.strip()]
    if "strikes" in left_out:
        plan = replace(plan, troubles=replace(plan.troubles, strike=0.0))
    numbers = [part for part in left_out if part != "strikes"]
    if not all(number.removeprefix("-").isdecimal() for number in numbers):
        raise InvalidInput(f"--without takes numbers of faults, or strikes: {arguments.without}")
    return without(plan, frozenset(map(int, numbers)))


def _trace(plans: list[Schedule]) -> int:
    from davfs.sim.simulation import Simulation

    failed = False
    for plan in plans:
        verdict = Simulation.of(plan, tracing=True).run()
        for line in (str(plan), *verdict.trace, verdict.summary(), *(f"  {failure}" for failure in verdict.failures)):
            print(line)
        failed = failed or bool(verdict.failures)
    return 1 if failed else 0


def _tell(plan: Schedule) -> None:
    """Make the failure of a schedule small, and tell it."""
    from davfs.sim.minimise import Minimiser, command_of, story
    from davfs.sim.runs import play

    print(f"seed {plan.seed}: making it small ...", flush=True)
    smallest, _ = Minimiser().smallest(plan, play(plan))
    for line in story(smallest):
        print(f"  {line}")
    print(f"again: {command_of(smallest)}", flush=True)
