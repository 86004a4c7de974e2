"""What every runner is told on its command line: a URL, a login, and where under the URL it works.

Must not import: davfs.
"""

from __future__ import annotations

import argparse
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPException

from compat.client import DavClient
from compat.report import CompatError, Report, ToolMissing, missing


@dataclass(frozen=True)
class Target:
    """A collection that exists on a WebDAV server, its URL ending with a slash, and the login for it ('' for none)."""

    url: str
    user: str = ""
    password: str = ""

    def client(self, timeout: float = 30.0) -> DavClient:
        """A client of this package's own for the same collection."""
        return DavClient(self.url, self.user, self.password, timeout)

    @contextmanager
    def folder(self, name: str) -> Iterator[Target]:
        """A new collection for one run, removed at its end; CompatError when the server does not make it."""
        path = f"{name}-{secrets.token_hex(4)}"
        with self.client() as client:
            try:
                answer = client.request("MKCOL", path + "/")
            except (OSError, HTTPException) as error:
                raise CompatError(f"MKCOL {self.url}{path}/ failed: {error}") from error
            if answer.status != 201:
                raise CompatError(f"MKCOL {self.url}{path}/ was answered {answer.status}, not 201")
        try:
            yield Target(f"{self.url}{path}/", self.user, self.password)
        finally:
            with self.client() as client, suppress(OSError, HTTPException):
                client.request("DELETE", path + "/")


def parser(description: str) -> argparse.ArgumentParser:
    """The arguments that all runners share."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument("url", metavar="URL", help="a collection that exists, such as http://127.0.0.1:8080/demo/")
    made.add_argument("--user", default="", help="login name")
    made.add_argument("--password", default="")
    return made


def parse(arguments: argparse.Namespace) -> Target:
    """The target that the shared arguments name."""
    return Target(str(arguments.url).rstrip("/") + "/", arguments.user, arguments.password)


def command(
    description: str,
    work: Callable[[Target, argparse.Namespace], Report],
    argv: Sequence[str] | None = None,
    extend: Callable[[argparse.ArgumentParser], None] | None = None,
) -> int:
    """The main function of a runner: parse, work, print; returns the exit code."""
    arguments_parser = parser(description)
    if extend is not None:
        extend(arguments_parser)
    arguments = arguments_parser.parse_args(argv)
    try:
        return work(parse(arguments), arguments).finish()
    except ToolMissing as tool:
        return missing(tool)
    except CompatError as error:
        print(f"failed: {error}", flush=True)
        return 1
