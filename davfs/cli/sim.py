"""``davfs sim``: run the flows under the seeded simulator and judge what came of it.

A seed names exactly one history, so a failure is run again with ``--seed N --trace``.
"""

from __future__ import annotations

import argparse
import logging
from typing import Any


def register(commands: Any) -> None:
    """Add the command."""
    command = commands.add_parser(
        "sim",
        help="run the protocols under simulated faults",
        description="Run the protocols with a simulated network, Raft, disk and clock, and check the invariants.",
    )
    command.add_argument("--seed", type=int, default=0, metavar="N", help="the (first) seed (default: 0)")
    command.add_argument("--seeds", type=int, default=1, metavar="COUNT", help="how many seeds from there on")
    command.add_argument("--steps", type=int, default=80, metavar="M", help="operations of clients (default: 80)")
    command.add_argument("--nodes", type=int, default=3, choices=(1, 3, 5, 7), help="nodes (default: 3)")
    command.add_argument("--trace", action="store_true", help="print everything that happened")
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the seeds; 1 if any of them failed."""
    from davfs.sim.simulation import Simulation  # heavy: only when it is asked for

    logging.disable(logging.CRITICAL)  # simulated nodes complain of simulated faults
    failed = 0
    for seed in range(arguments.seed, arguments.seed + arguments.seeds):
        verdict = Simulation(seed, arguments.steps, arguments.nodes, tracing=arguments.trace).run()
        for line in verdict.trace:
            print(line)
        print(verdict.summary(), flush=True)
        for failure in verdict.failures:
            print(f"  {failure}")
        failed += bool(verdict.failures)
    return 1 if failed else 0
