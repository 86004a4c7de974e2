"""A holder that ignores its lease: it bears a real grant, and goes on after its end as only a broken or paused one would.

Speaks the nodes' own protocol (docs/PROTOCOL.md) with a node's certificate, so what refuses it is the fence alone.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

from davfs.core.chunking import digest_of
from davfs.core.errors import DavfsError
from davfs.core.model import Epoch, Position, position
from davfs.core.record import START, Record, encode
from tests.integration.fencing.drive import Inside


class Ghost:
    """One grant of a volume, to a program of that name."""

    def __init__(self, inside: Inside, volume: str, ttl: float) -> None:
        self._inside = inside
        self.token = secrets.token_bytes(32)
        self.digest = digest_of(self.token)
        granted = inside.ask(
            1, "admin.volume_assign", name=volume, token_digest=self.digest, address="ghost", ttl=ttl
        )
        self.name = volume
        self.volume: str = granted["id"]
        self.epoch = Epoch(*granted["epoch"])
        self.last = Position(Epoch(0, 0), 0)

    def _call(self, node: str, method: str, blob: bytes = b"", **arguments: Any) -> Any:
        wire = {"volume": self.volume, "epoch": list(self.epoch), "token": self.token}
        return self._inside.client.call(node, method, wire | arguments, blob, timeout=5)[0]

    def everywhere(self, what: Callable[[str], Any]) -> dict[str, Any]:
        """node -> the answer, or the class of the error."""
        answers: dict[str, Any] = {}
        for node in self._inside.members:
            try:
                answers[node] = what(node)
            except DavfsError as error:
                answers[node] = type(error)
        return answers

    def seal(self, node: str) -> Any:
        status = self._call(node, "replica.seal")
        self.last = max(self.last, position(status["last"]))
        return position(status["last"])

    def append(self, node: str) -> Any:
        """The next record, a start record; False where the log is not as long as the ghost's."""
        at = Position(self.epoch, self.last.seq + 1)
        data = encode(Record(self.volume, at, START, secrets.token_hex(8), base=self.last))
        return self._call(
            node,
            "replica.append",
            data,
            previous=[list(self.last.epoch), self.last.seq],
            committed=self.last.seq,
            records=[len(data)],
            chunks=[],
        )

    def read_log(self, node: str) -> Any:
        return self._call(node, "replica.read_log", first=1, limit=1 << 20)

    def put_chunk(self, node: str) -> Any:
        data = secrets.token_bytes(1000)
        return self._call(node, "chunk.put", data, digest=digest_of(data))

    def refresh(self) -> Any:
        return self._inside.ask(
            1, "admin.volume_refresh", name=self.name, epoch=list(self.epoch), token_digest=self.digest
        )

    def free(self) -> Any:
        return self._inside.ask(1, "admin.volume_free", name=self.name, epoch=list(self.epoch), token_digest=self.digest)
