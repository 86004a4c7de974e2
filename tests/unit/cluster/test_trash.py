"""The trash: what is deleted or overwritten is kept, found, thinned out, and comes back where it was."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path as Folder

import pytest

from davfs.cluster import trash, undelete, versions
from davfs.cluster.api import Caller, PartPlace
from davfs.cluster.clock import BootClock
from davfs.cluster.holder import Holder
from davfs.core.errors import AlreadyExists, Forbidden, NotFound
from davfs.core.model import Entry, Path
from davfs.core.names import TRASH_NAME
from davfs.core.ports import Trashed
from tests.scale.local import Alone, alone

MINUTE_NS = 60 * 10**9
SHOWN = (TRASH_NAME,)


class Clock(BootClock):
    """A wall clock that a test moves on."""

    later_ns = 0

    def wall_ns(self) -> int:
        return super().wall_ns() + self.later_ns


class Drive:
    """The volume of one node, as its clients use it."""

    def __init__(self, own: Alone) -> None:
        self.held = own.held
        self.holder: Holder = own.holder
        self.run = own.runtime.run
        self.clock = own.holder.site.clock = Clock()
        self._requests = 0

    def caller(self) -> Caller:
        self._requests += 1
        return Caller("ann", request_id=f"request-{self._requests}")

    def put(self, *path: str, data: bytes) -> Entry:
        read = io.BytesIO(data).read
        return self.held.put(path, read, len(data), mtime_ns=None, condition=lambda entry: None, caller=self.caller())[0]

    def mkcol(self, *path: str) -> None:
        self.held.mkcol(path, condition=lambda entry: None, caller=self.caller())

    def delete(self, *path: str) -> None:
        self.held.delete(path, condition=lambda entry: None, caller=self.caller())

    def get(self, *path: str) -> bytes:
        content = self.held.open(path)
        return b"".join(content.read(0, content.entry.size))

    def tops(self) -> list[Trashed]:
        with self.holder.replica.store.view() as view:
            return view.trash((0, ""), 1000)

    def shown(self) -> list[str]:
        return [entry.name for entry, _ in self.held.members(SHOWN)]

    def restore(self, inode: str, to: Path | None = None) -> Path:
        return self.run(undelete.restore(self.holder, inode, to, self.caller()))


@pytest.fixture
def drive(tmp_path: Folder) -> Iterator[Drive]:
    with alone(tmp_path / "v.sqlite", "ab" * 16) as own:
        yield Drive(own)


def test_a_deleted_file_says_where_it_was_and_comes_back(drive: Drive) -> None:
    drive.mkcol("Papers")
    drive.put("Papers", "report.txt", data=b"a year's work")
    drive.delete("Papers", "report.txt")
    (top,) = drive.tops()
    assert (top.path, top.who, top.earlier_of) == ("Papers/report.txt", "ann", "")
    assert abs(drive.clock.wall_ns() - top.since_ns) < MINUTE_NS
    (name,) = drive.shown()
    assert name.startswith("report (deleted 20")
    assert name.endswith(f" {top.entry.inode}).txt")
    assert drive.get(TRASH_NAME, name) == b"a year's work"
    assert drive.held.lookup((TRASH_NAME, "report.txt")) is None
    assert [entry.name for entry in drive.held.children(())] == ["Papers"]
    drive.delete("Papers")
    assert drive.restore(top.entry.inode) == ("Papers", "report.txt")  # its collection is made anew
    assert drive.get("Papers", "report.txt") == b"a year's work"
    assert [left.path for left in drive.tops()] == ["Papers"]
    with pytest.raises(NotFound):
        drive.restore(top.entry.inode)


def test_a_tree_is_browsed_and_comes_back_whole(drive: Drive) -> None:
    drive.mkcol("a")
    drive.mkcol("a", "b")
    drive.put("a", "b", "deep", data=b"down here")
    drive.delete("a")
    (name,) = drive.shown()
    assert [entry.name for entry in drive.held.children((TRASH_NAME, name, "b"))] == ["deep"]
    assert drive.get(TRASH_NAME, name, "b", "deep") == b"down here"
    assert drive.held.lookup((TRASH_NAME, name, "no")) is None
    drive.mkcol("a")
    with pytest.raises(AlreadyExists):
        drive.restore(drive.tops()[0].entry.inode)
    assert drive.restore(drive.tops()[0].entry.inode, ("x", "y", "z")) == ("x", "y", "z")
    assert drive.get("x", "y", "z", "b", "deep") == b"down here"
    assert drive.tops() == []


def test_nothing_is_put_into_the_trash_by_name(drive: Drive) -> None:
    with pytest.raises(Forbidden):
        drive.mkcol(TRASH_NAME)
    drive.put("file", data=b"x")
    with pytest.raises(Forbidden):
        drive.held.move(
            ("file",), (TRASH_NAME, "file"), overwrite=True, condition=lambda entry: None, caller=drive.caller()
        )
    drive.delete("file")
    with pytest.raises(Forbidden):
        drive.restore(drive.tops()[0].entry.inode, (TRASH_NAME, "file"))


def test_an_overwritten_content_is_kept_by_the_record_that_replaces_it(drive: Drive) -> None:
    drive.put("file", data=b"first")
    drive.put("file", data=b"saved at once")  # none of its first minute
    assert drive.tops() == []
    drive.clock.later_ns += 2 * MINUTE_NS
    before = drive.holder.log.last.seq
    entry = drive.put("file", data=b"second")
    assert drive.holder.log.last.seq == before + 1
    drive.put("file", data=b"third")  # within a minute of the last that was kept
    (top,) = drive.tops()
    assert (top.path, top.who, top.earlier_of) == ("file", "ann", entry.inode)
    assert drive.get(TRASH_NAME, *drive.shown()) == b"saved at once"
    with pytest.raises(AlreadyExists):
        drive.restore(top.entry.inode)
    drive.restore(top.entry.inode, ("file of before",))
    assert (drive.get("file"), drive.get("file of before")) == (b"third", b"saved at once")


def test_a_part_keeps_what_was_there_and_the_same_again_nothing(drive: Drive) -> None:
    drive.put("file", data=b"0123456789")
    drive.clock.later_ns += 2 * MINUTE_NS
    drive.put("file", data=b"0123456789")
    assert drive.tops() == []
    drive.held.write_part(
        ("file",), PartPlace(2), io.BytesIO(b"xx").read, 2,
        mtime_ns=None, condition=lambda entry: None, caller=drive.caller(),
    )  # fmt: skip
    assert drive.get("file") == b"01xx456789"
    assert drive.get(TRASH_NAME, *drive.shown()) == b"0123456789"


def test_what_is_due_goes_and_the_rest_stays(drive: Drive) -> None:
    day = 24 * 60 * MINUTE_NS
    drive.put("old", data=b"x")
    drive.delete("old")
    drive.clock.later_ns += 6 * day
    drive.put("new", data=b"y")
    drive.delete("new")
    assert drive.run(trash.empty(drive.holder)) == 0
    drive.clock.later_ns += day + MINUTE_NS
    assert drive.run(trash.empty(drive.holder)) == 1
    assert [top.path for top in drive.tops()] == ["new"]
    assert drive.run(trash.empty(drive.holder, before_ns=drive.clock.wall_ns())) == 1
    assert drive.tops() == []


def test_earlier_contents_are_thinned_out(drive: Drive) -> None:
    for number in range(versions.MOST + 4):
        drive.put("file", data=b"%d" % number)
        drive.clock.later_ns += 2 * MINUTE_NS
    assert len(drive.tops()) == versions.MOST + 3
    assert drive.run(trash.empty(drive.holder)) == 3
    left = [drive.get(TRASH_NAME, name) for name in drive.shown()]
    assert (len(left), left[0], left[-1]) == (versions.MOST, b"0", b"%d" % (versions.MOST + 2))
    assert drive.run(trash.empty(drive.holder)) == 0


def test_those_that_lie_closest_go_first() -> None:
    times = [0, 1, 2, 100, 200, 201, 202, 300]
    earlier = [(str(time), time) for time in times]
    assert versions.too_many(earlier, 8) == []
    gone = versions.too_many(earlier, 6)
    assert set(gone) == {"1", "201"}


def test_copy_and_move_take_things_out(drive: Drive) -> None:
    def take(method: str, *source: str, to: Path) -> bool:
        more = {"shallow": False} if method == "copy" else {}
        return bool(
            getattr(drive.held, method)(
                source, to, overwrite=True, condition=lambda entry: None, caller=drive.caller(), **more
            )
        )

    drive.mkcol("d")
    drive.mkcol("d", "e")
    drive.put("d", "e", "f", data=b"inside")
    drive.put("large", data=bytes(200_000))
    drive.put("there", data=b"in the way")
    drive.delete("d")
    drive.delete("large")
    directory, large = (next(name for name in drive.shown() if name.startswith(start)) for start in ("d ", "large "))
    used = drive.held.quota()[0]
    assert take("copy", *SHOWN, directory, "e", "f", to=("f",))
    assert take("copy", *SHOWN, directory, to=("d2",))
    assert (drive.get("f"), drive.get("d2", "e", "f")) == (b"inside", b"inside")
    assert drive.held.quota()[0] == used + 12
    assert take("move", *SHOWN, directory, to=("d",))
    assert drive.get("d", "e", "f") == b"inside"
    assert not take("move", *SHOWN, large, to=("there",))
    assert drive.get("there") == bytes(200_000)
    assert [name.partition(" ")[0] for name in drive.shown()] == ["there"]  # what was in the way
    assert drive.held.quota()[0] == used + 12
    for method, source in (("move", (*SHOWN, directory)), ("copy", (*SHOWN, "nothing")), ("move", (*SHOWN, large))):
        with pytest.raises(NotFound):
            take(method, *source, to=("x",))
    top = drive.shown()[0]
    places: list[tuple[str, Path, Path]] = [
        ("copy", SHOWN, ("x",)),
        ("move", SHOWN, ("x",)),
        ("copy", ("f",), (*SHOWN, "f")),
        ("move", (*SHOWN, top), (*SHOWN, "again")),
    ]
    for method, place, target in places:
        with pytest.raises(Forbidden):
            take(method, *place, to=target)
    drive.delete("d")
    inner = next(name for name in drive.shown() if name.startswith("d "))
    with pytest.raises(Forbidden):
        take("move", *SHOWN, inner, "e", to=("x",))
