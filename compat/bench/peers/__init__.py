"""The servers that davfs is put beside: one module each, every one with `start(site) -> Running`.

A server that cannot run here raises site.Absent with the reason, which the report shows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from compat.bench.peers import apache, davfs, floor, rclone, wsgidav_disk
from compat.bench.report import FLOOR, Operation
from compat.bench.site import Running, Site


def _every(row: Operation) -> bool:
    return True


@dataclass(frozen=True)
class Peer:
    """A server by its key on the command line, its title in the table and how to start it.

    `measures` says for which rows its time counts.
    """

    key: str
    title: str
    start: Callable[[Site], Running]
    measures: Callable[[Operation], bool] = _every


PEERS = (
    Peer("davfs", "davfs, 3 nodes", davfs.start),
    Peer("wsgidav", "WsgiDAV on a disk", wsgidav_disk.start),
    Peer("apache", "Apache mod_dav on a disk", apache.start_on_disk),
    Peer("apache-gluster", "Apache mod_dav on GlusterFS replica 3", apache.start_on_gluster),
    Peer("rclone-gluster", "rclone serve on GlusterFS replica 3", rclone.start_on_gluster),
    Peer(FLOOR, "floor: no WebDAV", floor.start, floor.measures),
)
