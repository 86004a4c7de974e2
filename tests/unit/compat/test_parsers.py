"""The compat runners read what clients print: passes are passes, and every kind of failure is seen."""

from __future__ import annotations

import pytest

from compat import cadaver, litmus, rclone, tree
from compat.report import CompatError, Report

LITMUS_GOOD = """-> running `basic':
\r 0. init.................. \r 0. init.................. pass
\r 4. put_get_utf8_segment.. \r 4. put_get_utf8_segment.. pass
<- summary for `basic': of 2 tests run: 2 passed, 0 failed. 100.0%
"""
LITMUS_WARNED = """-> running `locks':
\r18. cond_put_corrupt_token \r18. cond_put_corrupt_token WARNING: PUT failed with 412 not 423
\r    ...................... pass (with 1 warning)
<- summary for `locks': of 1 tests run: 1 passed, 0 failed. 100.0%
-> 1 warning was issued.
"""
LITMUS_FAILED = """-> running `props':
\r 6. propset............... \r 6. propset............... FAIL (PROPPATCH on `/prop': 403 Forbidden)
\r 7. propget............... \r 7. propget............... SKIPPED
<- summary for `props': of 2 tests run: 0 passed, 1 failed. 0.0%
"""


def test_litmus_pass() -> None:
    result = litmus.parse_output(LITMUS_GOOD)["basic"]
    assert result.ok
    assert (result.run, result.passed) == (2, 2)


@pytest.mark.parametrize(("text", "suite"), [(LITMUS_WARNED, "locks"), (LITMUS_FAILED, "props")])
def test_litmus_warnings_failures_and_skips_are_troubles(text: str, suite: str) -> None:
    result = litmus.parse_output(text)[suite]
    assert not result.ok
    assert result.troubles


def test_a_litmus_suite_that_ended_early_is_no_pass() -> None:
    text = LITMUS_GOOD.split("<-", maxsplit=1)[0]
    assert not litmus.parse_output(text)["basic"].ok


def test_cadaver_session_is_cut_into_commands() -> None:
    session = cadaver.outputs(
        "dav:/d/> mkcol c\nCreating `c': succeeded.\ndav:/d/> get x y\nDownloading `/d/x' to y: [.. failed:\n404 Not Found\n"
    )
    assert [command for command, _ in session] == ["mkcol c", "get x y"]
    cadaver.judge(cadaver.Act("mkcol", "mkcol c"), session[0][1])
    with pytest.raises(CompatError, match="404"):
        cadaver.judge(cadaver.Act("get", "get x y"), session[1][1])
    with pytest.raises(CompatError):
        cadaver.judge(cadaver.Act("mkcol", "mkcol c", refused=True), session[0][1])
    with pytest.raises(CompatError, match="nothing"):
        cadaver.judge(cadaver.Act("propnames", "propnames c", expect="colour"), "")


def test_rclone_log_entries_are_counted() -> None:
    entries = [
        {"msg": "Copied (new)", "object": "a"},
        {"msg": "Copied (replaced existing)", "object": "b"},
        {"msg": "Deleted", "object": "c"},
        {"msg": "There was nothing to transfer"},
    ]
    assert rclone.transfers(entries) == ({"a", "b"}, {"c"})


def test_a_report_fails_for_one_failed_step_and_for_none_at_all() -> None:
    report = Report("x")
    assert report.exit_code == 1
    with report.step("good"):
        pass
    assert report.exit_code == 0
    with report.step("bad"):
        raise CompatError("why")
    assert report.exit_code == 1
    assert "why" in report.text()


def test_the_tree_is_the_same_for_a_seed_and_holds_the_awkward_sizes() -> None:
    files = tree.plan(400, 7)
    assert files == tree.plan(400, 7)
    assert files != tree.plan(400, 8)
    assert len({file.path.lower() for file in files}) == 400
    assert {0, 1, tree.CHUNK - 1, tree.CHUNK, tree.CHUNK + 1} <= {file.size for file in files}
    assert any(not file.path.isascii() for file in files)
    assert any(" " in file.path for file in files)
    assert max(file.path.count("/") for file in files) >= 4
    assert all(len(part.encode()) <= 255 for file in files for part in file.path.split("/"))
    assert all(len(tree.content(file)) == file.size for file in files[:50])
