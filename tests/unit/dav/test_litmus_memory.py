"""litmus, all five suites, against the DAV side over a drive in memory: no failure, no warning."""

from __future__ import annotations

import re
import subprocess

from tests.support.tools import require_tool


def test_litmus(port: int, tmp_path):
    litmus = require_tool("litmus")
    url = f"http://127.0.0.1:{port}/Other/"
    done = subprocess.run([litmus, "-k", url], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    summaries = re.findall(r"summary for `(\w+)': of (\d+) tests run: (\d+) passed, 0 failed", done.stdout)
    assert [suite for suite, run, passed in summaries if run == passed] == [
        "basic",
        "copymove",
        "props",
        "locks",
        "http",
    ], done.stdout
    assert "WARNING" not in done.stdout
    assert "warning" not in done.stdout
    assert done.returncode == 0
