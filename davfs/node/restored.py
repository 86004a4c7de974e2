"""What an administrator says of a node's files after Raft's part of them came back from an older copy.

Raft would grant epochs again that replicas have seen, and an epoch that is granted twice fences nobody (design, section 3).
So each replica here is sealed above everything that was granted before: it refuses what Raft grants from its old state, and
that refusal makes Raft begin a new incarnation of the cluster (``epochs_raise``).
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from davfs.core.model import Epoch
from davfs.storage.data_dir import DataDirectory
from davfs.storage.replica_db import ReplicaDb


def seal_above_all(data: Path, node: str) -> dict[str, Epoch]:
    """Seal the replicas in a stopped node's data directory; volume id -> the epoch that it is sealed at now.

    May be run again, or where nothing was restored: each time costs the next holder one refusal. The errors of
    :class:`DataDirectory` (one that is in use, for one) and of a replica that cannot be opened; some are sealed then.
    """
    with ExitStack() as stack:
        directory = stack.enter_context(DataDirectory(data, node))
        stores: dict[str, ReplicaDb] = {}
        for volume in directory.stored_volumes():
            stores[volume] = ReplicaDb(directory.volume_database(volume))
            stack.callback(stores[volume].close)
        above = Epoch(1 + max((store.sealed.incarnation for store in stores.values()), default=0), 0)
        for store in stores.values():
            store.seal(above)
        return dict.fromkeys(stores, above)
