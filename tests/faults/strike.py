"""The faults: what begins and ends each, and what has to be repaired after it."""

from __future__ import annotations

import json
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any, TypeAlias

from tests.faults import harm, schedule
from tests.faults.schedule import Fault
from tests.faults.weather import CALM, Weather, parted
from tests.faults.world import World, wait_for

DELAY_S = 0.2
LOSS_PER_MILLE = 50
COMMAND_S = 60.0
START_S = 60.0

Tell: TypeAlias = Callable[[str], None]


class Strikes:
    """Begins and ends faults on a world. ``wrong``: told what must not be; ``owed``: repairs that are due when all faults
    of a round are over; ``excused``: nodes that may be down until then."""

    def __init__(self, world: World, volumes: tuple[str, ...], wrong: Tell) -> None:
        self._world = world
        self._volumes = volumes
        self._wrong = wrong
        self._weathers: list[Weather] = []
        self.owed: list[Callable[[], str]] = []
        self.flips: list[harm.Flip] = []
        self.excused: set[int] = set()
        self._kinds: dict[str, Callable[[Fault, random.Random], AbstractContextManager[str]]] = {
            schedule.PARTITION: self._partition,
            schedule.ONE_WAY: self._one_way,
            schedule.DELAY: self._delay,
            schedule.LOSS: self._loss,
            schedule.HOLDER: self._isolate_holder,
            schedule.LEADER: self._isolate_leader,
            schedule.KILL: self._kill,
            schedule.STOP: self._stop,
            schedule.WIPE: self._wipe,
            schedule.FLIP_CHUNKS: self._flip_chunks,
            schedule.FLIP_DATABASE: self._flip_database,
            schedule.FLIP_JOURNAL: self._flip_journal,
            schedule.FULL: self._full,
            schedule.DISK_ERROR: self._disk_error,
        }

    def begin(self, fault: Fault) -> AbstractContextManager[str]:
        """A context in which the fault lasts; it gives words for what exactly was done."""
        return self._kinds[fault.kind](fault, random.Random(fault.draw))

    # --- the network ------------------------------------------------------------------------------------------------

    @contextmanager
    def _under(self, weather: Weather) -> Iterator[None]:
        self._weathers.append(weather)
        self._apply()
        try:
            yield
        finally:
            self._weathers.remove(weather)
            self._apply()

    def _apply(self) -> None:
        whole = CALM
        for weather in self._weathers:
            whole |= weather
        self._world.apply(whole)

    @contextmanager
    def _partition(self, fault: Fault, draw: random.Random) -> Iterator[str]:
        with self._under(parted(fault.nodes, self._world.numbers)):
            yield f"{_names(fault.nodes)} | the others"

    @contextmanager
    def _one_way(self, fault: Fault, draw: random.Random) -> Iterator[str]:
        (node,) = fault.nodes
        others = [number for number in self._world.numbers if number != node]
        if draw.random() < 0.5:
            pairs, words = {(node, other) for other in others}, f"nobody hears {_names(fault.nodes)}"
        else:
            pairs, words = {(other, node) for other in others}, f"{_names(fault.nodes)} hears nobody"
        with self._under(Weather(deaf=frozenset(pairs))):
            yield words

    @contextmanager
    def _delay(self, fault: Fault, draw: random.Random) -> Iterator[str]:
        with self._under(Weather(delay=dict.fromkeys(fault.nodes, DELAY_S))):
            yield f"{DELAY_S * 1000:.0f} ms each way at {_names(fault.nodes)}"

    @contextmanager
    def _loss(self, fault: Fault, draw: random.Random) -> Iterator[str]:
        numbers = self._world.numbers
        with self._under(Weather(loss={(a, b): LOSS_PER_MILLE for a in numbers for b in numbers if a != b})):
            yield f"{LOSS_PER_MILLE / 10:g} % between all nodes"

    @contextmanager
    def _isolate_holder(self, fault: Fault, draw: random.Random) -> Iterator[str]:
        volume = draw.choice(self._volumes)
        holders = [one["holder"] for one in self._status().get("volumes", []) if one["name"] == volume]
        yield from self._isolate(holders[0] if holders else None, f"the holder of {volume}")

    @contextmanager
    def _isolate_leader(self, fault: Fault, draw: random.Random) -> Iterator[str]:
        yield from self._isolate(self._status().get("leader"), "the Raft leader")

    def _isolate(self, name: str | None, what: str) -> Iterator[str]:
        if not name:
            yield f"{what}: nobody is"
            return
        number = int(name.rpartition("-")[2])
        with self._under(parted((number,), self._world.numbers)):
            yield f"{what}, {name}"

    def _status(self) -> dict[str, Any]:
        for number in self._world.numbers:
            if self._world.exit_code(number) is None and number not in self._world.stopped:
                with suppress(OSError, ValueError):
                    found: dict[str, Any] = json.loads(self._world.command(number, "status", "--json"))
                    if found["fresh"]:
                        return found
        return {}

    # --- processes --------------------------------------------------------------------------------------------------

    @contextmanager
    def _kill(self, fault: Fault, draw: random.Random) -> Iterator[str]:
        (node,) = fault.nodes
        self._world.kill(node)
        yield f"kill -9 {_names(fault.nodes)}"
        self._world.serve(node)

    @contextmanager
    def _stop(self, fault: Fault, draw: random.Random) -> Iterator[str]:
        (node,) = fault.nodes
        self._world.signal(node, signal.SIGSTOP)
        self._world.stopped.add(node)
        yield f"SIGSTOP {_names(fault.nodes)}"
        self._world.stopped.discard(node)
        self._world.signal(node, signal.SIGCONT)

    # --- disks ------------------------------------------------------------------------------------------------------

    @contextmanager
    def _full(self, fault: Fault, draw: random.Random) -> Iterator[str]:
        (node,) = fault.nodes
        size = self._world.fill(node)
        try:
            how = f"{size >> 20} MiB more on its disk fill it" if size else "no room for databases"
            yield f"{_names(fault.nodes)}: {how}"
        finally:
            self._world.unfill(node)

    @contextmanager
    def _disk_error(self, fault: Fault, draw: random.Random) -> Iterator[str]:
        (node,) = fault.nodes
        tracer = self._world.spoil(node)
        yield f"{_names(fault.nodes)}: every pwrite and sync fails with EIO"
        self._world.kill(node)  # as an administrator does: a store that failed to sync takes no more writes
        tracer.terminate()
        tracer.wait(20)
        self._world.serve(node)

    @contextmanager
    def _flip_chunks(self, fault: Fault, draw: random.Random) -> Iterator[str]:
        (node,) = fault.nodes
        flips = harm.flip_chunks(node, self._world.data(node), draw)
        self.flips += flips
        self.owed.append(self._scrubbed)
        yield f"{_names(fault.nodes)}: {len(flips)} copies of chunks damaged"

    @contextmanager
    def _flip_database(self, fault: Fault, draw: random.Random) -> Iterator[str]:
        (node,) = fault.nodes
        self._world.kill(node)
        told = []
        for path in harm.databases(self._world.data(node)):
            told.append(f"{len(harm.flip_database(path, draw))} pages of {path.name[:8]}")
        self._world.serve(node)
        self.excused.add(node)
        self.owed.append(lambda: self._databases_mended(node))
        yield f"{_names(fault.nodes)}: damaged {', '.join(told) or 'nothing: it keeps no replica'}"

    @contextmanager
    def _flip_journal(self, fault: Fault, draw: random.Random) -> Iterator[str]:
        (node,) = fault.nodes
        self._world.kill(node)
        pages = [page for path in harm.journals(self._world.data(node)) for page in harm.flip_database(path, draw)]
        self.excused.add(node)
        self._world.serve(node)
        self.owed.append(lambda: self._journal_given_up(node))
        yield f"{_names(fault.nodes)}: {len(pages)} pages of Raft's journal damaged"

    @contextmanager
    def _wipe(self, fault: Fault, draw: random.Random) -> Iterator[str]:
        (node,) = fault.nodes
        self._world.kill(node)
        harm.wipe(self._world.data(node))
        self.excused.add(node)
        self.owed.append(lambda: self._readmitted(node))
        yield f"{_names(fault.nodes)} lost its disk"

    # --- repairs ----------------------------------------------------------------------------------------------------

    def _readmitted(self, node: int) -> str:
        """A node with a new disk ends by itself; then it is let in again."""
        began = time.monotonic()
        world, other = self._world, next(number for number in self._world.numbers if number != node)
        world.serve(node)
        self._until(f"node-{node} to notice that its disk is new", lambda: world.exit_code(node) is not None, START_S)
        if "davfs node readmit" not in world.log(node).read_text(errors="replace")[-4000:]:
            self._wrong(f"node-{node} ended with {world.exit_code(node)} and did not ask to be readmitted")
        self._until("the answer to node readmit", lambda: self._done(other, "node", "readmit", f"node-{node}"), COMMAND_S)
        world.serve(node)
        self.excused.discard(node)
        self._until(f"node-{node} to vote again", lambda: self._votes(node), START_S)
        self._until("replicas that count again", lambda: self._all_count(node), START_S)
        return f"readmitted node-{node} in {time.monotonic() - began:.1f} s; {self._scrubbed()}"

    def _journal_given_up(self, node: int) -> str:
        """A disk that has forgotten what the node voted is a new disk. A node that ended must have said why."""
        world, words = self._world, "it went on"
        if world.exit_code(node) is None:
            world.kill(node)
        else:
            words = "it refused to start"
            if "journal.db" not in (said := world.log(node).read_text(errors="replace")[-2000:]):
                self._wrong(f"node-{node} with a damaged journal did not say so: {said[-300:]}")
        harm.wipe(world.data(node))
        return f"{words}; {self._readmitted(node)}"

    def _databases_mended(self, node: int) -> str:
        """What an administrator does: fsck; if it or the node says that a database is damaged, remove it."""
        began = time.monotonic()
        damaged = self.fsck(quiet=True)
        said = "is damaged" in self._world.log(node).read_text(errors="replace")[-200_000:]
        self.excused.discard(node)
        if not damaged and not said and self._world.exit_code(node) is None:
            return f"the damage of node-{node} was in pages that hold nothing"
        if self._world.exit_code(node) is None:
            self._world.kill(node)
        harm.remove_databases(self._world.data(node))
        self._world.serve(node)
        self._until("replicas that count again", lambda: self._all_count(node), START_S)
        took = time.monotonic() - began
        return f"removed the databases of node-{node} ({'; '.join(damaged)[:200]}), whole after {took:.1f} s"

    def _scrubbed(self) -> str:
        """A whole scrub of every volume; what it repaired. Flipped copies must be whole or gone afterwards."""
        bad = repaired = 0
        for volume in self._volumes:
            for one in self.scrub(volume):
                bad, repaired = bad + one["found"]["bad"], repaired + one["found"]["repaired"]
        left = [flip for flip in self.flips if not harm.is_whole(flip.path)]
        if left:
            self._until_scrubbed(left)
        self.flips.clear()
        return f"a scrub found {bad} bad copies and repaired {repaired}"

    def _until_scrubbed(self, left: list[harm.Flip]) -> None:
        # A copy that no name uses any more is nobody's to repair: the collector takes it. Anything else fsck tells.
        with suppress(TimeoutError):
            wait_for("the end of flipped copies", lambda: all(harm.is_whole(flip.path) for flip in left), 5)
        for finding in self.fsck(quiet=True):
            self._wrong(f"invariant 7: after the scrub: {finding}")

    def scrub(self, volume: str) -> list[dict[str, Any]]:
        """The passes of ``davfs scrub run``."""
        found: dict[str, Any] = {"passes": [], "silent": []}
        for attempt in range(10):
            try:
                found = json.loads(self._run("scrub", "run", volume, "--json"))
            except (ValueError, OSError) as error:
                if attempt == 9:
                    self._wrong(f"invariant 7: scrub of {volume} did not end: {error}")
                continue
            if not found["silent"]:
                break
            time.sleep(2)  # a node that has just started looks by itself first
        else:
            self._wrong(f"invariant 7: no whole scrub of {volume}: {'; '.join(found['silent'])}")
        return found["passes"]

    def fsck(self, quiet: bool = False) -> list[str]:
        """What ``davfs volume fsck`` finds wrong with any volume; reported unless ``quiet``."""
        found = []
        for volume in self._volumes:
            try:
                report = json.loads(self._run("volume", "fsck", volume, "--json"))
            except (ValueError, OSError) as error:
                found.append(f"fsck of {volume} did not end: {error}")
                continue
            found += [f"{volume}: {one['node']} {one['kind']}: {one['text']}" for one in report["problems"]]
            if not report["ok"] and not report["problems"]:
                found.append(f"{volume}: not ok: {report}")
        for finding in () if quiet else found:
            self._wrong(f"invariant 5: {finding}")
        return found

    def _run(self, *words: str) -> str:
        number = next(n for n in self._world.numbers if self._world.exit_code(n) is None)
        return self._world.command(number, *words)

    def _done(self, number: int, *words: str) -> bool:
        try:
            self._world.command(number, *words)
        except OSError:
            time.sleep(0.5)
            return False
        return True

    def _votes(self, node: int) -> bool:
        return any(one["name"] == f"node-{node}" and one["up"] and one["votes"] for one in self._status().get("nodes", []))

    def _all_count(self, node: int) -> bool:
        """Whether the replicas on a node are those that the cluster knows, so that they vote."""
        for volume in self._volumes:
            try:
                shown = json.loads(self._run("volume", "show", volume, "--json"))
            except (ValueError, OSError):
                return False
            name = f"node-{node}"
            if name in shown["replicas"]:
                told = shown["standing"].get(name)
                if told is None or told["incarnation"] != shown["incarnations"].get(name):
                    return False
        return True

    def _until(self, what: str, condition: Callable[[], bool], limit: float) -> None:
        try:
            wait_for(what, condition, limit)
        except TimeoutError:
            self._wrong(f"{what} did not come within {limit:.0f} s")


def _names(nodes: tuple[int, ...]) -> str:
    return ", ".join(f"node-{number}" for number in nodes)
