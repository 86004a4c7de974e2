"""``davfs hash-password``: the text that stands for a password in a node's configuration."""

from __future__ import annotations

import argparse
import getpass
import secrets
import sys
from typing import Any

from davfs.core.errors import ConfigError
from davfs.core.passwords import hash_password


def register(commands: Any) -> None:
    """Add the command."""
    text = "Read a password (from the terminal, or a line of standard input) and print what [[dav.user]] password holds."
    command = commands.add_parser("hash-password", help="hash a password for the configuration", description=text)
    command.set_defaults(run=run)


def run(_arguments: argparse.Namespace) -> int:
    """Print the hash."""
    print(read_password())
    return 0


def read_password() -> str:
    """Read a password, from the terminal (twice) or a line of standard input, and give its hash.

    Never taken as an argument: other users would see it in the process list.
    """
    if sys.stdin.isatty():
        password = getpass.getpass("Password: ")
        if getpass.getpass("Again: ") != password:
            raise ConfigError("the two passwords differ")
    else:
        password = sys.stdin.readline().rstrip("\n")
    if not password:
        raise ConfigError("the password is empty")
    return hash_password(password, secrets.token_bytes(16))
