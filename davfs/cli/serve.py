"""``davfs serve``: run one node in the foreground until SIGTERM or SIGINT.

Writes its process id beside its configuration. A node that was started by `davfs dev` stops when that process is gone.
"""

from __future__ import annotations

import argparse
import logging
import os
import threading
from pathlib import Path
from typing import Any

from davfs.cli.signals import stop_event
from davfs.node.config import load_config
from davfs.node.pidfile import pid_file

PARENT_VARIABLE = "DAVFS_PARENT"
_PARENT_CHECK_S = 1.0


def register(commands: Any) -> None:
    """Add the command."""
    command = commands.add_parser("serve", help="run one node", description="Run one node until it is told to stop.")
    command.add_argument("--config", type=Path, required=True, metavar="FILE", help="the node's davfs.toml")
    command.add_argument("--verbose", "-v", action="store_true", help="log more")
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Serve; the exit code of the node."""
    config = load_config(arguments.config)
    logging.basicConfig(
        level=logging.DEBUG if arguments.verbose else logging.INFO,
        format=f"%(asctime)s %(levelname)s {config.name} %(name)s: %(message)s",
    )
    stop = stop_event()
    with pid_file(config.pid_file):
        _stop_with_parent(stop)
        from davfs.node.main import serve  # the whole server: late, so that a wrong configuration is told at once

        return serve(config, stop)


def _stop_with_parent(stop: threading.Event) -> None:
    """A killed `davfs dev` cannot stop its nodes, so each of them looks whether it is still there."""
    parent = os.environ.pop(PARENT_VARIABLE, "")
    if not parent.isdigit():
        return

    def watch() -> None:
        while not stop.wait(_PARENT_CHECK_S):
            if os.getppid() != int(parent):
                logging.getLogger(__name__).warning("davfs dev is gone: stopping")
                stop.set()

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()
