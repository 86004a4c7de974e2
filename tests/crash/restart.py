"""A node restarted on what a crash has left: the production composition, in a process of its own, and what it then serves.

``python -m tests.crash.restart`` reads lines: what to look for, and a cluster's folder. For each it forks a child that builds
``davfs.node.main.Node`` from ``node-1/davfs.toml``, lets Raft elect it, takes every volume over as after a crash, reads
everything and looks it through as ``davfs volume fsck`` does. Only the listeners are not opened, and Raft's elections do not
wait for others. One line of JSON comes back for each.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import select
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

LIMIT_S = 30.0
NODE = "node-1"


def examine(folder: Path) -> dict[str, Any]:
    """Start the node and look at all that it has: {volume: {"tree": {path: what}, "locks": [path, ...], "problems": [...]}}."""
    from davfs.node.config import load_config
    from davfs.node.main import Node

    with ExitStack() as stack:
        node = Node(load_config(folder / NODE / "davfs.toml"), stack)
        trouble: list[str] = []
        node.runtime.start(node.joining.run(trouble.append), "join")
        node.runtime.start(node.replicas.keep(), "replicas")
        node.runtime.start(node.gateway.keep_tokens(), "tokens")
        _await(lambda: node.raft.leader is not None, "a leader of Raft")
        node.raft.barrier(5.0)
        volumes = {}
        for volume in list(node.state.volumes.values()):
            if (grant := volume.tenure.grant) is not None:  # what the leader says after a full ttl
                node.raft.submit((f"crash {grant.epoch}", "expire", volume.id, list(grant.epoch), grant.refreshes), 5.0)
            _await(lambda volume=volume: node.state.volumes[volume.id].incarnations, "the replica's admission")
            volumes[volume.name] = _looked_through(node, volume.name, volume.id)
        if trouble:
            raise RuntimeError(trouble[0])
        stack.pop_all()  # nothing of this is kept, and closing in order takes a second
        return {"volumes": volumes}


def made(folder: Path) -> dict[str, Any]:
    """Make the cluster again, as one does after a crash: whether that was needed, and whether a node starts on it."""
    from davfs.core.errors import ConfigError
    from davfs.node.init import create_cluster
    from tests.crash.programs import PLAN

    try:
        create_cluster(folder, PLAN)
        which = "made again"
    except ConfigError as error:
        if "already" not in error.message:
            raise
        which = "there"
    _one(folder)
    return {"volumes": {"demo": {"tree": {"cluster": which}, "locks": [], "problems": []}}}


def certified(folder: Path) -> dict[str, Any]:
    """Which certificate a node has."""
    from davfs.node.config import load_config
    from davfs.node.renewal import load_own

    serial = load_own(load_config(folder / NODE / "davfs.toml")).own.serial
    return {"volumes": {"demo": {"tree": {"certificate": serial}, "locks": [], "problems": []}}}


def installed(folder: Path) -> dict[str, Any]:
    """Go on with a snapshot that has arrived, as the next one to ask would: the names in the replica then."""
    from davfs.cluster.fsck import Examination
    from davfs.core.errors import CorruptData
    from davfs.core.model import ROOT
    from davfs.crdt.documents import AutomergeDocuments
    from davfs.storage.replica_db import ReplicaDb

    (database,) = (folder / NODE / "data" / "volumes").glob("*.sqlite")
    store = ReplicaDb(database)
    arrived = store.arrived()
    if arrived is not None and arrived[1] == arrived[0].size:
        with contextlib.suppress(CorruptData):  # what has come is fetched anew
            store.install()
    with store.view() as view:
        tree = {entry.name: entry.kind for entry in view.children(ROOT)}
    with store.audit() as audit:
        steps = Examination(audit, AutomergeDocuments(), database.stem).steps()
        problems = [f"{problem.kind}: {problem.text}" for step in steps for problem in step.problems]
    return {"volumes": {"demo": {"tree": tree, "locks": [], "problems": problems}}}


LOOKS: Mapping[str, Callable[[Path], dict[str, Any]]] = {
    "node": examine,
    "init": made,
    "renew": certified,
    "install": installed,
}
"""What to look for after what was recorded."""


def _one(folder: Path) -> None:
    from davfs.node.config import load_config
    from davfs.node.main import Node

    node = Node(load_config(folder / NODE / "davfs.toml"), ExitStack())
    _await(lambda: node.raft.leader is not None, "a leader of Raft")


def _looked_through(node: Any, name: str, volume_id: str) -> dict[str, Any]:
    """The volume; on a machine so busy that the token ends meanwhile, once more, as a client is told to."""
    from davfs.core.errors import LeaseLost, Unavailable

    until = time.monotonic() + LIMIT_S / 2
    while True:
        try:
            return _volume(node, name, volume_id)
        except (LeaseLost, Unavailable):
            if time.monotonic() > until:
                raise
            time.sleep(0.1)


def _volume(node: Any, name: str, volume_id: str) -> dict[str, Any]:
    from davfs.cluster.fsck import Examination
    from davfs.crdt.documents import AutomergeDocuments

    held = _taken(node, name)
    tree: dict[str, str] = {}
    folders: list[tuple[str, ...]] = [()]
    while folders:
        folder = folders.pop()
        for entry in held.children(folder):
            path = (*folder, entry.name)
            what = "folder"
            if entry.kind == "d":
                folders.append(path)
            else:
                content = held.open(path)
                what = sha256(b"".join(bytes(part) for part in content.read(0, entry.size))).hexdigest()
            properties = "".join(f" {key}={value}" for key, value in sorted(held.properties(entry).items()))
            tree["/".join(path)] = what + properties
    with node.replicas.get(volume_id).store.audit() as audit:
        steps = Examination(audit, AutomergeDocuments(), volume_id).steps()
        problems = [f"{problem.kind}: {problem.text}" for step in steps for problem in step.problems]
    locks = sorted("/".join(lock.path) for lock in node.state.volumes[volume_id].locks.values())
    return {"tree": tree, "locks": locks, "problems": problems}


def _taken(node: Any, name: str, limit_s: float = 10.0) -> Any:
    """The volume, held by this node; like a client, told to try again, it does."""
    from davfs.core.errors import Unavailable

    until = time.monotonic() + limit_s
    while True:
        try:
            return node.gateway.route(name, forwarded=False)
        except Unavailable:
            if time.monotonic() > until:
                raise
            time.sleep(0.1)


def _await(condition: Any, what: str, limit_s: float = 10.0) -> None:
    until = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > until:
            raise TimeoutError(f"not within {limit_s:g} s: {what}")
        time.sleep(0.002)


def _child(asked: str, out: int) -> None:
    os.dup2(out, 1)
    kind, _, folder = asked.partition(" ")
    try:
        print(json.dumps(LOOKS[kind](Path(folder))), flush=True)
    except BaseException as error:  # whatever it is, it is the answer
        where = traceback.extract_tb(error.__traceback__)[-1]
        text = f"{type(error).__name__}: {error} ({Path(where.filename).name}:{where.lineno})"
        os.write(1, json.dumps({"error": text}).encode() + b"\n")
    os._exit(0)


def _serve() -> None:
    import davfs.node.main  # noqa: F401 - once, for all children
    from davfs.consensus import raft
    from davfs.consensus.timing import RaftTiming

    sooner: Any = partial(RaftTiming, tick=0.005, heartbeat=0.003, election_min=0.01, election_max=0.012)
    setattr(raft, "RaftTiming", sooner)  # noqa: B010 - whose module does not export it
    logging.disable(logging.CRITICAL)
    for line in sys.stdin:
        reader, writer = os.pipe()
        pid = os.fork()
        if not pid:
            os.close(reader)
            _child(line.strip(), writer)
        os.close(writer)
        answer = _read(reader, pid)
        os.waitpid(pid, 0)
        os.close(reader)
        sys.stdout.buffer.write((answer.strip() or b'{"error": "the node died without a word"}') + b"\n")
        sys.stdout.buffer.flush()


def _read(reader: int, pid: int) -> bytes:
    answer, until = b"", time.monotonic() + LIMIT_S
    while True:
        ready, _, _ = select.select([reader], [], [], max(0.0, until - time.monotonic()))
        if not ready:
            os.kill(pid, signal.SIGKILL)
            return json.dumps({"error": f"the node was not there within {LIMIT_S:g} s"}).encode()
        part = os.read(reader, 1 << 20)
        answer += part
        if not part:
            return answer


class Restarter:
    """The process that restarts. One folder at a time: ask, then answer."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.crash.restart"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            cwd=Path(__file__).parents[2],
        )  # fmt: skip

    def ask(self, folder: Path, kind: str = "node") -> None:
        """``kind``: what was recorded (``LOOKS``)."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{kind} {folder}\n")
        self._process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the process that restarts nodes has ended")
        found: dict[str, Any] = json.loads(line)
        return found

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._process.communicate(timeout=LIMIT_S + 5)


@contextlib.contextmanager
def restarters(count: int) -> Iterator[list[Restarter]]:
    """Several, closed in the end."""
    found = [Restarter() for _ in range(count)]
    try:
        yield found
    finally:
        for one in found:
            one.close()


if __name__ == "__main__":
    _serve()
