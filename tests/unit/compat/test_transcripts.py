"""The player of transcripts sees every kind of wrong answer and of missing effect; what is badly written is refused."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from compat.report import Report, ToolMissing
from compat.table import FAILED, NOT_RUN, OK, Table
from compat.target import Target
from compat.transcripts.__main__ import main
from compat.transcripts.play import play
from compat.transcripts.script import ScriptError, parse, read, transcripts
from davfs.dav.application import DavApplication
from davfs.dav.request import DavSettings
from davfs.dav.server import DavServer
from tests.support.memory_drive import MemoryDrive

PROPFIND = "\n> Depth: 1\n< 207\n"


@pytest.fixture(scope="module")
def target() -> Iterator[Target]:
    server = DavServer("127.0.0.1", 0, DavApplication(MemoryDrive("demo"), DavSettings()), threads=4)
    server.start()
    yield Target(f"http://127.0.0.1:{server.port}/demo/")
    server.stop(1)


def _play(target: Target, *steps: str) -> Report:
    text = "client: a test\nsource: none\n== work\n" + "\n".join(
        f"-- {number}\n{step}" for number, step in enumerate(steps)
    )
    return play(parse(text, "test"), target)


def test_what_comes_with_the_package_is_readable_and_names_its_sources() -> None:
    assert {"windows", "office", "finder", "kde", "cyberduck", "winscp", "joplin", "keepass"} <= set(transcripts())
    for path in transcripts().values():
        script = read(path)
        assert script.sources and len(script.operations) > 2


PUT = "> PUT /a.txt\n>\n> text\n< 201\n"
LOCK = (
    "> LOCK /a.txt\n>\n> <D:lockinfo xmlns:D='DAV:'><D:lockscope><D:exclusive/></D:lockscope>"
    "<D:locktype><D:write/></D:locktype></D:lockinfo>\n< 200 201\n"
)


@pytest.mark.parametrize(
    "right",
    [
        PUT + "= file /a.txt text",
        PUT + "< ETag: *",
        "> OPTIONS {path}/\n< 200\n< DAV: 2",
        "> PROPFIND {path}/" + PROPFIND + "= lacks a.txt\n= property resourcetype *\n= property source -",
        "> MKCOL /b\n< 201\n= folder /b\n= gone /c",
        LOCK + "= keep token locktoken",
        "> PUT /a.txt\n> Transfer-Encoding: chunked\n>\n> @generated x 5000\n< 201\n= file /a.txt @generated x 5000",
    ],
)
def test_what_is_right_is_seen_as_right(target: Target, right: str) -> None:
    report = _play(target, right)
    assert len(report.steps) == 1 and not report.failed, report.text()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("> PUT /a.txt\n>\n> text\n< 204", "answered 201, not 204"),
        (PUT + "= file /a.txt other", "the content is b'text'"),
        (PUT + "= file /b.txt text", "answered 404"),
        (PUT + "= gone /a.txt", "should be gone"),
        (PUT + "= folder /a.txt", "not a collection"),
        (PUT + "= folder /b.txt", "should be there"),
        (PUT + "= file /a.txt @generated x 4", "are not the 4"),
        (PUT + "< X-None: *", "no header X-None"),
        (PUT + '< ETag: "other"', "not '\"other\"'"),
        (PUT + "= modified /a.txt Wed, 04 Nov 2020 13:25:51 GMT", "getlastmodified"),
        (LOCK + "= unlocked /a.txt", "locked still"),
        (PUT + "= keep token locktoken", "not XML"),
        ("> PROPFIND {path}/" + PROPFIND + "= has a.txt", "has not ['a.txt']"),
        ("> PROPFIND {path}/" + PROPFIND + "= property source *", "property source"),
        ("> GET {nothing}\n< 200", "nothing was kept as {nothing}"),
    ],
)
def test_what_is_wrong_is_seen(target: Target, wrong: str, said: str) -> None:
    report = _play(target, wrong)
    assert len(report.failed) == 1
    assert said in report.text(), report.text()


def test_what_a_step_keeps_is_sent_by_a_later_one(target: Target) -> None:
    unlock = "> UNLOCK /a.txt\n> Lock-Token: <{token}>\n< 204\n= unlocked /a.txt"
    report = _play(target, PUT, LOCK + "= keep token locktoken", unlock)
    assert len(report.steps) == 3 and not report.failed, report.text()


def test_the_command_takes_names_and_options_in_any_order(target: Target, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([target.url, "--size", "5000", "keepass", "--through", target.url]) == 0
    printed = capsys.readouterr().out
    assert "KeePass" in printed and "Joplin" not in printed


@pytest.mark.parametrize(
    "text",
    [
        "",
        "client: a\nsource: b",
        "client: a\n== x\n-- y\n> GET /\n< 200",
        "client: a\nsource: b\n== x\n-- y\n> GET /",
        "client: a\nsource: b\n-- y\n> GET /\n< 200",
        "client: a\nsource: b\n== x\n-- y\n> GET /\n< OK",
        "client: a\nsource: b\n== x\n-- y\n> GET /\n> no header\n< 200",
        "client: a\nsource: b\n== x\n-- y\n> GET /\n< 200\n= perhaps /a",
        "client: a\nsource: b\n== x\n-- y\n> GET /\n< 200\nsomething else",
    ],
)
def test_what_is_badly_written_is_refused(text: str) -> None:
    with pytest.raises(ScriptError):
        parse(text, "test")


def test_a_failure_stays_in_the_table_whatever_comes_after_it() -> None:
    def absent() -> Report:
        raise ToolMissing("it is not installed")

    one = Report("one")
    one.add("save: a", False, detail="why")
    one.add("save: b", True)
    table = Table(["first", "second"])
    table.add("client", "first", lambda: one, lambda step: step.partition(":")[0])
    table.add("other", "second", absent, str)
    assert table.cells == {("client", "save"): {"first": FAILED}, ("other", "all"): {"second": NOT_RUN}}
    assert table.exit_code == 1
    assert [line.split(" | ")[0] for line in table.text().splitlines()[2:4]] == ["| client", "| other"]
    assert OK not in table.text() and "why" in table.text() and "it is not installed" in table.text()
