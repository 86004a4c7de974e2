"""The way in: ``connect`` to a cluster with a program's folder, look at its volumes, assign one."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from davfs.client.link import Link
from davfs.client.profile import load_profile
from davfs.client.session import Session
from davfs.client.volume import Volume
from davfs.core.errors import DavfsError, Locked, Unavailable, VolumeHeld

TIMEOUT_S = 8.0
RETRY_S = 0.2
DEFAULT_TTL_S = 5.0


@dataclass(frozen=True, slots=True)
class VolumeStatus:
    """A volume as a node shows it. ``holder``: who holds it, None if nobody; ``expires_in_s``: unless refreshed."""

    name: str
    holder: str | None
    expires_in_s: float | None
    replicas: tuple[str, ...]


def connect(directory: Path | str) -> Cluster:
    """A connection with the folder that ``davfs cert program`` made; ``ConfigError``. Nothing is asked yet."""
    return Cluster(Link(load_profile(Path(directory))))


class Cluster:
    """A cluster as one program sees it. Thread-safe; a context manager that closes it."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections. Volumes that are still held are not freed: do that before."""
        self._link.close()

    def volumes(self) -> list[VolumeStatus]:
        """All volumes, sorted by name."""
        return [_status(told) for told in self._link.ask("token.cluster", {}, TIMEOUT_S)["volumes"]]

    def volume(self, name: str) -> VolumeStatus:
        """One volume; ``VolumeNotFound``."""
        return _status(self._link.ask("token.volume", {"name": name}, TIMEOUT_S)["volume"])

    def assign(self, name: str, *, ttl: float = DEFAULT_TTL_S, wait: float = 0.0) -> Volume:
        """Take a volume for this program alone, load its tree, and keep it until it is freed.

        ``ttl``: seconds that the nodes wait for a program that vanished; ``wait``: seconds to try again while somebody
        else holds it. ``VolumeHeld`` with who and until when; ``Locked`` while people hold DAV locks in it;
        ``QuorumLost`` or ``Unavailable`` when too few nodes answer.
        """
        ends = time.monotonic() + wait
        while True:
            try:
                answer = self._link.ask("token.volume", {"name": name}, TIMEOUT_S)
                session = Session(self._link, answer, ttl)
                session.open()
                return Volume(session)
            except (VolumeHeld, Locked, Unavailable) as error:
                left = ends - time.monotonic()
                if left <= 0:
                    raise
                time.sleep(min(left, _pause(error)))


def _pause(error: DavfsError) -> float:
    """Until it is worth asking again: at the end of the token that is in the way, or sooner, for it may be freed."""
    expires = error.data.get("expires_in_s")
    return max(RETRY_S, min(float(expires), 1.0)) if isinstance(expires, (int, float)) else RETRY_S


def _status(told: dict[str, Any]) -> VolumeStatus:
    return VolumeStatus(told["name"], told["holder"], told["expires_in_s"], tuple(told["replicas"]))
