"""The collector, for an administrator: run it for a volume now (``node.gc_run``), and see what it did (``node.gc``).

A run needs the volume's holder: the node that holds it does it, or, while nobody does, one of its replicas that borrows
it. ``davfs gc`` finds that node. Reached by nodes of the cluster only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from davfs.cluster.collecting import Collecting
from davfs.cluster.collector_runs import CollectorRuns
from davfs.core.cluster_state import ClusterState
from davfs.core.effects import Protocol_
from davfs.core.errors import InvalidInput
from davfs.node.admin import Handler


class CollectorAdmin:
    """The methods over one node's parts. ``run`` drives a protocol to its end, ``start`` in a thread of its own."""

    def __init__(
        self,
        state: ClusterState,
        runs: CollectorRuns,
        collecting: Collecting,
        run: Callable[[Protocol_[Any]], Any],
        start: Callable[[Protocol_[Any], str], None],
    ) -> None:
        self._state = state
        self._runs = runs
        self._collecting = collecting
        self._run = run
        self._start = start

    def handlers(self) -> Mapping[str, Handler]:
        """Method name -> handler."""
        return {
            "node.gc": lambda _peer, _args, _blob: (self.status(), b""),
            "node.gc_run": lambda _peer, args, _blob: (self.run(args), b""),
        }

    def status(self) -> dict[str, Any]:
        """What this node collected: its last or present run of each volume, and what it has deleted for good since its
        start (``swept``, ``swept_bytes``)."""
        reports = self._runs.reports()
        return {
            "runs": [{**report.wire(), "name": self._name(volume)} for volume, report in reports.items()],
            "swept": self._collecting.swept,
            "swept_bytes": self._collecting.swept_bytes,
        }

    def run(self, args: Mapping[str, Any]) -> dict[str, Any]:
        """Begin a run; ``began_ns`` names it in the status. :class:`VolumeHeld` if another has to do it."""
        name = args.get("name")
        if not isinstance(name, str) or not name:
            raise InvalidInput("name must be that of a volume")
        volume = self._state.volume_named(name)
        work, report = self._run(self._runs.prepare(volume.id, bool(args.get("dry_run"))))
        self._start(work, "collect")
        return {"name": name, "began_ns": report.began_ns}

    def _name(self, volume_id: str) -> str:
        volume = self._state.volumes.get(volume_id)
        return volume.name if volume is not None else volume_id
