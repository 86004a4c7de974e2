"""A model of a disk that loses power: what of the recorded calls is certain, what may be lost, and what is left then.

POSIX promises that what a sync covered is there, and nothing else. So a write, a truncation or a time of a file may be lost
until a sync of that file; a name (made, removed, renamed) until a sync of its directory, a rename from one directory to
another until both are synced; each of them alone, whatever came before or after it. A rename itself is atomic, and so is one
write of up to 512 bytes. (ext4 and others promise more; nothing here relies on that.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.crash.trace import SHARED, Call

SECTOR = 512


@dataclass(slots=True, eq=False)
class Change:
    """One call's effect on a file or on the names of directories. ``number``: of the call; ``sure``: a sync has covered it."""

    number: int
    call: Call
    awaited: set[int]  # the files or directories whose sync makes it certain
    apply: Callable[[dict[int, dict[str, int]]], None] | None = None  # to the names
    sure: bool = False


@dataclass(slots=True)
class _File:
    sure: bytearray = field(default_factory=bytearray)  # the content up to the first change that may be lost
    first: int = -1  # the number of the last change that is in it
    changes: list[Change] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Keep:
    """Which of the changes that may be lost are there after the crash. ``torn``: number -> the bytes of a write that are."""

    name: str
    content: Callable[[Change], bool]
    names: Callable[[Change], bool]
    zeros: bool = False  # a lost write has made its file longer all the same
    torn: Mapping[int, slice] = field(default_factory=dict)


class Disk:
    """Apply calls with :meth:`apply`; :meth:`left` says what a crash leaves now. ``root``: files that are there and certain."""

    def __init__(self, root: Path | None = None) -> None:
        self._names: dict[int, dict[str, int]] = {0: {}}  # as they are certain; directory 0 is the root
        self._live: dict[int, dict[str, int]] = {0: {}}
        self._files: dict[int, _File] = {}
        self._pending_names: list[Change] = []
        self._next = 1
        if root is not None:
            self._take(root, 0)

    def _take(self, folder: Path, number: int) -> None:
        for path in sorted(folder.iterdir()):
            if path.name.endswith(SHARED):
                continue
            node, self._next = self._next, self._next + 1
            self._names[number][path.name] = self._live[number][path.name] = node
            if path.is_dir():
                self._names[node], self._live[node] = {}, {}
                self._take(path, node)
            else:
                self._files[node] = _File(bytearray(path.read_bytes()))

    # --- calls --------------------------------------------------------------------------------------------------------

    def apply(self, number: int, call: Call) -> bool:
        """Let a call take effect; whether it changed anything."""
        folder, name = self._place(call.path)
        node = self._live[folder].get(name) if call.path else 0
        if call.kind in ("create", "mkdir"):
            if node is not None:
                return False
            node, self._next = self._next, self._next + 1
            if call.kind == "mkdir":
                self._names[node], self._live[node] = {}, {}
            else:
                self._files[node] = _File()
            self._change_names(number, call, {folder}, _link(folder, name, node))
        elif call.kind == "remove":
            assert node is not None, call.path
            self._change_names(number, call, {folder}, _unlink(folder, name, node))
        elif call.kind == "rename":
            assert node is not None, call.path
            to, new = self._place(call.target)
            self._change_names(number, call, {folder, to}, _rename(folder, name, to, new, node))
        elif node is None:
            return False  # of a file that was removed
        elif call.kind in ("sync", "sync-data"):
            return self._sync(node, call)
        else:
            self._files[node].changes.append(Change(number, call, {node}))
        return True

    def _change_names(
        self, number: int, call: Call, awaited: set[int], apply: Callable[[dict[int, dict[str, int]]], None]
    ) -> None:
        apply(self._live)
        self._pending_names.append(Change(number, call, awaited, apply))

    def _sync(self, node: int, call: Call) -> bool:
        covered = False
        if node in self._files:
            file = self._files[node]
            for change in file.changes:
                # A sync of the data alone leaves the times for later.
                if change.call.ended < call.begun and not (change.call.kind == "times" and call.kind == "sync-data"):
                    covered = covered or not change.sure
                    change.sure = True
            while file.changes and file.changes[0].sure:
                change = file.changes.pop(0)
                _write(file.sure, change.call)
                file.first = change.number
            return covered
        for change in self._pending_names:
            if change.call.ended < call.begun and node in change.awaited:
                change.awaited.discard(node)
                covered = True
                change.sure = not change.awaited
        while self._pending_names and self._pending_names[0].sure:
            done = self._pending_names.pop(0)
            assert done.apply is not None
            done.apply(self._names)
        return covered

    def _place(self, path: str) -> tuple[int, str]:
        *folders, name = path.split("/")
        number = 0
        for folder in folders:
            number = self._live[number][folder]
        return number, name

    # --- what a crash leaves -------------------------------------------------------------------------------------------

    def pending(self) -> tuple[list[Change], list[Change]]:
        """(changes of contents, changes of names) that may be lost, each by number."""
        contents = [change for file in self._files.values() for change in file.changes if not change.sure]
        return sorted(contents, key=lambda change: change.number), [c for c in self._pending_names if not c.sure]

    def left(self, keep: Keep) -> Left:
        """The files and directories that are there after a crash now; good until the next call is applied."""
        names = self._names
        if self._pending_names:
            names = {folder: dict(entries) for folder, entries in self._names.items()}
            for change in self._pending_names:
                if change.sure or keep.names(change):
                    assert change.apply is not None
                    change.apply(names)
        left = Left(keep)
        self._walk(names, 0, "", left)
        return left

    def _walk(self, names: dict[int, dict[str, int]], folder: int, path: str, left: Left) -> None:
        for name, node in sorted(names[folder].items()):
            if node in self._files:
                left.files[path + name] = self._content(node, left.keep)
            else:
                left.folders.append(path + name)
                self._walk(names, node, f"{path}{name}/", left)

    def _content(self, node: int, keep: Keep) -> Content:
        file = self._files[node]
        kept: list[Change] = []
        lost: list[Change] = []
        until = 0  # so many were lost before the last that is kept
        for change in file.changes:
            if change.call.kind == "times":
                continue
            if change.sure or change.number in keep.torn or keep.content(change):
                kept.append(change)
                until = len(lost)
            else:
                lost.append(change)
        grown = keep.zeros and any(change.call.kind == "write" for change in lost)
        if not grown:
            del lost[until:]
        torn = tuple((c.number, keep.torn[c.number].start) for c in kept if c.number in keep.torn) if keep.torn else ()
        last = kept[-1].number if kept else file.first
        return Content(
            (node, last, tuple(change.number for change in lost), torn, grown), file.sure, kept, lost if grown else []
        )


@dataclass(frozen=True, slots=True)
class Content:
    """A file's after a crash. ``key`` is the same for contents that are the same. ``grown``: lost writes that count."""

    key: tuple[object, ...]
    sure: bytearray
    kept: list[Change]
    grown: list[Change]

    def bytes(self, keep: Keep) -> bytearray:
        content = bytearray(self.sure)
        for change in sorted([*self.kept, *self.grown], key=lambda change: change.number):
            if change.sure or change.number in keep.torn or keep.content(change):
                _write(content, change.call, keep.torn.get(change.number))
            elif change.call.kind == "write":
                _lengthen(content, change.call.offset + len(change.call.data))
        return content


@dataclass(slots=True)
class Left:
    """What is on the disk after a crash."""

    keep: Keep
    folders: list[str] = field(default_factory=list)
    files: dict[str, Content] = field(default_factory=dict)

    @property
    def key(self) -> tuple[object, ...]:
        """The same for states that are the same."""
        return (*self.folders, *((path, content.key) for path, content in self.files.items()))

    def build(self, root: Path) -> None:
        """Make it below ``root``."""
        root.mkdir(parents=True, exist_ok=True)
        for folder in self.folders:
            (root / folder).mkdir(mode=0o700)
        for path, content in self.files.items():
            (root / path).write_bytes(content.bytes(self.keep))


def _write(content: bytearray, call: Call, part: slice | None = None) -> None:
    if call.kind == "truncate":
        del content[call.offset :]
        _lengthen(content, call.offset)
    elif call.kind == "write":
        start = call.offset + (part.start if part is not None else 0)
        data = call.data if part is None else call.data[part]
        _lengthen(content, start)
        content[start : start + len(data)] = data


def _lengthen(content: bytearray, size: int) -> None:
    content.extend(bytes(max(0, size - len(content))))


def _link(folder: int, name: str, node: int) -> Callable[[dict[int, dict[str, int]]], None]:
    def apply(names: dict[int, dict[str, int]]) -> None:
        names[folder][name] = node

    return apply


def _unlink(folder: int, name: str, node: int) -> Callable[[dict[int, dict[str, int]]], None]:
    def apply(names: dict[int, dict[str, int]]) -> None:
        if names[folder].get(name) == node:
            del names[folder][name]

    return apply


def _rename(folder: int, name: str, to: int, new: str, node: int) -> Callable[[dict[int, dict[str, int]]], None]:
    def apply(names: dict[int, dict[str, int]]) -> None:
        if names[folder].get(name) == node:
            del names[folder][name]
            names[to][new] = node

    return apply


def crashes(disk: Disk, spread: Callable[[list[Change]], Iterable[Change]]) -> Iterable[Keep]:
    """The ways in which a disk may be left by a crash now. ``spread`` chooses among many changes that may be lost."""
    contents, names = disk.pending()
    every, none = (lambda change: True), (lambda change: False)
    yield Keep("all", every, every)
    if contents or names:
        yield Keep("synced", none, none)
    if contents and names:
        yield Keep("names", none, every)
        yield Keep("contents", every, none)
    if any(change.call.kind == "write" for change in contents):
        yield Keep("zeros", none, every, zeros=True)
    pending = sorted([c for c in contents if c.call.kind != "times"] + names, key=lambda change: change.number)
    for one in spread(pending):
        number = one.number
        if len(pending) > 1:
            without = lambda change, number=number: change.number != number  # noqa: E731
            yield Keep("one lost", without, without)
            only = lambda change, number=number: change.number == number  # noqa: E731
            yield Keep("one kept", only, only)
            until = lambda change, number=number: change.number < number  # noqa: E731
            yield Keep("first ones", until, until)
        if one.call.kind == "write" and len(one.call.data) > SECTOR:
            middle = len(one.call.data) // 2 // SECTOR * SECTOR or SECTOR
            others = lambda change, number=number: change.number != number  # noqa: E731
            yield Keep("torn: front", others, others, torn={number: slice(0, middle)})
            yield Keep("torn: back", others, others, torn={number: slice(middle, len(one.call.data))})
