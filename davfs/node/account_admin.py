"""Accounts for an administrator: the ``admin.user_*`` methods. Passwords come in hashed, app passwords as digests.

Reached by nodes of the cluster only, like ``admin.py``; what they answer holds neither hashes nor digests.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from davfs.core.accounts import Account, check_name, named
from davfs.core.cluster_state import ClusterState, value_of
from davfs.core.errors import AlreadyExists, InvalidInput
from davfs.core.ports import Clock
from davfs.node.admin import COMMAND_TIMEOUT, Handler, Raft
from davfs.node.config import DavConfig


class AccountAdmin:
    """The methods over one node's parts. ``new_id`` gives fresh request ids."""

    def __init__(
        self, config: DavConfig, state: ClusterState, raft: Raft, clock: Clock, new_id: Callable[[], str]
    ) -> None:
        self._config = config
        self._state = state
        self._raft = raft
        self._clock = clock
        self._new_id = new_id

    def handlers(self) -> Mapping[str, Handler]:
        """Method name -> handler."""
        methods: dict[str, Callable[[Mapping[str, Any]], Any]] = {
            "admin.user_add": self.add,
            "admin.user_list": self.list,
            "admin.user_show": self.show,
            "admin.user_delete": self.delete,
            "admin.user_password": self.password,
            "admin.user_role": self.role,
            "admin.user_app_add": self.app_add,
            "admin.user_app_revoke": self.app_revoke,
        }
        return {name: _method(method) for name, method in methods.items()}

    def list(self, args: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The accounts, sorted by name, and then those that stand in this node's configuration."""
        self._raft.barrier(COMMAND_TIMEOUT)
        rows = [self._row(account) for account in sorted(self._state.accounts.values(), key=lambda a: a.name)]
        return rows + [{"name": user.name, "configured": True} for user in self._config.users]

    def show(self, args: Mapping[str, Any]) -> dict[str, Any]:
        """One account with its app passwords; :class:`AccountNotFound`."""
        self._raft.barrier(COMMAND_TIMEOUT)
        account = named(self._state.accounts, _text(args, "name"))
        apps = sorted(account.app_passwords.values(), key=lambda app: (app.created_ns, app.id))
        shown = [{"id": app.id, "label": app.label, "created": app.created_ns // 10**9} for app in apps]
        return {**self._row(account), "app_passwords": shown}

    def add(self, args: Mapping[str, Any]) -> dict[str, Any]:
        """A new account. ``password``: a hash, or "" for app passwords alone; ``default``: its role on every volume that
        ``roles`` (name -> role) does not name. ``open``: this node lets everybody in all the same."""
        name = check_name(_text(args, "name"))
        if name in [user.name for user in self._config.users]:
            raise AlreadyExists(f"{name!r} is a [[dav.user]] in a node's configuration; choose another name", name=name)
        roles = {self._volume(volume): role for volume, role in _mapping(args, "roles").items()}
        self._change(args, "add", name, _text(args, "password", empty=True), _text(args, "default"), roles)
        return {"name": name, "open": self._config.anonymous}

    def delete(self, args: Mapping[str, Any]) -> dict[str, Any]:
        """Delete an account with its roles and app passwords. Its files and DAV locks stay."""
        return self._change(args, "delete", _text(args, "name"))

    def password(self, args: Mapping[str, Any]) -> dict[str, Any]:
        """Another password (a hash), or none ("")."""
        return self._change(args, "password", _text(args, "name"), _text(args, "password", empty=True))

    def role(self, args: Mapping[str, Any]) -> dict[str, Any]:
        """Another role: on ``volume``, or by default without one. ``role`` "": the default applies to the volume again."""
        volume = args.get("volume")
        volume_id = self._volume(volume) if volume else ""
        return self._change(args, "role", _text(args, "name"), volume_id, _text(args, "role", empty=bool(volume)))

    def app_add(self, args: Mapping[str, Any]) -> dict[str, Any]:
        """A new app password, of which only the digest comes here."""
        label = _text(args, "label", empty=True)
        made = (_text(args, "id"), _text(args, "digest"), label, self._clock.wall_ns())
        return self._change(args, "app_add", _text(args, "name"), *made)

    def app_revoke(self, args: Mapping[str, Any]) -> dict[str, Any]:
        """End an app password."""
        return self._change(args, "app_revoke", _text(args, "name"), _text(args, "id"))

    # --- helpers ----------------------------------------------------------------------------------------------------

    def _change(self, args: Mapping[str, Any], change: str, name: str, *arguments: Any) -> dict[str, Any]:
        """Replicate a change, under the asker's request id so that asking another node again does it once."""
        request_id = str(args.get("request_id") or self._new_id())
        value_of(self._raft.submit((request_id, "account", change, name, *arguments), COMMAND_TIMEOUT))
        return {"name": name}

    def _volume(self, name: Any) -> str:
        self._raft.barrier(COMMAND_TIMEOUT)
        return self._state.volume_named(str(name)).id

    def _row(self, account: Account) -> dict[str, Any]:
        names = {volume.id: volume.name for volume in self._state.volumes.values()}
        roles = {names[key]: role for key, role in account.roles.items() if key in names}
        return {
            "name": account.name,
            "configured": False,
            "default": account.default,
            "roles": dict(sorted(roles.items())),
            "password": bool(account.password),
            "app_passwords": len(account.app_passwords),
        }


def _method(answer: Callable[[Mapping[str, Any]], Any]) -> Handler:
    return lambda _peer, args, _blob: (answer(args), b"")


def _text(args: Mapping[str, Any], key: str, *, empty: bool = False) -> str:
    value = args.get(key)
    if not isinstance(value, str) or not (value or empty):
        raise InvalidInput(f"{key} must be a text" + ("" if empty else " that is not empty"))
    return value


def _mapping(args: Mapping[str, Any], key: str) -> dict[str, str]:
    value = args.get(key) or {}
    if not isinstance(value, dict) or not all(isinstance(part, str) for part in [*value, *value.values()]):
        raise InvalidInput(f"{key} must map names to texts")
    return value
