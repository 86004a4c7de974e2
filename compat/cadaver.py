"""cadaver, the interactive client, by a script of its commands: every command's own words are judged.

cadaver exits with 0 after commands that failed, so each command's output is cut out of the session and must say that it
succeeded; what it claims is then checked with a client of our own (``python -m compat.cadaver URL``). Must not import: davfs.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from compat.client import DavClient
from compat.process import find, run, scratch
from compat.report import CompatError, Report
from compat.target import Target, command

TEXT = b"seven lines of text\n" * 7
_PROMPT = re.compile(r"^dav:\S*> (?P<command>.*)$")
_FAILURE = re.compile(r"failed|could not|error|\b[45]\d\d [A-Z]", re.IGNORECASE)


@dataclass(frozen=True)
class Act:
    """One command of the script: a name for the table, the line typed, a pattern that its output must hold."""

    name: str
    line: str
    expect: str = r"succeeded\."
    refused: bool = False
    """The command must fail (its output is expected to match `expect`, and to speak of a failure)."""


SCRIPT = (
    Act("mkcol", "mkcol docs"),
    Act("cd", "cd docs", expect=""),
    Act("put", "put local.txt"),
    Act("put under a name", "put local.txt second.txt"),
    Act("ls", "ls", expect=r"local\.txt +140 "),
    Act("get", "get local.txt fetched.txt"),
    Act("cat", "cat local.txt", expect="seven lines of text"),
    Act("propset", "propset local.txt colour blue"),
    Act("propget", "propget local.txt colour", expect="Value of colour is: blue"),
    Act("propnames", "propnames local.txt", expect="colour|getcontentlength"),
    Act("lock", "lock local.txt"),
    Act("discover", "discover local.txt", expect=r"Scope: exclusive +Type: write"),
    Act("showlocks", "showlocks", expect="Lock token"),
    Act("put with the lock", "put local.txt local.txt"),
    Act("unlock", "unlock local.txt"),
    Act("copy", "copy local.txt copied.txt"),
    Act("move", "move second.txt moved.txt"),
    Act("move of a collection: make", "mkcol inner"),
    Act("move of a collection", "move inner inner2"),
    Act("copy of a collection", "copy inner2 inner3"),
    Act("delete", "delete moved.txt"),
    Act("delete of nothing is refused", "delete never-there.txt", expect="404", refused=True),
    Act("get of nothing is refused", "get never-there.txt nothing.txt", expect="404", refused=True),
    Act("rmcol", "rmcol inner2"),
    Act("ls at the end", "ls", expect=r"copied\.txt +140 "),
)


def outputs(text: str) -> list[tuple[str, str]]:
    """(command, what was printed until the next prompt), in order, from a whole session."""
    found: list[tuple[str, str]] = []
    for line in text.splitlines():
        if match := _PROMPT.match(line):
            found.append((match["command"].strip(), ""))
        elif found:
            found[-1] = (found[-1][0], found[-1][1] + line + "\n")
    return found


def judge(act: Act, printed: str) -> None:
    """CompatError unless the output is that of a command that did what it must."""
    said_failure = bool(_FAILURE.search(printed))
    if said_failure != act.refused or not re.search(act.expect, printed):
        raise CompatError(f"{act.line!r} printed:\n{printed.strip() or '(nothing)'}")


def check(target: Target, arguments: argparse.Namespace) -> Report:
    """Run the script in a folder of its own; a row per command, then rows for what the server holds."""
    program = find("cadaver", package="cadaver")
    report = Report(f"cadaver against {target.url}")
    with scratch("cadaver") as home, target.folder("cadaver") as folder:
        (home / "local.txt").write_bytes(TEXT)
        if folder.user:
            _write_netrc(home, folder)
        typed = "\n".join([act.line for act in SCRIPT] + ["quit", ""])
        outcome = run([program, folder.url], home=home, timeout=arguments.timeout, stdin=typed)
        session = outputs(outcome.out)
        for number, act in enumerate(SCRIPT):
            with report.step(act.name):
                if number >= len(session) or session[number][0] != act.line:
                    raise CompatError(f"cadaver never ran {act.line!r}:\n{outcome.out[-300:]}{outcome.err[-300:]}")
                judge(act, session[number][1])
        with folder.client() as client:
            _check_server(report, client, home)
    return report


def _check_server(report: Report, client: DavClient, home: Path) -> None:
    expected: tuple[tuple[str, Callable[[], object], object], ...] = (
        ("the file fetched is the file put", (home / "fetched.txt").read_bytes, TEXT),
        ("the server holds the file", lambda: client.get("docs/local.txt").body, TEXT),
        ("the server holds the copy", lambda: client.get("docs/copied.txt").body, TEXT),
        ("the members are right", lambda: client.members("docs"), ["copied.txt", "inner3/", "local.txt"]),
        ("the lock is gone", lambda: client.put("docs/local.txt", b"x").ok, True),
    )
    for name, value, wanted in expected:
        with report.step(name):
            got = value()
            if got != wanted:
                raise CompatError(f"expected {wanted!r}, got {got!r}"[:500])


def _write_netrc(home: Path, target: Target) -> None:
    netrc = home / ".netrc"
    netrc.write_text(f'machine {urlsplit(target.url).hostname}\nlogin {target.user}\npassword "{target.password}"\n')
    netrc.chmod(0o600)


def extend(parser: argparse.ArgumentParser) -> None:
    """The arguments of this runner alone."""
    parser.add_argument("--timeout", type=float, default=120.0, help="seconds for the whole script")


def main(argv: list[str] | None = None) -> int:
    """The command; exit code 0, 1 (an operation failed) or 3 (cadaver is missing)."""
    return command(__doc__ or "", check, argv, extend)


if __name__ == "__main__":
    sys.exit(main())
