"""Processes and the end of them in compat.bench, with real ones."""

import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from compat.bench.site import Absent, Site, free_ports, program


def _runs(process: Path) -> bool:
    """Whether a process of /proc is there and more than a zombie that waits for its parent."""
    try:
        return "\nState:\tZ" not in (process / "status").read_text()
    except OSError:
        return False


def test_a_process_and_its_children_end_with_the_run(tmp_path: Path) -> None:
    code = (
        "import subprocess, sys, time; "
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']); "
        "open('child', 'w').write(str(child.pid)); open('ready', 'w'); time.sleep(60)"
    )
    with ExitStack() as stack:
        process = Site(tmp_path, stack).spawn("sleeper", [sys.executable, "-c", code], patience=2)
        for _ in range(500):
            if (tmp_path / "ready").exists():
                break
            time.sleep(0.02)
        child = Path(f"/proc/{int((tmp_path / 'child').read_text())}")
        assert child.exists()
    assert process.returncode is not None
    deadline = time.monotonic() + 5
    while _runs(child):
        assert time.monotonic() < deadline, "the child outlived the run"
        time.sleep(0.01)


def test_a_server_that_ends_at_once_is_absent_with_its_last_words(tmp_path: Path) -> None:
    with ExitStack() as stack:
        site = Site(tmp_path, stack)
        process = site.spawn("server", [sys.executable, "-c", "raise SystemExit('no disk today')"])
        with pytest.raises(Absent, match="no disk today"):
            site.wait_for_port("server", process, free_ports())


def test_a_program_that_is_not_installed_names_its_package() -> None:
    with pytest.raises(Absent, match="apt-get install some-package"):
        program("no-such-program-here", "some-package")
