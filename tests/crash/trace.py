"""The system calls of a real process that change files, in the order in which they took effect, with all their bytes.

``strace`` records them: it sees Python's writes and SQLite's alike, needs no kernel module and changes nothing in the process.
Of a call that other threads' calls overlap it says when it began and when it ended: a sync covers what had ended before.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

CALLS = (
    "open,openat,creat,write,pwrite64,writev,pwritev,pwritev2,lseek,fsync,fdatasync,sync_file_range,rename,renameat,renameat2,"
    "unlink,unlinkat,rmdir,mkdir,mkdirat,ftruncate,truncate,fallocate,link,linkat,symlink,symlinkat,utimensat,copy_file_range,"
    "sendfile,mmap,sendto,sendmsg"
)
MARK = "/crash-point/"
"""A path that nobody has: opening it is how a traced program says where it is."""

SHARED = "-shm"
"""SQLite's shared memory: no durable state, made anew when the first process opens the database."""

_UNFINISHED = "<unfinished ...>"
_RESUMED = re.compile(r"<\.\.\. \w+ resumed>")
_RESULT = re.compile(r"\) += (-?\d+)(?:<[^>]*>)?(?: [A-Z].*)?$")
_QUOTED = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
_FD = re.compile(r"^(AT_FDCWD|-?\d+)(?:<(.*)>)?(\(deleted\))?$")


class Unsupported(Exception):
    """davfs changed a file in a way that the model of the disk does not know."""


@dataclass(frozen=True, slots=True)
class Call:
    """One change. ``path``: from the traced root, ``/``-separated, "" the root itself. ``begun`` and ``ended``: line numbers.

    ``kind``: create, truncate (to ``offset``), write (``data`` at ``offset``), times, sync, sync-data, mkdir, rename (to
    ``target``), remove; and what is said to others: answer (the first bytes of an HTTP answer in ``data``), mark (its name in
    ``path``).
    """

    kind: str
    path: str
    begun: int
    ended: int
    offset: int = 0
    data: bytes = b""
    target: str = ""


@dataclass
class _Reader:
    root: str
    port: int
    positions: dict[int, int] = field(default_factory=dict)

    def calls(self, lines: TextIO) -> Iterator[Call]:
        open_calls: dict[str, tuple[int, str]] = {}
        for number, line in enumerate(lines):
            pid, _, text = line.rstrip("\n").partition(" ")
            text, begun = text.lstrip(), number
            if text.endswith(_UNFINISHED):
                open_calls[pid] = (number, text.removesuffix(_UNFINISHED))
                continue
            if text.startswith("<... "):
                begun, start = open_calls.pop(pid)
                text = start + _RESUMED.sub("", text, count=1)
            end = text.rfind(") ")
            result = _RESULT.match(text, end) if end >= 0 else None
            if result is None:
                continue  # a signal, or the end of a thread
            name, _, arguments = text[:end].partition("(")
            yield from self._call(name, arguments, int(result[1]), begun, number)

    def _call(self, name: str, text: str, result: int, begun: int, ended: int) -> Iterator[Call]:
        if name in ("open", "openat", "creat"):
            yield from self._open(name, text, result, begun, ended)
            return
        if name in ("sendto", "sendmsg"):
            if result > 0 and f"TCP:[127.0.0.1:{self.port}-" in _plain(text.split(",", 1)[0]):
                data = _bytes(text)
                if data.startswith(b"HTTP/1.1 ") and not data.startswith(b"HTTP/1.1 100"):
                    yield Call("answer", "", begun, begun, data=data[:64])  # it may be gone as soon as it begins
            return
        if result < 0:
            return
        parts = _split(text)
        if name in ("mkdir", "mkdirat", "unlink", "unlinkat", "rmdir", "rename", "renameat", "renameat2"):
            paths = self._paths(name, parts)
            if any(path is not None for path in paths):
                if str(paths[0]).endswith(SHARED):
                    return
                if None in paths:
                    raise Unsupported(f"{name} across the root: {paths}")
                kind = {"m": "mkdir", "u": "remove", "r": "rename"}[name[0]] if name != "rmdir" else "remove"
                yield Call(kind, str(paths[0]), begun, ended, target=str(paths[1]) if len(paths) > 1 else "")
            return
        yield from self._on_file(name, parts, text, result, begun, ended)

    def _on_file(self, name: str, parts: list[str], text: str, result: int, begun: int, ended: int) -> Iterator[Call]:
        if name == "truncate":
            path, fd = self._inside(_bytes(parts[0]).decode()), -1
        elif name == "utimensat" and parts[1] != "NULL":
            base = "" if parts[0].startswith("AT_FDCWD") else _path_of(parts[0])[1] + "/"
            path, fd = self._inside(_joined(base, _bytes(parts[1]).decode())), -1
        elif name == "mmap":
            if "MAP_SHARED" not in parts[3] or "PROT_WRITE" not in parts[2] or parts[4].startswith("-1"):
                return
            fd, where = _path_of(parts[4])
            path = self._inside(where)
        else:
            fd, where = _path_of(parts[0])
            path = self._inside(where)
        if path is None or path.endswith(SHARED):
            return
        if name in ("fsync", "fdatasync"):
            yield Call("sync" if name == "fsync" else "sync-data", path, begun, ended)
        elif name in ("ftruncate", "truncate"):
            yield Call("truncate", path, begun, ended, offset=int(parts[1]))
        elif name == "pwrite64":
            yield Call("write", path, begun, ended, offset=int(parts[3]), data=_bytes(parts[1])[:result])
        elif name in ("write", "writev"):
            at = self.positions.get(fd, 0)
            self.positions[fd] = at + result
            yield Call("write", path, begun, ended, offset=at, data=_bytes(parts[1])[:result])
        elif name == "lseek":
            self.positions[fd] = result
        elif name == "utimensat":
            yield Call("times", path, begun, ended)
        else:
            raise Unsupported(f"{name} of {path}")

    def _open(self, name: str, text: str, result: int, begun: int, ended: int) -> Iterator[Call]:
        parts = _split(text)
        at = "AT_FDCWD" if name != "openat" else parts.pop(0)
        said = _bytes(parts[0]).decode()
        if said.startswith(MARK):
            yield Call("mark", said.removeprefix(MARK), begun, ended)
        if result < 0:
            return
        self.positions[result] = 0
        flags = "O_CREAT|O_TRUNC" if name == "creat" else parts[1]
        path = self._inside(_joined("" if at.startswith("AT_FDCWD") else _path_of(at)[1] + "/", said))
        if path is None or path.endswith(SHARED):
            return
        if "O_APPEND" in flags or "O_TMPFILE" in flags:
            raise Unsupported(f"open of {path} with {flags}")
        if "O_CREAT" in flags:
            yield Call("create", path, begun, ended)  # nothing, if it is there
        if "O_TRUNC" in flags:
            yield Call("truncate", path, begun, ended)

    def _paths(self, name: str, parts: list[str]) -> list[str | None]:
        if name in ("mkdirat", "unlinkat"):
            pairs = [(parts[0], parts[1])]
        elif name in ("renameat", "renameat2"):
            pairs = [(parts[0], parts[1]), (parts[2], parts[3])]
        elif name == "rename":
            pairs = [("AT_FDCWD", parts[0]), ("AT_FDCWD", parts[1])]
        else:
            pairs = [("AT_FDCWD", parts[0])]
        return [
            self._inside(_joined("" if at.startswith("AT_FDCWD") else _path_of(at)[1] + "/", _bytes(text).decode()))
            for at, text in pairs
        ]

    def _inside(self, path: str) -> str | None:
        if path == self.root:
            return ""
        return path.removeprefix(self.root + "/") if path.startswith(self.root + "/") else None


def read(file: Path, root: Path, port: int = 0) -> list[Call]:
    """The calls of a trace that change something below ``root``, by the line in which they ended; with the HTTP answers that
    were sent from ``port``. :class:`Unsupported` for a change that the model does not know."""
    with file.open(encoding="ascii") as lines:
        calls = list(_Reader(str(root), port).calls(lines))
    return sorted(calls, key=lambda call: call.ended)


def command(trace: Path) -> list[str]:
    """What to put before a program's words so that its calls are recorded in ``trace``."""
    return [
        "strace",
        "-f",
        "--seccomp-bpf",
        "-yy",
        "-xx",
        "-s",
        "100000000",
        "-qq",
        "-o",
        str(trace),
        "-e",
        f"trace={CALLS}",
    ]


def _joined(base: str, path: str) -> str:
    return path if path.startswith("/") else base + path


def _plain(text: str) -> str:
    """Text in which strace wrote bytes as ``\\xNN``."""
    return re.sub(
        r"(?:\\x[0-9a-f]{2})+", lambda match: bytes.fromhex(match[0].replace("\\x", "")).decode("latin1"), text
    )


def _bytes(text: str) -> bytes:
    """All quoted strings of an argument, one behind the other: a buffer, or the parts of a vector."""
    return b"".join(bytes.fromhex(match.replace("\\x", "")) for match in _QUOTED.findall(text))


def _path_of(text: str) -> tuple[int, str]:
    """(number, path) of a descriptor; no path if the file was removed."""
    match = _FD.match(text)
    if match is None:
        raise Unsupported(f"not a descriptor: {text[:200]}")
    where = _plain(match[2] or "")
    gone = match[3] or where.endswith("(deleted)")
    return (-100 if match[1] == "AT_FDCWD" else int(match[1])), "" if gone else where


def _split(text: str) -> list[str]:
    """A call's arguments: between commas that are in no brackets. Quoted bytes are hex, and so hold none."""
    parts, depth, start = [], 0, 0
    for match in re.finditer(r"[\[\]{}<>,()]", text):
        mark = match[0]
        if mark in "[{<(":
            depth += 1
        elif mark in "]})" or (mark == ">" and text[match.start() - 1] != "-"):
            depth -= 1
        elif mark == "," and not depth:
            parts.append(text[start : match.start()].strip())
            start = match.end()
    return [*parts, text[start:].strip()]
