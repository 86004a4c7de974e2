"""A short run of ``python -m tests.faults``: real nodes in networks of their own, a partition and a kill, everything judged."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.world import ROOT
from tests.support.tools import require_root, require_tool


@pytest.mark.root
def test_a_short_run_holds_and_leaves_nothing_behind(tmp_path: Path) -> None:
    require_root("network namespaces")
    require_tool("nft", "nftables")
    require_tool("strace")
    before = _left()
    words = ["--seconds", "4", "--seed", "5", "--nodes", "3", "--longest", "4", "--only", "partition,kill"]
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults", *words, "--out", str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, timeout=150, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads((tmp_path / "report.json").read_text())
    assert figures["verdict"] == "held" and figures["faults"], done.stdout
    assert figures["ok"] > 100 and figures["histories judged"] > 0 and figures["reads after the end"] > 0
    assert "<svg" in (tmp_path / "report.html").read_text()
    assert _left() <= before, "what it made must be gone"


def _left() -> set[str]:
    """Network namespaces and mounts of runs."""
    mounts = {line.split()[1] for line in Path("/proc/mounts").read_text().splitlines() if "davfs-faults" in line}
    spaces = Path("/run/netns")
    return mounts | ({name for name in os.listdir(spaces) if name.startswith("davfs")} if spaces.is_dir() else set())
