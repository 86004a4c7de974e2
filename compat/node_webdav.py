"""Node's package ``webdav``: its operations as programs call them, by the script ``compat/node/operations.mjs``.

The package and all that it needs are pinned with their digests in ``compat/node/package-lock.json`` and installed into the
virtual environment (``python -m compat.node_webdav URL``). Must not import: davfs.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from compat.process import find, run, scratch
from compat.report import CompatError, Report, ToolMissing
from compat.target import Target, command

SCRIPTS = Path(__file__).parent / "node"
LIMIT = 120.0


def check(target: Target, arguments: argparse.Namespace) -> Report:
    """All operations in a folder of its own; what the server holds at the end is looked at too."""
    report = Report(f"Node's webdav against {target.url}")
    with target.folder("node") as folder:
        play("operations.mjs", "webdav", report, folder)
        with folder.client() as eyes, report.step("the server holds what is left"):
            left = eyes.members()
            if left != ["a/", "note.txt", "papers 3/", "piped.bin", "streamed.bin"]:
                raise CompatError(f"the members are {left}")
    return report


def play(script: str, package: str, report: Report, folder: Target, more: Mapping[str, str] | None = None) -> None:
    """Run a script of ``compat/node`` against a folder and add the rows that it prints; ToolMissing without its package."""
    node = find("node", package="nodejs")
    modules = Path(sys.prefix) / "node" / "node_modules"
    if not (modules / package).is_dir():
        raise ToolMissing(f"{modules / package} is not installed (Debian package npm, then make dev-build)")
    with scratch("node") as home:
        # Node looks for packages beside the script.
        (home / "node_modules").symlink_to(modules)
        for name in (script, "step.mjs"):
            shutil.copy(SCRIPTS / name, home / name)
        where = {"DAV_URL": folder.url, "DAV_USER": folder.user, "DAV_PASSWORD": folder.password, **(more or {})}
        done = run([node, str(home / script)], home=home, timeout=LIMIT, extra_env=where)
    for line in done.out.splitlines():
        row = json.loads(line)
        report.add(row["name"], row["ok"], row["seconds"], row["detail"])
    if done.code != 0:
        report.add("the script comes to its end", False, detail=done.err[-1500:])


def extend(parser: argparse.ArgumentParser) -> None:
    """This runner has no arguments of its own."""


def main(argv: list[str] | None = None) -> int:
    """The command; exit code 0, 1 (an operation failed) or 3 (node or the package is missing)."""
    return command(__doc__ or "", check, argv, extend)


if __name__ == "__main__":
    sys.exit(main())
