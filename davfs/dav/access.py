"""What the account of a request may do with a volume: asked at the node that a client reaches, and again at the holder.

Roles come from Raft's state, as this node has applied it; what a node's configuration lists is administrator everywhere.
Without any role a volume does not exist: the answer is the one for a name that was never used.
"""

from __future__ import annotations

from collections.abc import Callable

from davfs.cluster.api import Drive
from davfs.core import accounts
from davfs.core.accounts import ADMIN, NONE, READ, WRITE, Accounts, allows
from davfs.core.errors import Forbidden, VolumeNotFound
from davfs.core.model import VolumeInfo
from davfs.dav.request import Request

_READS = frozenset({"GET", "HEAD", "OPTIONS", "PROPFIND", "REPORT"})


class Access:
    """Roles on the volumes of a drive. ``table`` gives the accounts as they are now."""

    def __init__(self, drive: Drive, table: Callable[[], Accounts] = dict) -> None:
        self._drive = drive
        self._table = table

    def volumes(self, request: Request) -> list[VolumeInfo]:
        """The volumes that exist for the request's account, sorted by name."""
        found = [volume for volume in self._drive.volumes() if self._role(request, volume.id) != NONE]
        return sorted(found, key=lambda volume: volume.name)

    def check(self, request: Request) -> str:
        """The role on the request's volume; :class:`VolumeNotFound` or :class:`Forbidden` if it is not enough."""
        if request.configured:
            return ADMIN
        name = request.target.volume
        role = next((self._role(request, v.id) for v in self._drive.volumes() if v.name == name), NONE)
        if not allows(role, READ):
            raise VolumeNotFound(f"there is no volume {name!r}")
        if request.method not in _READS and not allows(role, WRITE):
            raise Forbidden(f"{request.principal!r} may only read the volume {name!r}")
        return role

    def _role(self, request: Request, volume_id: str) -> str:
        if request.configured:
            return ADMIN
        account: accounts.Account | None = self._table().get(request.principal)
        return account.role(volume_id) if account is not None else NONE
