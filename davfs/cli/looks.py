"""Looks at a volume's replicas (``node.look_*``), as the commands that read a whole volume use them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

from davfs.cli.remote import Remote
from davfs.core.errors import DavfsError, NotHolder, Unavailable, VolumeHeld

OPEN_TIMEOUT = 20.0
"""Taking a volume whose holder has just died lasts as long as its token."""

PAGE_TIMEOUT = 300.0
FIND_S = 30.0


class Look:
    """One committed state of one replica, held open by its node."""

    def __init__(self, remote: Remote, node: str, answer: Mapping[str, Any]) -> None:
        self.node = node
        self.committed: list[Any] = answer["committed"]
        self.files = int(answer["files"])
        self.bytes = int(answer["bytes"])
        self._remote = remote
        self._number = answer["look"]

    def ask(self, method: str) -> dict[str, Any]:
        """The next page of something."""
        value: dict[str, Any] = self._remote.ask_node(self.node, method, {"look": self._number}, PAGE_TIMEOUT)
        return value

    def pages(self, method: str) -> Iterator[dict[str, Any]]:
        """All pages of something, up to the one that is ``done``."""
        done = False
        while not done:
            page = self.ask(method)
            done = page["done"]
            yield page

    def close(self) -> None:
        """Let go of it; if the node does not answer it ends by itself."""
        try:
            self.ask("node.look_close")
        except DavfsError:
            return


def open_look(remote: Remote, node: str, volume: str, **more: Any) -> Look:
    """A look at the replica on one node."""
    return Look(remote, node, remote.ask_node(node, "node.look_open", {"volume": volume, **more}, OPEN_TIMEOUT))


def open_current(remote: Remote, volume: str) -> Look:
    """A look at the holder's replica, in which is all that was answered before now.

    A program that holds the volume keeps no replica: then the replica that is furthest, which is half a second behind at
    most. :class:`Unavailable` with what each node said.
    """
    remote.learn(remote.ask("admin.status", {})["nodes"])
    replicas: list[str] = remote.ask("admin.volume_show", {"name": volume})["replicas"]
    ends = time.monotonic() + FIND_S
    while True:
        troubles = []
        for node in _candidates(replicas):
            try:
                return open_look(remote, node, volume, current=True)
            except NotHolder as error:
                if (holder := error.data.get("holder")) in replicas:
                    replicas.sort(key=lambda name: name != holder)
                troubles.append(f"{node}: {error.message}")
            except VolumeHeld:
                return _furthest(remote, replicas, volume)
            except Unavailable as error:
                troubles.append(f"{node}: {error.message}")
        if time.monotonic() > ends:
            raise Unavailable(f"no node could show {volume!r}. " + "; ".join(troubles))
        time.sleep(0.2)


def _candidates(replicas: list[str]) -> Iterator[str]:
    """The nodes in order, the order being what was learned meanwhile."""
    asked: set[str] = set()
    while left := [name for name in replicas if name not in asked]:
        asked.add(left[0])
        yield left[0]


def _furthest(remote: Remote, replicas: list[str], volume: str) -> Look:
    looks: list[Look] = []
    troubles = []
    for node in replicas:
        try:
            looks.append(open_look(remote, node, volume))
        except Unavailable as error:
            troubles.append(f"{node}: {error.message}")
    if not looks:
        raise Unavailable(f"no node could show {volume!r}. " + "; ".join(troubles))
    best = max(looks, key=lambda look: look.committed)
    for look in looks:
        if look is not best:
            look.close()
    return best
