"""Recorded programs that are no node: each does one thing with davfs's own code and says when it is done.

``python -m tests.crash.programs NAME FOLDER``: ``install`` receives and installs a snapshot of a volume's replica, ``init``
makes a cluster, ``renew`` puts a new certificate in the place of a node's.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from davfs.core.model import VolumePolicy, position
from davfs.core.snapshot_port import Snapshot
from davfs.node.config import load_config
from davfs.node.init import ClusterPlan, NodePlan, create_cluster
from davfs.node.renewal import renew_by_hand
from davfs.storage.replica_db import ReplicaDb
from tests.crash import started
from tests.crash.restart import NODE
from tests.crash.trace import MARK

PIECE = 48 << 10
PLAN = ClusterPlan(
    (NodePlan(NODE, "127.0.0.1", 20_001, 20_002, 20_003),), defaults=VolumePolicy(copies=1, write_quorum=1, replicas=1)
)


def mark(name: str) -> None:
    """Tell the trace that this much is done."""
    with contextlib.suppress(FileNotFoundError):
        os.close(os.open(MARK + name, os.O_RDONLY))


def install(folder: Path) -> None:
    """The replica of the only volume takes over ``folder/snapshot``, as one that was away for long."""
    about = json.loads((folder / "snapshot.json").read_bytes())
    snapshot = Snapshot(about["id"], position(about["position"]), about["size"])
    data = (folder / "snapshot").read_bytes()
    (database,) = (folder / NODE / "data" / "volumes").glob("*.sqlite")
    store = ReplicaDb(database)
    for offset in range(0, len(data), PIECE):
        store.receive(snapshot, offset, data[offset : offset + PIECE])
    store.install()
    mark("installed")
    store.close()


def init(folder: Path) -> None:
    """``davfs init``."""
    create_cluster(folder, PLAN)
    mark("made")


def renew(folder: Path) -> None:
    """``davfs cert renew``."""
    config = load_config(folder / NODE / "davfs.toml")
    renew_by_hand(config, config.authority)
    mark("renewed")


PROGRAMS: Mapping[str, Callable[[Path], None]] = {"install": install, "init": init, "renew": renew}

if __name__ == "__main__":
    started.sooner()
    PROGRAMS[sys.argv[1]](Path(sys.argv[2]))
