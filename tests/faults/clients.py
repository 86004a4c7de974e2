"""WebDAV clients beside the nodes: random operations on shared directories through any node, recorded for the judge.

Each thread lives in the network of one node and prefers that node; when it fails it goes to another. A directory is used
for some seconds and then left alone, so that its history stays short enough to be judged (linearizability is local,
Herlihy and Wing, 1990); at the end everything is read again through every node.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from http.client import HTTPException
from typing import Any, Protocol

from compat.client import DavClient
from davfs.sim.history import Operation
from tests.faults import answers
from tests.faults.answers import Result
from tests.faults.contents import content_of
from tests.faults.record import OK, REFUSED, UNKNOWN, Component, Grant, LockStory, Naked, Record
from tests.support import dav_locks

PATIENCE_S = 12.0
GENERATION_S = 10.0
"""For so long clients use the same directories."""
SIDE_BY_SIDE = 3
"""So many directories of each volume at a time."""
THINK_S = 0.08
LOCK_S = 60
KINDS = (
    *("put",) * 9, *("get",) * 8, *("list",) * 2, *("mkcol",) * 2, *("delete",) * 3, *("move",) * 3, *("copy",) * 2,
    *("proppatch",) * 2, *("props",) * 2, *("lock",) * 2,
)  # fmt: skip
FILES = ("a", "b", "c")
LOCKABLE = ("k", "l")
"""Files that are there from the start and are only written, read and locked."""
SIZES = (0, 60, 700, 9_000, 70_000, 150_000, 400_000)
PROPERTIES = ("p", "q")


class Where(Protocol):
    """The nodes, as clients know them."""

    numbers: tuple[int, ...]

    def enter(self, number: int) -> None:
        """Take the calling thread to a node."""

    def beside(self, volume: str, timeout: float, number: int) -> DavClient:
        """A client of a node."""


class Directories:
    """Which directories are in use when. All of them are made before the clients begin."""

    def __init__(self, volumes: tuple[str, ...], seconds: float) -> None:
        self._volumes = volumes
        self.generations = int(seconds / GENERATION_S) + 1

    def all(self) -> list[Component]:
        """Every directory that will be used."""
        return [component for number in range(self.generations) for component in self._of(number)]

    def current(self, seconds: float) -> list[Component]:
        """Those of a moment, in seconds since clients began."""
        return self._of(min(int(seconds / GENERATION_S), self.generations - 1))

    def _of(self, number: int) -> list[Component]:
        return [(volume, f"g{number}-{part}") for volume in self._volumes for part in range(SIDE_BY_SIDE)]


def furnish(client: Callable[[str], DavClient], components: list[Component]) -> dict[Component, dict[Any, Any]]:
    """Make the directories and what is in them from the start; the trees that their histories begin with."""
    trees: dict[Component, dict[Any, Any]] = {}
    clients: dict[str, DavClient] = {}
    for volume, top in components:
        dav = clients.setdefault(volume, client(volume))
        made = dav.request("MKCOL", top)
        assert made.ok, f"MKCOL {volume}/{top}: {made.status} {made.body!r}"
        for name in LOCKABLE:
            assert dav.put(f"{top}/{name}", content_of("first", 0)).ok
        trees[volume, top] = {(top,): None, **{(top, name): "first 0" for name in LOCKABLE}}
    for dav in clients.values():
        dav.close()
    return trees


class Client(threading.Thread):
    """One person. ``stop`` ends it after the request at hand."""

    def __init__(self, where: Where, record: Record, directories: Directories, home: int, name: str, seed: int) -> None:
        super().__init__(daemon=True, name=name)
        self.stop = threading.Event()
        self._where = where
        self._record = record
        self._directories = directories
        self._home = self._node = home
        self._random = random.Random(seed)
        self._made = 0
        self._open: dict[tuple[int, str], DavClient] = {}
        self._began = time.monotonic()

    def run(self) -> None:
        self._where.enter(self._home)
        try:
            while not self.stop.is_set():
                time.sleep(self._random.uniform(0.0, 2 * THINK_S))
                component = self._random.choice(self._directories.current(time.monotonic() - self._began))
                kind = self._random.choice(KINDS)
                if kind == "lock":
                    self._lock_and_write(component)
                else:
                    self.operate(component, self._choose(component[1], kind))
        except BaseException as error:
            self._record.wrong(f"{self.name} died: {error!r}")
            raise
        finally:
            for dav in self._open.values():
                dav.close()

    # --- operations -------------------------------------------------------------------------------------------------

    def operate(self, component: Component, op: tuple[Any, ...], *tokens: str) -> Result:
        """One operation through this client's node, and what came of it, recorded."""
        asked = time.monotonic()
        method, call = answers.request_of(op, tokens)
        result = self._ask(component[0], method, lambda dav: answers.read(op, call(dav)))
        if result.code != REFUSED:
            operation = Operation(self.name, op, asked)
            if result.code != UNKNOWN:
                operation.ended = time.monotonic()
                operation.outcome = ("ok", result.value) if result.code == OK else ("error", result.code)
            self._record.happened(component, operation)
        if result.code == OK and op[0] in ("put", "proppatch") and op[1][-1] in LOCKABLE and not tokens:
            self._record.changed_without_token(Naked(component, op[1][-1], asked, time.monotonic(), self.name))
        return result

    def _ask(self, volume: str, method: str, call: Callable[[DavClient], Result]) -> Result:
        if self._random.random() < 0.2:
            self._node = self._home
        dav = self._open.get((self._node, volume))
        if dav is None:
            dav = self._open[self._node, volume] = self._where.beside(volume, PATIENCE_S, self._node)
        asked = time.monotonic()
        try:
            result = call(dav)
        except ConnectionRefusedError:
            result = Result(REFUSED, 0)
        except (OSError, HTTPException):
            result = Result(UNKNOWN, 0)
        fate = result.code if result.code in (UNKNOWN, REFUSED) else OK
        self._record.asked(asked, self._node, method, result.status, fate)
        if result.wrong:
            self._record.wrong(f"{self.name} through node-{self._node}: {method} was answered {result.wrong}")
        if fate != OK and result.status != 423:
            dav.close()
            self._node = self._random.choice(self._where.numbers)
            if result.status != 507:
                time.sleep(self._random.uniform(0.1, 0.6))
        return result

    def _choose(self, top: str, kind: str) -> tuple[Any, ...]:
        path = self._path(top)
        if kind == "list":
            return "list", path[:-1]
        if kind == "put":
            return "put", path, self._new_content()
        if kind in ("move", "copy"):
            target = self._path(top)
            shorter = min(len(path), len(target))
            if path[:shorter] == target[:shorter] or path[-1] in LOCKABLE or target[-1] in LOCKABLE:
                return "get", path
            return kind, path, target, self._random.random() < 0.7
        if kind in ("mkcol", "delete") and path[-1] in LOCKABLE:
            return "get", path
        if kind == "proppatch":
            self._made += 1
            value = f"{self.name}.{self._made}" if self._random.random() < 0.8 else None
            return "proppatch", path, self._random.choice(PROPERTIES), value
        return kind, path

    def _path(self, top: str) -> tuple[str, ...]:
        if self._random.random() < 0.3:
            return top, "d", self._random.choice(FILES)
        return top, self._random.choice((*FILES, *LOCKABLE, "d"))

    def _new_content(self) -> str:
        self._made += 1
        tag = f"{self.name}.{self._made}"
        return f"{tag} {self._random.choice(SIZES)}"

    # --- locks ------------------------------------------------------------------------------------------------------

    def _lock_and_write(self, component: Component) -> None:
        """Lock a file, write it a few times, read it, unlock it."""
        volume, top = component
        name = self._random.choice(LOCKABLE)
        asked = time.monotonic()
        answer = self._ask(volume, "LOCK", lambda dav: answers.locked(
            dav_locks.lock(dav, f"{top}/{name}", timeout=f"Second-{LOCK_S}")))  # fmt: skip
        if answer.code != OK:
            return
        grant = Grant(component, name, answer.value, asked, time.monotonic(), LOCK_S)
        story = self._record.granted(grant)
        for _ in range(self._random.randrange(1, 4)):
            result = self.operate(component, ("put", (top, name), self._new_content()), grant.token)
            if result.status in (412, 423):
                story.lost = story.lost or (time.monotonic(), f"a PUT with its token was answered {result.status}")
            self.operate(component, ("get", (top, name)))
            time.sleep(self._random.uniform(0.0, THINK_S))
        self._unlock(volume, top, story)

    def _unlock(self, volume: str, top: str, story: LockStory) -> None:
        story.given_up = time.monotonic()
        first = True
        while not self.stop.is_set() and time.monotonic() < story.grant.asked + LOCK_S:
            result = self._ask(volume, "UNLOCK", lambda dav: answers.unlocked(
                dav_locks.unlock(dav, f"{top}/{story.grant.name}", story.grant.token)))  # fmt: skip
            if result.status in (409, 412) and first:
                story.lost = (story.given_up, f"UNLOCK was answered {result.status}")
            if result.code not in (UNKNOWN, REFUSED):
                return
            first = first and result.code == REFUSED


class Reader(Client):
    """Reads all of some directories once, through its own node only, after everything."""

    def __init__(self, where: Where, record: Record, directories: Directories, home: int, trees: list[Component]) -> None:
        super().__init__(where, record, directories, home, f"reader-{home}", home)
        self._trees = trees
        self.unread: list[str] = []

    def run(self) -> None:
        self._where.enter(self._home)
        for component in self._trees:
            self._read(component, (component[1],))
        for dav in self._open.values():
            dav.close()

    def _read(self, component: Component, path: tuple[str, ...]) -> None:
        listed = self._surely(component, ("list", path))
        for name in listed if listed is not None else ():
            if name.endswith("/"):
                self._read(component, (*path, name.rstrip("/")))
            else:
                self._surely(component, ("get", (*path, name)))
                self._surely(component, ("props", (*path, name)))

    def _surely(self, component: Component, op: tuple[Any, ...]) -> Any:
        for _ in range(5):
            self._node = self._home
            result = self.operate(component, op)
            if result.code == OK:
                return result.value
            time.sleep(0.3)
        self.unread.append(f"{op} of {component[0]} through node-{self._home}: {result.code} {result.status}")
        return None


