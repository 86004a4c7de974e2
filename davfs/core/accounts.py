"""Accounts: names, password hashes, roles on volumes and app passwords, as the table that Raft replicates.

Every function takes a table and gives a new one; none changes anything in place. Roles are kept by volume id, which is
never used again, so that a volume that is made anew under an old name starts without its predecessor's readers. What is
secret comes in as a hash or a digest already. Pure: may import core only.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from hmac import compare_digest
from typing import Any, TypeAlias

from davfs.core.chunking import digest_of
from davfs.core.errors import AccountNotFound, AlreadyExists, InvalidInput
from davfs.core.passwords import check_hash

NONE, READ, WRITE, ADMIN = "none", "read", "write", "admin"
ROLES = (NONE, READ, WRITE, ADMIN)
"""What an account may do with a volume, each more than the one before. ``none``: the volume does not exist for it."""

MAX_NAME = 128
MAX_LABEL = 200
MAX_APP_PASSWORDS = 100  # of one account: all of them live in Raft's state
APP_PREFIX = "davfs_"


@dataclass(frozen=True, slots=True)
class AppPassword:
    """A password that a program uses instead of the account's own. ``digest``: hex BLAKE3 of the whole secret text."""

    id: str
    digest: str
    label: str
    created_ns: int


@dataclass(frozen=True, slots=True)
class Account:
    """``password``: a hash of ``core.passwords``, or "" for nobody can log in by password. ``default``: the role on
    every volume that ``roles`` (volume id -> role) does not name."""

    name: str
    password: str
    default: str = NONE
    roles: Mapping[str, str] = field(default_factory=dict)
    app_passwords: Mapping[str, AppPassword] = field(default_factory=dict)

    def role(self, volume_id: str) -> str:
        """The role on a volume."""
        return self.roles.get(volume_id, self.default)


Accounts: TypeAlias = Mapping[str, Account]
"""Name -> account."""


# --- roles ------------------------------------------------------------------------------------------------------------


def allows(role: str, wanted: str) -> bool:
    """Whether ``role`` includes ``wanted``."""
    return ROLES.index(role) >= ROLES.index(wanted)


def check_role(role: str) -> str:
    """The role, or :class:`InvalidInput` with those that there are."""
    if role not in ROLES:
        raise InvalidInput(f"a role is one of {', '.join(ROLES)}, not {role!r}")
    return role


def check_name(name: str) -> str:
    """The name as it is stored (NFC); :class:`InvalidInput` for what HTTP Basic or a terminal could not carry."""
    normal = unicodedata.normalize("NFC", name)
    if not normal or len(normal) > MAX_NAME or not normal.isprintable() or normal != normal.strip():
        raise InvalidInput(f"an account's name has 1 to {MAX_NAME} printable characters and no blanks around it: {name!r}")
    if ":" in normal:
        raise InvalidInput("an account's name must not have a colon (RFC 7617)")
    return normal


# --- app passwords ------------------------------------------------------------------------------------------------------


def app_password(app_id: str, secret: str) -> str:
    """The text that a program sends: ``davfs_<id>_<secret>``. Both parts without ``_``, the secret unguessable."""
    return f"{APP_PREFIX}{app_id}_{secret}"


def app_id_of(text: str) -> str | None:
    """The id in an app password, None if the text is not one."""
    pieces = text.removeprefix(APP_PREFIX).split("_")
    return pieces[0] if text.startswith(APP_PREFIX) and len(pieces) == 2 and all(pieces) else None


def holder_of(table: Accounts, text: str) -> Account | None:
    """The account whose app password this is. Compares digests in constant time."""
    app_id = app_id_of(text)
    if app_id is None:
        return None
    for account in table.values():
        known = account.app_passwords.get(app_id)
        if known is not None:
            return account if compare_digest(known.digest, digest_of(text.encode())) else None
    return None


# --- changes ------------------------------------------------------------------------------------------------------------


def named(table: Accounts, name: str) -> Account:
    """The account of that name; :class:`AccountNotFound`."""
    try:
        return table[unicodedata.normalize("NFC", name)]
    except KeyError:
        raise AccountNotFound(f"there is no account {name!r}") from None


def add(table: Accounts, name: str, password: str, default: str, roles: Mapping[str, str]) -> Accounts:
    """A new account; :class:`AlreadyExists`. ``roles``: volume id -> role."""
    name = check_name(name)
    if name in table:
        raise AlreadyExists(f"there is an account {name!r} already", name=name)
    _check_password(password)
    account = Account(name, password, check_role(default), {volume: check_role(role) for volume, role in roles.items()})
    return {**table, name: account}


def delete(table: Accounts, name: str) -> Accounts:
    """Without the account, its roles and its app passwords."""
    gone = named(table, name)
    return {key: account for key, account in table.items() if key != gone.name}


def set_password(table: Accounts, name: str, password: str) -> Accounts:
    """With another password; app passwords stay."""
    _check_password(password)
    return _with(table, replace(named(table, name), password=password))


def set_role(table: Accounts, name: str, volume_id: str, role: str) -> Accounts:
    """With a role on a volume; ``volume_id`` "": the default role; ``role`` "": the default applies to the volume again."""
    account = named(table, name)
    if not volume_id:
        return _with(table, replace(account, default=check_role(role)))
    roles = {key: value for key, value in account.roles.items() if key != volume_id}
    if role:
        roles[volume_id] = check_role(role)
    return _with(table, replace(account, roles=roles))


def add_app_password(
    table: Accounts, name: str, app_id: str, digest: str, label: str, created_ns: int
) -> Accounts:
    """With one more app password."""
    account = named(table, name)
    new = AppPassword(app_id, digest, label, created_ns)
    if any(new.id in other.app_passwords for other in table.values()):
        raise AlreadyExists("there is an app password of that id already; make another")
    if not new.id.isalnum() or len(new.digest) != 64 or len(new.label) > MAX_LABEL:
        raise InvalidInput(f"an app password has an id, a digest and a label of at most {MAX_LABEL} characters")
    if len(account.app_passwords) >= MAX_APP_PASSWORDS:
        raise InvalidInput(f"{name!r} has {MAX_APP_PASSWORDS} app passwords; revoke some first")
    return _with(table, replace(account, app_passwords={**account.app_passwords, new.id: new}))


def revoke_app_password(table: Accounts, name: str, app_id: str) -> Accounts:
    """Without that app password; :class:`AccountNotFound` if the account has none of that id."""
    account = named(table, name)
    if app_id not in account.app_passwords:
        raise AccountNotFound(f"{name!r} has no app password {app_id!r}")
    rest = {key: value for key, value in account.app_passwords.items() if key != app_id}
    return _with(table, replace(account, app_passwords=rest))


def forget_volume(table: Accounts, volume_id: str) -> Accounts:
    """Without any role on a volume that is gone."""
    for account in table.values():
        if volume_id in account.roles:
            table = set_role(table, account.name, volume_id, "")
    return table


CHANGES: Mapping[str, Callable[..., Accounts]] = {
    "add": add,
    "delete": delete,
    "password": set_password,
    "role": set_role,
    "app_add": add_app_password,
    "app_revoke": revoke_app_password,
}
"""What Raft's command ``account`` may do: (table, *arguments) -> table."""


def _check_password(password: str) -> None:
    if password:
        check_hash(password)


def _with(table: Accounts, account: Account) -> Accounts:
    return {**table, account.name: account}


# --- at rest --------------------------------------------------------------------------------------------------------------


def dump(table: Accounts) -> list[dict[str, Any]]:
    """Plain values for the snapshot of Raft's state."""
    return [asdict(account) for account in table.values()]


def load(values: list[dict[str, Any]]) -> Accounts:
    """The inverse of :func:`dump`."""
    table = {}
    for value in values:
        apps = {key: AppPassword(**app) for key, app in value["app_passwords"].items()}
        table[value["name"]] = Account(**{**value, "app_passwords": apps})
    return table
