"""``python -m tests.faults``: real nodes under real faults, judged; a report page at the end.

Exit code 0 if everything held, 1 if not, 2 if it could not be run.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
from pathlib import Path

from tests.faults import report
from tests.faults.drive import Run
from tests.faults.loopback import Loopback
from tests.faults.schedule import KINDS, LONGEST_S
from tests.faults.world import Namespaces

SMALL_MIB = 700


def main(words: list[str]) -> int:
    """Run as the words say."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--seconds", type=float, default=300.0, help="how long faults come and go (default 300)")
    parser.add_argument("--seed", type=int, help="the schedule, and what clients choose (default: drawn)")
    parser.add_argument("--out", type=Path, default=Path("faults"), help="where the report goes (default: faults)")
    parser.add_argument("--nodes", type=int, choices=(3, 5), default=5, help="default 5")
    parser.add_argument("--longest", type=float, default=LONGEST_S, help="seconds of the longest fault (default 12)")
    parser.add_argument("--loopback", action="store_true", help="no network namespaces, as when not root")
    parser.add_argument("--only", default="", help=f"kinds of faults, with commas: {', '.join(KINDS)}")
    arguments = parser.parse_args(words)
    seed = random.SystemRandom().randrange(1_000_000) if arguments.seed is None else arguments.seed
    kinds = frozenset(arguments.only.split(",")) if arguments.only else frozenset(KINDS)
    if strange := kinds - set(KINDS):
        parser.error(f"no such kind: {', '.join(sorted(strange))}")
    arguments.out.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    world: Namespaces | Loopback
    if arguments.loopback or os.geteuid() != 0:
        world = Loopback(arguments.nodes)
        print("on loopback; left out: " + "; ".join(world.left_out), flush=True)
    else:
        small = tuple(random.Random(seed).sample(range(1, arguments.nodes + 1), arguments.nodes // 2))
        world = Namespaces(arguments.nodes, small, SMALL_MIB + round(arguments.seconds))  # what clients leave grows with time
    print(f"seed {seed}", flush=True)
    run = Run(world, seed, arguments.seconds, lambda line: print(line, flush=True), kinds, arguments.longest)
    try:
        story = run.go()
        if story.failures:
            for number in world.numbers:
                shutil.copy(world.log(number), arguments.out)
    except KeyboardInterrupt:
        print("interrupted; everything is being removed", file=sys.stderr)
        return 2
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        world.destroy()
        signal.signal(signal.SIGINT, signal.default_int_handler)
    page = report.write(story, arguments.out)
    print(report.summary(story))
    print(f"report: {page}")
    return 1 if story.failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
