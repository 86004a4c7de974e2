"""``davfs user ...``: accounts, their roles on volumes and their app passwords.

Roles: none (the volume does not exist for the account), read, write, admin. Each account has a default role, for every
volume that it has no role of its own on. Passwords are hashed and app passwords made on this side: neither is ever sent.
"""

from __future__ import annotations

import argparse
import json
import secrets
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from davfs.cli.password import read_password
from davfs.cli.remote import add_config, connect
from davfs.cli.status import columns
from davfs.core.accounts import NONE, ROLES, app_password
from davfs.core.chunking import digest_of
from davfs.core.errors import ConfigError

_SECRET_BYTES = 24


def register(commands: Any) -> None:
    """Add the command group."""
    text = "accounts, their roles and app passwords"
    group = commands.add_parser(
        "user", help=text, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    actions = group.add_subparsers(title="actions", metavar="ACTION", required=True)
    add = _action(actions, "add", _add, "make an account; its password is read from the terminal or a line of input")
    add.add_argument("--default", choices=ROLES, default=NONE, help="its role on every volume (default none)")
    add.add_argument("--role", action="append", default=[], metavar="VOLUME=ROLE", help="its role on one; repeatable")
    add.add_argument("--no-password", action="store_true", help="nobody logs in by password: app passwords alone")
    _action(actions, "list", _list, "show all accounts", named=False)
    _action(actions, "show", _show, "show one account with its app passwords")
    delete = _action(actions, "delete", _delete, "delete an account, its roles and app passwords; its files stay")
    delete.add_argument("--yes", action="store_true", help="do not ask")
    _action(actions, "password", _password, "set another password; app passwords stay as they are")
    role = _action(actions, "role", _role, "set a role")
    role.add_argument("role", choices=(*ROLES, "default"), help="'default' ends a volume's own role")
    role.add_argument("--volume", default="", metavar="VOLUME", help="on this volume; without it: the default role")
    _register_app_passwords(actions)


def _register_app_passwords(actions: Any) -> None:
    text = "passwords for programs, each revoked by itself"
    group = actions.add_parser("app-password", help=text, description=text)
    ways = group.add_subparsers(title="actions", metavar="ACTION", required=True)
    add = _action(ways, "add", _app_add, "make one; it is shown once, here")
    add.add_argument("--label", default="", help="what it is for")
    revoke = _action(ways, "revoke", _app_revoke, "end one")
    revoke.add_argument("id", metavar="ID", help="as `davfs user show` prints it")


def _action(actions: Any, name: str, run: Any, text: str, named: bool = True) -> argparse.ArgumentParser:
    action: argparse.ArgumentParser = actions.add_parser(name, help=text, description=text)
    if named:
        action.add_argument("name", metavar="NAME")
    add_config(action)
    action.add_argument("--json", action="store_true", help="for programs")
    action.set_defaults(run=run)
    return action


def _ask(arguments: argparse.Namespace, method: str, **args: Any) -> Any:
    with connect(arguments.config) as remote:
        return remote.ask(f"admin.user_{method}", args)


def _tell(arguments: argparse.Namespace, value: Any, text: str) -> int:
    print(json.dumps(value, indent=2) if arguments.json else text)
    return 0


# --- accounts -----------------------------------------------------------------------------------------------------------


def _add(arguments: argparse.Namespace) -> int:
    roles = {}
    for text in arguments.role:
        volume, _, role = text.rpartition("=")
        if not volume or role not in ROLES:
            raise ConfigError(f"--role takes VOLUME=ROLE with a role of {', '.join(ROLES)}, not {text!r}")
        roles[volume] = role
    password = "" if arguments.no_password else read_password()
    value = _ask(arguments, "add", name=arguments.name, password=password, default=arguments.default, roles=roles)
    text = f"account {value['name']}: {_roles(arguments.default, roles)}"
    if value["open"]:
        text += "\nNote: with anonymous = true in the node's configuration, who sends no password is still let in."
    return _tell(arguments, value, text)


def _list(arguments: argparse.Namespace) -> int:
    accounts = _ask(arguments, "list")
    rows = [["ACCOUNT", "PASSWORD", "APP PASSWORDS", "ROLES"]]
    for account in accounts:
        if account["configured"]:
            rows.append([account["name"], "yes", "-", "admin everywhere ([[dav.user]] of this node's configuration)"])
        else:
            shown = _roles(account["default"], account["roles"])
            rows.append([account["name"], "yes" if account["password"] else "no", str(account["app_passwords"]), shown])
    return _tell(arguments, accounts, "\n".join(columns(rows)) if accounts else "No accounts.")


def _show(arguments: argparse.Namespace) -> int:
    account = _ask(arguments, "show", name=arguments.name)
    lines = [f"account {account['name']}", f"roles: {_roles(account['default'], account['roles'])}"]
    lines.append("password: " + ("set" if account["password"] else "none"))
    lines += _app_rows(account["app_passwords"])
    return _tell(arguments, account, "\n".join(lines))


def _delete(arguments: argparse.Namespace) -> int:
    if not arguments.yes:
        if not sys.stdin.isatty():
            raise ConfigError(f"deleting {arguments.name!r} cannot be undone; say --yes")
        if input(f"Delete account {arguments.name!r}? Type its name: ") != arguments.name:
            raise ConfigError("nothing was deleted")
    value = _ask(arguments, "delete", name=arguments.name)
    return _tell(arguments, value, f"account {value['name']} is deleted")


def _password(arguments: argparse.Namespace) -> int:
    value = _ask(arguments, "password", name=arguments.name, password=read_password())
    return _tell(arguments, value, f"account {value['name']} has another password")


def _role(arguments: argparse.Namespace) -> int:
    role, volume = arguments.role, arguments.volume
    if role == "default" and not volume:
        raise ConfigError("'default' ends the role on a volume: give it with --volume")
    value = _ask(arguments, "role", name=arguments.name, volume=volume, role="" if role == "default" else role)
    return _tell(arguments, value, f"account {value['name']}: {role} " + (f"on {volume}" if volume else "by default"))


# --- app passwords ------------------------------------------------------------------------------------------------------


def _app_add(arguments: argparse.Namespace) -> int:
    """The secret is made here and shown here: only its digest is sent."""
    app_id = secrets.token_hex(8)
    secret = app_password(app_id, secrets.token_hex(_SECRET_BYTES))
    digest = digest_of(secret.encode())
    value = _ask(arguments, "app_add", name=arguments.name, id=app_id, digest=digest, label=arguments.label)
    text = (
        f"app password {app_id} of {value['name']}; it is shown only now:\n\n  {secret}\n\n"
        f"Use it as the password of {value['name']}, or send it as Authorization: Bearer."
    )
    return _tell(arguments, {**value, "id": app_id, "app_password": secret}, text)


def _app_revoke(arguments: argparse.Namespace) -> int:
    value = _ask(arguments, "app_revoke", name=arguments.name, id=arguments.id)
    return _tell(arguments, value, f"app password {arguments.id} of {value['name']} is revoked")


# --- helpers ------------------------------------------------------------------------------------------------------------


def _roles(default: str, roles: Mapping[str, str]) -> str:
    own = [f"{role} on {volume}" for volume, role in sorted(roles.items())]
    return ", ".join([*own, f"{default} on all {'others' if own else 'volumes'}"])


def _app_rows(app_passwords: Sequence[Mapping[str, Any]]) -> list[str]:
    if not app_passwords:
        return ["app passwords: none"]
    rows = [["APP PASSWORD", "MADE", "FOR"]]
    for app in app_passwords:
        rows.append([app["id"], time.strftime("%Y-%m-%d %H:%M", time.localtime(app["created"])), app["label"]])
    return ["", *columns(rows)]
