"""An available volume through a real cut: both sides write, the cut-off node is killed, and all of it is there afterwards.

``DAVFS_PARTITION_SECONDS``: how long both sides write (default 4; 180 shows what merging much takes).
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from http.client import HTTPException
from typing import TypeVar

import pytest

from compat.client import DavClient
from tests.support.parted import PartedCluster

Result = TypeVar("Result")
SECONDS = float(os.environ.get("DAVFS_PARTITION_SECONDS", "4"))
NAMES_IN_TURN = 5


@pytest.fixture
def parted() -> Iterator[PartedCluster]:
    cluster = PartedCluster()
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.destroy()


class Side(threading.Thread):
    """Somebody beside one node who writes files, overwrites a few, makes and fills directories. ``kept``: path -> content
    of what was acknowledged last."""

    def __init__(self, cluster: PartedCluster, number: int, word: str) -> None:
        super().__init__(daemon=True)
        self.kept: dict[str, bytes] = {}
        self.unknown: set[str] = set()
        self.headers: set[str] = set()
        self.stop = threading.Event()
        self._cluster, self._number, self._word = cluster, number, word

    def run(self) -> None:
        self._cluster.enter(self._number)
        turn = 0
        with self._cluster.client(self._number, "demo", timeout=10.0) as client:
            while not self.stop.is_set():
                turn += 1
                folder = f"{self._word}-{turn // 20}/"
                if turn % 20 == 0:
                    self._ask(client, folder, None)
                names = [f"{self._word}-{turn}.txt", f"shared/both-{turn % NAMES_IN_TURN}.txt"]
                if folder in self.kept:
                    names.append(f"{folder}{turn}.bin")
                for name in names:
                    content = f"{self._word} {turn} {name}".encode() * (2000 if name.endswith(".bin") else 1)
                    self._ask(client, name, content)
                time.sleep(0.02)

    def _ask(self, client: DavClient, path: str, content: bytes | None) -> None:
        """PUT, or without content MKCOL."""
        try:
            answer = client.request("MKCOL", path) if content is None else client.put(path, content)
        except (OSError, HTTPException):
            self.unknown.add(path)
            return
        self.headers.add(answer.headers.get("davfs-cut-off", ""))
        if answer.ok:
            self.kept[path] = content or b""
            self.unknown.discard(path)
        else:
            self.unknown.add(path)
            time.sleep(0.2)


def beside(cluster: PartedCluster, number: int, work: Callable[[DavClient], Result]) -> Result:
    """Do something with a client in a node's network."""
    found: list[Result] = []

    def run() -> None:
        cluster.enter(number)
        with cluster.client(number, "demo") as client:
            found.append(work(client))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(180)
    assert found, f"it failed beside node {number}\n{cluster.story()}"
    return found[0]


def get_all(cluster: PartedCluster, number: int, paths: Iterable[str]) -> dict[str, bytes | None]:
    """path -> content through one node, None if it is not there."""

    def work(client: DavClient) -> dict[str, bytes | None]:
        answers = {path: client.get(path) for path in paths}
        return {path: answer.body if answer.status == 200 else None for path, answer in answers.items()}

    return beside(cluster, number, work)


def made(cluster: PartedCluster, number: int, path: str) -> bool:
    """Whether a collection could be made."""
    return beside(cluster, number, lambda client: client.request("MKCOL", path).ok)


def holder_of_new_volume(cluster: PartedCluster) -> str:
    """Make the volume ``demo`` and take it; refused until all nodes have joined, a moment after they serve."""
    create = ("volume", "create", "demo", "--consistency", "available")
    cluster.until("all nodes", lambda: cluster.davfs(1, *create, check=False), 30)
    cluster.until("the volume", lambda: made(cluster, 1, "shared"), 30)
    return str(cluster.davfs(1, "volume", "show", "demo", "--json")["holder"])


def test_both_sides_of_a_cut_write_and_all_of_it_is_there(parted: PartedCluster) -> None:
    holder = holder_of_new_volume(parted)
    cut_off = int(holder.removeprefix("node-"))
    others = [number for number in parted.numbers if number != cut_off]

    parted.cut(cut_off)
    alone, together = Side(parted, cut_off, "alone"), Side(parted, others[0], "together")
    alone.start()
    together.start()
    parted.until("writes on both sides", lambda: len(alone.kept) > 10 and len(together.kept) > 10, 60)
    time.sleep(SECONDS)
    warnings = parted.davfs(cut_off, "status", "--json")["warnings"]
    assert any(f"{holder} is cut off and serves demo alone" in warning for warning in warnings), warnings
    for side in (alone, together):
        side.stop.set()
        side.join(30)
    assert any(alone.headers) and "" in together.headers and not any(together.headers)
    parted.kill(cut_off)
    parted.serve(cut_off)
    time.sleep(1)
    healed = time.monotonic()
    parted.heal()

    # The later, of those who went on together, has a name that both wrote; a directory says nothing more than its members.
    unknown = alone.unknown | together.unknown
    wanted = {path: content for path, content in {**alone.kept, **together.kept}.items() if content and path not in unknown}
    last = [path for path in alone.kept if path.startswith("alone") and path in wanted][-1]
    parted.until("what the cut-off node had", lambda: get_all(parted, others[1], [last])[last] is not None, 60 + 10 * SECONDS)
    merged_s = time.monotonic() - healed
    for number in parted.numbers:
        found = get_all(parted, number, wanted)
        differ = [path for path, content in wanted.items() if found[path] != content]
        assert not differ, f"{len(differ)} of {len(wanted)} differ through node {number}: {differ[:5]}\n{parted.story()}"
    conflicts = parted.davfs(others[0], "volume", "conflicts", "demo", "--json")
    copies = {one["wanted"]: one["path"] for one in conflicts if one["kind"] == "copy"}
    both = [path for path in alone.kept if path.startswith("shared/") and path in together.kept and path in wanted]
    assert both, "both sides must have written a file of one name"
    for path in both:
        copy = copies["/" + path].removeprefix("/")
        assert get_all(parted, cut_off, [copy])[copy] == alone.kept[path]
    assert all(one["who"] == "anna" and one["at_ns"] for one in conflicts)
    report = parted.davfs(others[0], "volume", "fsck", "demo", "--json", check=False)
    assert report["ok"], report["problems"][:10]
    print(
        f"{len(alone.kept)} files and directories alone, {len(together.kept)} together, {len(copies)} conflict copies;"
        f" merged within {merged_s:.1f} s"
    )


def test_who_lost_its_place_while_cut_off_hands_over_what_it_alone_acknowledged(parted: PartedCluster) -> None:
    holder = holder_of_new_volume(parted)
    cut_off = int(holder.removeprefix("node-"))
    others = [number for number in parted.numbers if number != cut_off]
    parted.cut(cut_off)
    alone = Side(parted, cut_off, "alone")
    alone.start()
    parted.until("writes of the one that is cut off", lambda: len(alone.kept) > 10, 60)
    alone.stop.set()
    alone.join(30)
    assert any(alone.headers)

    parted.davfs(others[0], "volume", "replace-replica", "demo", "--remove", holder)
    parted.heal()
    unknown, wanted = alone.unknown, {path: content for path, content in alone.kept.items() if content}
    last = [path for path in wanted if path.startswith("alone") and path not in unknown][-1]
    parted.until("what the cut-off node had", lambda: get_all(parted, others[1], [last])[last] is not None, 60)
    lost = {path: content for path, content in get_all(parted, others[1], wanted).items() if content != wanted[path]}
    assert not lost.keys() - unknown, f"{lost}\n{parted.story()}"
