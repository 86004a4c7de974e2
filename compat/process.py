"""Client programs as child processes: found, run with a limit, and never left behind.

Must not import: davfs.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from compat.report import CompatError, ToolMissing


@dataclass(frozen=True)
class Outcome:
    """What a finished program left: its exit code and what it printed (stdout and stderr apart)."""

    code: int
    out: str
    err: str

    def require(self, what: str) -> Outcome:
        """Raise CompatError with the program's own words unless it exited with 0."""
        if self.code != 0:
            words = (self.err.strip() or self.out.strip())[-1500:]
            raise CompatError(f"{what}: exit code {self.code}\n{words}")
        return self


def find(name: str, *, package: str) -> str:
    """The path of an installed program; ToolMissing names the Debian package that holds it."""
    found = shutil.which(name, path=os.environ.get("PATH", "") + os.pathsep + "/usr/sbin:/sbin:/usr/local/bin")
    if found is None:
        raise ToolMissing(f"{name} is not installed (Debian package {package})")
    return found


def python_tool(name: str, *, package: str) -> str:
    """The path of a program that a Python package put beside this interpreter."""
    path = Path(sys.prefix) / "bin" / name
    if not path.exists():
        raise ToolMissing(f"{path} is not installed (Python package {package})")
    return str(path)


def environment(home: Path, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """An environment without this user's settings and proxies: HOME is a directory of this run alone."""
    kept = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
    kept.update(
        HOME=str(home), XDG_CONFIG_HOME=str(home / ".config"), XDG_CACHE_HOME=str(home / ".cache"), LC_ALL="C.UTF-8"
    )
    kept.update(extra or {})
    return kept


def run(
    command: Sequence[str],
    *,
    home: Path,
    timeout: float,
    stdin: str = "",
    cwd: Path | None = None,
    extra_env: Mapping[str, str] | None = None,
) -> Outcome:
    """Run a program to its end; after `timeout` seconds its whole process group is killed and CompatError raised."""
    with subprocess.Popen(
        list(command),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=str(cwd or home),
        env=environment(home, extra_env),
        start_new_session=True,
    ) as child:
        try:
            out, err = child.communicate(stdin.encode(), timeout=timeout)
        except subprocess.TimeoutExpired:
            kill_group(child.pid)
            raise CompatError(f"{Path(command[0]).name} did not end within {timeout:.0f} s") from None
        except BaseException:
            kill_group(child.pid)
            raise
    return Outcome(child.returncode, out.decode(errors="replace"), err.decode(errors="replace"))


def kill_group(pid: int) -> None:
    """SIGKILL to the process group that `run` or a mount started."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


@contextmanager
def scratch(prefix: str) -> Iterator[Path]:
    """A temporary directory, removed at the end whatever happened."""
    path = Path(tempfile.mkdtemp(prefix=f"compat-{prefix}-"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
