"""Programs and rights that a test needs: without them it is skipped on a desk and fails where CI=true."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest


def refuse(reason: str) -> None:
    """Skip the calling test; in CI fail it, so that nothing is ever silently not tested."""
    if os.environ.get("CI", "").lower() == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def require_tool(name: str, package: str = "") -> str:
    """The path of a program, looked for beside this interpreter and on PATH; refuse() names the package that has it."""
    beside = Path(sys.prefix) / "bin" / name
    if beside.exists():
        return str(beside)
    found = shutil.which(name, path=os.environ.get("PATH", "") + os.pathsep + "/usr/sbin:/sbin")
    if found is None:
        refuse(f"{name} is not installed (package {package or name})")
        raise AssertionError("unreachable: refuse() does not return")
    return found


def require_root(why: str) -> None:
    """Go on only as root."""
    if os.geteuid() != 0:
        refuse(f"needs root: {why}")


def full_size() -> bool:
    """Whether the full sizes were asked for (DAVFS_FULL=1, `make compat-full`) instead of the quick ones."""
    return os.environ.get("DAVFS_FULL", "") not in ("", "0")
