"""A node raises its limit of open files as far as it may."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))
from davfs.node.open_files import allow
print(allow(), resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""


@pytest.mark.parametrize(("soft", "hard", "now"), [(256, 1000, 1000), (256, 256, 256), (256, 20_000, 16_384)])
def test_the_limit_is_raised(soft, hard, now):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(soft=soft, hard=hard)], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [str(now), str(now)]
