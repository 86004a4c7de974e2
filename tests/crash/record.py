"""One real node under ``strace``, one client that does one thing after the other, and what must be there after each.

The client's requests are answered in order, so the n-th answer in the trace is the n-th request's: an answer's first byte is
the moment from which its change must survive. What is no request (a command line) is followed by one.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from urllib.parse import quote

from davfs.core.model import VolumePolicy
from davfs.node.config import load_config
from davfs.node.init import ClusterPlan, NodePlan, create_cluster, free_ports
from tests.crash import trace
from tests.crash.restart import NODE
from tests.crash.trace import Call

ROOT = Path(__file__).parents[2]
CHUNK = 65_536
START_LIMIT_S = 60.0
VOLUME = "demo"


@dataclass(frozen=True, slots=True)
class State:
    """What people have: the volume's tree (None: there is no volume), and the paths that are locked."""

    tree: Mapping[str, str] | None = None
    locks: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Step:
    """One change that was acknowledged. ``states``: what may be there meanwhile, in order; the last from then on."""

    scenario: str
    what: str
    states: tuple[State, ...]


@dataclass(slots=True)
class Recording:
    """What a node did: ``before`` is the cluster's folder as it was (and is certain), ``calls`` what changed it.

    Of the ``steps`` the n-th is acknowledged by the n-th call of kind answer (or mark).
    """

    before: Path
    calls: list[Call]
    steps: list[Step]
    first: State = field(default_factory=State)
    kind: str = "node"
    """How a restart looks at it (``restart.LOOKS``)."""


def make_cluster(folder: Path) -> None:
    """A cluster of one node that has not been started yet."""
    dav, rpc, forward = free_ports(3)
    policy = VolumePolicy(copies=1, write_quorum=1, replicas=1, chunk_size=CHUNK, trash_days=0)
    plan = ClusterPlan((NodePlan(NODE, "127.0.0.1", dav, rpc, forward),), token_ttl=2.0, defaults=policy)
    (config,) = create_cluster(folder, plan)
    text = config.read_text().replace("chunk_grace = 3600.0", "chunk_grace = 1.0")
    config.write_text(text.replace("chunk_quarantine = 86400.0", "chunk_quarantine = 60.0"))


class Session:
    """A recorded node and its client. ``folder``: the cluster's, which is copied first."""

    def __init__(
        self, folder: Path, scratch: Path, first: State | None = None, broken: str = "", start: str = "node start"
    ) -> None:
        self._folder, self._scratch = folder, scratch
        self._before = scratch / f"{folder.name}.before"
        shutil.copytree(folder, self._before)
        self._config = folder / NODE / "davfs.toml"
        self._port = load_config(self._config).dav.listen[1]
        self._trace = scratch / f"{folder.name}.trace"
        self._log = scratch / f"{folder.name}.log"
        self._client = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        self._first = first or State()
        self._steps: list[Step] = []
        self._broken = broken
        self._start = start
        self.state = self._first

    def __enter__(self) -> Session:
        words = [sys.executable, "-m", "tests.crash.started", "serve", "--config", str(self._config)]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [*trace.command(self._trace), *words], stdout=log, stderr=log, cwd=ROOT, start_new_session=True,
                env={**os.environ, "CRASH_BROKEN": self._broken, "PYTHONDONTWRITEBYTECODE": "1"},
            )  # fmt: skip
        until = time.monotonic() + START_LIMIT_S
        while True:
            try:
                self.answered("OPTIONS", "/")
                break
            except OSError:
                self._client.close()
                if time.monotonic() > until or self._process.poll() is not None:
                    self.kill()
                    raise AssertionError(f"the node did not start: {self._log.read_text()[-2000:]}") from None
                time.sleep(0.02)
        self.note(self._start, "first answer")
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def kill(self) -> None:
        """kill -9 of the node, and the end of the trace."""
        self._client.close()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(10)

    def stop(self, scenario: str) -> None:
        """SIGTERM, and the node's end; it changes nothing that people have."""
        self._client.close()
        os.kill(int((self._folder / NODE / "pid").read_text()), signal.SIGTERM)
        self._process.wait(30)
        self.note(scenario, "SIGTERM")

    def recording(self) -> Recording:
        """What was recorded, after the end."""
        return Recording(self._before, trace.read(self._trace, self._folder, self._port), self._steps, self._first)

    # --- what a client does -------------------------------------------------------------------------------------------

    def answered(self, method: str, path: str, body: bytes | None = None, **headers: str) -> http.client.HTTPResponse:
        """One request, answered 2xx; AssertionError otherwise."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self._client.request(method, path, body, named)
        answer = self._client.getresponse()
        text = answer.read()
        assert 200 <= answer.status < 300, f"{method} {path} was answered {answer.status}: {text[:300]!r}"
        return answer

    def status(self, method: str, path: str) -> int:
        """The status that one request is answered with."""
        self._client.request(method, path, None, {"Depth": "0"})
        answer = self._client.getresponse()
        answer.read()
        return answer.status

    def ask(
        self, scenario: str, method: str, path: str, body: bytes | None = None, *states: State, **headers: str
    ) -> str:
        """One request that changes the volume through ``states``; the lock token of its answer."""
        answer = self.answered(method, f"/{VOLUME}/{quote(path)}", body, **headers)
        self.note(scenario, f"{method} {path}", states)
        return answer.getheader("Lock-Token", "")

    def command(self, scenario: str, *words: str, states: tuple[State, ...] = ()) -> None:
        """One ``davfs`` command, which is not recorded, and a request that says that it has ended."""
        for _ in range(10):  # right after its start the node has not entered its cluster
            done = subprocess.run(
                [sys.executable, "-m", "davfs", *words, "--config", str(self._config)],
                capture_output=True, text=True, timeout=60,
            )  # fmt: skip
            if done.returncode == 0:
                break
            time.sleep(0.2)
        assert done.returncode == 0, f"davfs {' '.join(words)}: {done.stdout}{done.stderr}"
        self.here(scenario, " ".join(words), *states)

    def here(self, scenario: str, what: str, *states: State) -> None:
        """A request that changes nothing: everything before belongs to ``scenario``."""
        self.answered("OPTIONS", "/")
        self.note(scenario, what, states)

    def note(self, scenario: str, what: str, states: tuple[State, ...] = ()) -> None:
        """Say what the last request was."""
        if states:
            self.state = states[-1]
        self._steps.append(Step(scenario, what, states or (self.state,)))

    # --- states ---------------------------------------------------------------------------------------------------------

    def put(self, scenario: str, path: str, data: bytes, **headers: str) -> None:
        """PUT, small or large."""
        self.ask(scenario, "PUT", path, data, self.with_tree({path: digest(data)}), **headers)

    def with_tree(self, more: Mapping[str, str], *less: str) -> State:
        """The present state with some paths more, and others less (with what is below them)."""
        assert self.state.tree is not None
        gone = [path for path in self.state.tree if any(path == one or path.startswith(f"{one}/") for one in less)]
        tree = {path: what for path, what in self.state.tree.items() if path not in gone}
        return State({**tree, **more}, self.state.locks)

    def moved(self, source: str, target: str, *, copied: bool = False) -> State:
        """The present state after MOVE or COPY."""
        assert self.state.tree is not None
        new = {
            target + path.removeprefix(source): what
            for path, what in self.state.tree.items()
            if path == source or path.startswith(f"{source}/")
        }
        return self.with_tree(new, target, *([] if copied else [source]))


def program(
    name: str, folder: Path, scratch: Path, scenario: str, first: State, states: tuple[State, ...], kind: str = ""
) -> Recording:
    """Record one of ``programs.py`` over a folder; ``states`` as of a step."""
    before, record = scratch / f"{folder.name}.before", scratch / f"{folder.name}.trace"
    shutil.copytree(folder, before)
    words = [sys.executable, "-m", "tests.crash.programs", name, str(folder)]
    done = subprocess.run([*trace.command(record), *words], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return Recording(before, trace.read(record, folder), [Step(scenario, name, states)], first, kind or name)


def digest(data: bytes) -> str:
    """What the tree says of a file with these bytes."""
    return sha256(data).hexdigest()


@contextlib.contextmanager
def recorded(
    folder: Path, scratch: Path, first: State | None = None, broken: str = "", start: str = "node start"
) -> Iterator[Session]:
    """A session over a cluster's folder, killed in the end. ``start``: the scenario of its start."""
    with Session(folder, scratch, first, broken, start) as session:
        yield session
