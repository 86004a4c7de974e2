"""The ``davfs`` command: finds the subcommand and turns errors into one line and an exit code.

Exit codes: 0 done, 1 refused or failed (the line says why), 2 wrong usage. Each command group is a module of its own
with ``register(subcommands)``; what is heavy is imported only by the command that needs it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from davfs import __version__
from davfs.cli import cert, dev, gc, init, lock, node, password, scrub, serve, session, sim, status, trash, user, volume
from davfs.core.errors import DavfsError


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = argparse.ArgumentParser(prog="davfs", description="A network drive that survives the loss of a machine.")
    top.add_argument("--version", action="version", version=f"davfs {__version__}")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for group in (dev, init, serve, status, volume, trash, session, lock, gc, scrub, node, cert, user, password, sim):
        group.register(commands)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line; the exit code."""
    arguments = parser().parse_args(argv)
    try:
        code: int = arguments.run(arguments)
    except DavfsError as error:
        print(f"davfs: {error.message}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        return 1
    except KeyboardInterrupt:
        return 130
    return code


def entry() -> None:
    """The console script."""
    sys.exit(main())
