"""``davfs volume ...``: create, list, show and delete volumes; assign, refresh and free their tokens by hand.

``fsck``, ``export`` and ``import`` have modules of their own.
"""

from __future__ import annotations

import argparse
import json
import secrets
import sys
from typing import Any

from blake3 import blake3

from davfs.cli import replicas, standing, volume_conflicts, volume_export, volume_fsck, volume_import
from davfs.cli.remote import add_config, connect
from davfs.cli.session import collect, describe
from davfs.cli.status import describe_volumes
from davfs.core.errors import ConfigError

_TOKEN_BYTES = 32


def register(commands: Any) -> None:
    """Add the command group."""
    group = commands.add_parser("volume", help="make, show, delete, check, export, import", description=__doc__)
    actions = group.add_subparsers(title="actions", metavar="ACTION", required=True)
    _register_volumes(actions)
    _register_tokens(actions)
    for module in (volume_fsck, volume_export, volume_import, volume_conflicts, replicas):
        module.register(actions)


def _register_volumes(actions: Any) -> None:
    create = _action(actions, "create", _create, "make a volume; its policy is the cluster's but for what is given here")
    create.add_argument("--chunk-size", type=int, metavar="BYTES")
    create.add_argument("--copies", type=int, metavar="N", help="replicas of each chunk")
    create.add_argument("--write-quorum", type=int, metavar="W", help="copies that a write waits for")
    create.add_argument("--read-quorum", type=int, metavar="R", help="copies that a read asks")
    create.add_argument("--trash-days", type=int, metavar="D", help="days that deleted files are kept (default 7)")
    create.add_argument("--quota", type=_bytes, metavar="SIZE", help="how much it may hold, trash included (as 500G)")
    create.add_argument("--replicas", type=int, metavar="M", help="nodes that hold the directory tree")
    create.add_argument("--consistency", choices=("strict", "available"))
    create.add_argument("--mode", choices=("shared", "exclusive"))
    create.add_argument("--reads", choices=("lease", "confirmed"))
    _action(actions, "list", _list, "show all volumes", named=False)
    _action(actions, "show", _show, "show one volume with policy, grant, sessions and DAV locks")
    quota = _action(actions, "set-quota", _set_quota, "change how much a volume may hold; what is there stays")
    quota.add_argument("quota", type=_bytes, metavar="SIZE", help="bytes, or as 500M, 20G, 2T (of 1024); none: no limit")
    delete = _action(actions, "delete", _delete, "delete a volume with everything in it")
    delete.add_argument("--yes", action="store_true", help="do not ask")
    delete.add_argument("--force", action="store_true", help="also while somebody holds it")


def _register_tokens(actions: Any) -> None:
    assign = _action(actions, "assign", _assign, "take the volume's token: nobody else, no gateway either, serves it then")
    assign.add_argument("--ttl", type=float, metavar="S", help="seconds until it ends unless refreshed")
    assign.add_argument("--address", default="", help="shown to others as the holder")
    for name, run, text in (("refresh", _refresh, "keep a token"), ("free", _free, "give a token back")):
        action = _action(actions, name, run, text)
        action.add_argument("--token", required=True, help="what assign printed")
        action.add_argument("--epoch", required=True, help="what assign printed")


def _action(actions: Any, name: str, run: Any, text: str, named: bool = True) -> argparse.ArgumentParser:
    action: argparse.ArgumentParser = actions.add_parser(name, help=text, description=text)
    if named:
        action.add_argument("name", metavar="VOLUME")
    add_config(action)
    action.add_argument("--json", action="store_true", help="for programs")
    action.set_defaults(run=run)
    return action


def _tell(arguments: argparse.Namespace, method: str, args: dict[str, Any], text: str) -> int:
    """Ask, then print the answer as JSON, or ``text`` with the answer's values filled in."""
    with connect(arguments.config) as remote:
        value = remote.ask(method, args)
    print(json.dumps(value, indent=2) if arguments.json else text.format(**value))
    return 0


def _create(arguments: argparse.Namespace) -> int:
    keys = ("chunk_size", "copies", "write_quorum", "read_quorum", "replicas", "consistency", "mode", "reads", "trash_days",
            "quota")  # fmt: skip
    policy = {key: getattr(arguments, key) for key in keys if getattr(arguments, key) is not None}
    with connect(arguments.config) as remote:
        value = remote.ask("admin.volume_create", {"name": arguments.name, "policy": policy})
        urls = [f"{member.dav}/{arguments.name}/" for member in remote.config.cluster.nodes]
    print(json.dumps(value, indent=2) if arguments.json else f"volume {value['name']} at {urls[0]} and every other node")
    return 0


def _list(arguments: argparse.Namespace) -> int:
    with connect(arguments.config) as remote:
        volumes = remote.ask("admin.volume_list", {})
    print(json.dumps(volumes, indent=2) if arguments.json else "\n".join(describe_volumes(volumes)))
    return 0


def _show(arguments: argparse.Namespace) -> int:
    with connect(arguments.config) as remote:
        volume = remote.ask("admin.volume_show", {"name": arguments.name})
        volume["sessions"], _ = collect(remote, volume["name"])
        changing = volume["change"] and remote.ask("admin.replicas_show", {"name": arguments.name})
        if changing:
            volume["followers"] = changing["followers"]
        volume["standing"] = standing.collect(remote, volume)
    if arguments.json:
        print(json.dumps(volume, indent=2))
        return 0
    print("\n".join(describe_volumes([volume])))
    print("policy: " + ", ".join(f"{key} {value}" for key, value in volume["policy"].items()))
    print(f"replicas: version {volume['set_version']} of the set")
    if changing and changing["change"]:
        print(f"change of {replicas.describe(changing)}")
    print("\n".join(standing.describe(volume["standing"])))
    if volume["grant"] is not None:
        print("grant: ttl {ttl:g} s, refreshed {refreshes} times".format(**volume["grant"]))
    if volume["session"] is not None:
        account, address, agent = volume["session"]
        print(f"in use by {account or 'somebody'} from {address} ({agent or 'no User-Agent'}) alone")
    if volume["sessions"]:
        print("\n".join(describe(volume["sessions"])))
    for lock in volume["locks"]:
        kind = "exclusive" if lock["exclusive"] else "shared"
        print(f"lock: {kind} on {lock['path']} for {lock['timeout_s']} s, by {lock['principal'] or 'anyone'}: {lock['token']}")
    return 0


def _set_quota(arguments: argparse.Namespace) -> int:
    args = {"name": arguments.name, "quota": arguments.quota}
    text = "volume {name} may hold {quota} bytes" if arguments.quota else "volume {name} has no quota"
    return _tell(arguments, "admin.volume_quota", args, text)


def _bytes(text: str) -> int:
    """A size as people write it; ValueError for anything else, which argparse reports."""
    if text == "none":
        return 0
    power = "KMGT".find(text[-1:].upper()) + 1
    number = text[:-1] if power else text
    if not number.isascii() or not number.isdigit():
        raise ValueError(text)
    return int(number) << (10 * power)


def _delete(arguments: argparse.Namespace) -> int:
    if not arguments.yes:
        if not sys.stdin.isatty():
            raise ConfigError(f"deleting {arguments.name!r} removes all its files; say --yes")
        if input(f"Delete volume {arguments.name!r} with all its files? Type its name: ") != arguments.name:
            raise ConfigError("nothing was deleted")
    args = {"name": arguments.name, "force": arguments.force}
    return _tell(arguments, "admin.volume_delete", args, "volume {name} is deleted")


def _assign(arguments: argparse.Namespace) -> int:
    """The secret is made here and stays here: only its digest is sent."""
    token = secrets.token_bytes(_TOKEN_BYTES)
    args = {"name": arguments.name, "token_digest": _digest(token), "address": arguments.address, "ttl": arguments.ttl}
    with connect(arguments.config) as remote:
        value = remote.ask("admin.volume_assign", args)
    value["token"] = token.hex()
    if arguments.json:
        print(json.dumps(value, indent=2))
    else:
        incarnation, counter = value["epoch"]
        print(f"volume {value['name']} is assigned for {value['ttl']:g} s")
        print(f"--token {value['token']} --epoch {incarnation}.{counter}")
    return 0


def _refresh(arguments: argparse.Namespace) -> int:
    return _tell(arguments, "admin.volume_refresh", _bearer(arguments), "volume {name} is refreshed")


def _free(arguments: argparse.Namespace) -> int:
    return _tell(arguments, "admin.volume_free", _bearer(arguments), "volume {name} is free")


def _bearer(arguments: argparse.Namespace) -> dict[str, Any]:
    try:
        token = bytes.fromhex(arguments.token)
        incarnation, counter = (int(part) for part in arguments.epoch.strip("[]").replace(",", ".").split("."))
    except ValueError:
        raise ConfigError("give --token and --epoch as `davfs volume assign` printed them") from None
    return {"name": arguments.name, "token_digest": _digest(token), "epoch": [incarnation, counter]}


def _digest(token: bytes) -> str:
    return str(blake3(token).hexdigest())
