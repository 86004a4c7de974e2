"""Some of the crash points again, with a real ``davfs serve`` process and a real client."""

from __future__ import annotations

import contextlib
import http.client
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from davfs.node.config import load_config
from tests.crash.points import Point, Row
from tests.crash.record import ROOT, START_LIMIT_S, VOLUME, State, digest
from tests.crash.restart import NODE

NEW = b"written after the crash"


class Sample:
    """``count`` points of each scenario, each as likely as any other; kept as folders until :meth:`run`."""

    def __init__(self, count: int, seed: int) -> None:
        self._count = count
        self._source = random.Random(seed)
        self._seen: dict[str, int] = {}
        self._kept: dict[tuple[str, int], Point] = {}

    def offer(self, point: Point, scratch: Path) -> None:
        """Perhaps keep a point."""
        if point.kind != "node":
            return
        seen = self._seen[point.scenario] = self._seen.get(point.scenario, 0) + 1
        place = seen - 1 if seen <= self._count else self._source.randrange(seen)
        if place < self._count:
            folder = self._folder(point.scenario, place, scratch)
            shutil.rmtree(folder, ignore_errors=True)
            point.left.build(folder)
            self._kept[point.scenario, place] = point

    def run(self, rows: dict[str, Row], scratch: Path) -> None:
        """Start a node on each."""
        for (scenario, place), point in self._kept.items():
            folder = self._folder(scenario, place, scratch)
            rows[scenario].processes += 1
            if wrong := serves(folder, point.allowed):
                rows[scenario].wrong.append(f"{point.where}: a real process: {wrong}")
            shutil.rmtree(folder)

    @staticmethod
    def _folder(scenario: str, place: int, scratch: Path) -> Path:
        return scratch / f"real {scenario.replace('/', ' ')} {place}"


def serves(folder: Path, allowed: Sequence[State]) -> str:
    """Start ``davfs serve`` in a cluster's folder, read every path that there may be, write a new one; what is wrong."""
    config = folder / NODE / "davfs.toml"
    log = folder / "log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "davfs", "serve", "--config", str(config)], stdout=stream, stderr=stream, cwd=ROOT,
            start_new_session=True,
        )  # fmt: skip
    client = http.client.HTTPConnection("127.0.0.1", load_config(config).dav.listen[1], timeout=30)
    try:
        return _look(client, process, allowed)
    except (OSError, http.client.HTTPException, AssertionError) as error:
        return f"{error!r}; its log: {log.read_text()[-1500:]}"
    finally:
        client.close()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)


def _look(client: http.client.HTTPConnection, process: subprocess.Popen[bytes], allowed: Sequence[State]) -> str:
    until = time.monotonic() + START_LIMIT_S
    while True:
        assert process.poll() is None, f"the node ended with {process.returncode}"
        assert time.monotonic() < until, "the node does not answer"
        try:
            status, _ = _ask(client, "OPTIONS", "/")
        except OSError:
            client.close()
        else:
            break
        time.sleep(0.05)
    paths = sorted({path for state in allowed for path in state.tree or ()})
    while (status := _ask(client, "PROPFIND", f"/{VOLUME}/")[0]) == 503 and time.monotonic() < until:
        time.sleep(0.2)  # the token of before the crash ends after its ttl
    if status == 404:
        return "" if any(state.tree is None for state in allowed) else "there is no volume"
    found: dict[str, str] = {}
    for path in paths:
        status, body = _ask(client, "GET", f"/{VOLUME}/{quote(path)}")
        if status == 200:
            folder = any((state.tree or {}).get(path, "").startswith("folder") for state in allowed)
            found[path] = "folder" if folder else digest(body)
        elif status == 301:  # to the folder's own address
            found[path] = "folder"
        elif status != 404:
            return f"GET {path} was answered {status}"
    trees = [{path: what.split(" ")[0] for path, what in (state.tree or {}).items()} for state in allowed]
    if found not in trees:
        return f"found {found}, allowed {trees}"
    status, _ = _ask(client, "PUT", f"/{VOLUME}/after-the-crash", NEW)
    if status != 201 or _ask(client, "GET", f"/{VOLUME}/after-the-crash") != (200, NEW):
        return f"PUT of a new file was answered {status}"
    return ""


def _ask(client: http.client.HTTPConnection, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
    client.request(method, path, body, {"Depth": "0"})
    answer = client.getresponse()
    return answer.status, answer.read()
