"""What only a volume's holder can answer, asked of it, whoever that is by now. Imports rpc's errors through core."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from davfs.cli.remote import Remote
from davfs.core.errors import NotHolder, StaleEpoch, Unavailable

TRY_S = 60.0


class AtHolder:
    """One volume's holder as the cluster knows it; a free volume is taken by the node that is asked. Thread-safe.

    ``shown``: the volume as ``admin.volume_show`` gives it.
    """

    def __init__(self, remote: Remote, volume: str) -> None:
        remote.learn(remote.ask("admin.status", {})["nodes"])
        self.shown: dict[str, Any] = remote.ask("admin.volume_show", {"name": volume})
        self._remote = remote
        self._holder = str(self.shown["holder"] or self.shown["replicas"][0])

    def ask(self, method: str, args: Mapping[str, Any], blob: bytes, timeout: float) -> Any:
        """The holder's answer. A request that may have been done is asked for again, under its own id."""
        ends = time.monotonic() + TRY_S
        nodes = [self._holder]
        while True:
            node = nodes.pop(0)
            try:
                value, _ = self._remote.exchange(node, method, args, blob, timeout)
            except KeyError:
                trouble = f"{node} is no longer in the cluster"
            except (NotHolder, StaleEpoch, Unavailable) as error:
                trouble = f"{node}: {error.message}"
                if (holder := error.data.get("holder")) in self._remote.nodes:
                    nodes.insert(0, holder)
            else:
                self._holder = node
                return value
            if time.monotonic() > ends:
                raise Unavailable(f"the volume's holder does not answer. {trouble}")
            if not nodes:
                nodes = sorted(self._remote.nodes, key=lambda name: name == node)
                time.sleep(0.2)
