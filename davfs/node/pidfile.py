"""The file that names a running node's process: locked for as long as it runs, so that a stale one fools nobody.

The lock, not the number, says whether the node runs: the kernel drops it with the process, however that ends.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from davfs.core.errors import ConfigError


@contextmanager
def pid_file(path: Path) -> Iterator[None]:
    """Hold the file while the node runs; :class:`ConfigError` if another process does."""
    handle = _lock(path)
    try:
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(handle)


def _lock(path: Path) -> int:
    """The locked file, open. Tries for a second: who looks whether the node runs holds the lock for an instant."""
    for _ in range(20):
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.exists() and os.path.samestat(os.fstat(handle), path.stat()):
                return handle  # else its last owner unlinked it after we opened it
        except FileNotFoundError:
            pass
        except BlockingIOError:
            time.sleep(0.05)
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)
    raise ConfigError(f"{path}: this runs already, as process {_number(path)}; stop that one first")


def running_pid(path: Path) -> int | None:
    """The process that holds the file, None when nobody does."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _number(path)
    finally:
        os.close(handle)
    return None


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None
