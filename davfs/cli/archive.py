"""A volume as a tar archive (POSIX.1-2001, pax): what each entry's headers hold, written and read as a stream.

Beside what tar has (path, size, mtime to the nanosecond) an entry's pax header has ``LIBARCHIVE.creationtime``, and in JSON
``DAVFS.properties`` (Clark name to XML) and ``DAVFS.digests``. The archive begins with a global header ``DAVFS.volume``: JSON,
format, name, position and how many entries follow, so that an archive that was cut is told from a whole one. Any tar reads
them; archives of other programs are read too. Memory is bounded whatever the number of entries. Opens and asks nothing.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import IO, Any

from davfs.core.errors import CorruptData, UnknownFormat
from davfs.core.model import DIRECTORY, FILE

FORMAT = 1
BLOCK = 512
RECORD = 20 * BLOCK
READ_BYTES = 1 << 20

_VOLUME = "DAVFS.volume"
_PROPERTIES = "DAVFS.properties"
_DIGESTS = "DAVFS.digests"
_CREATED = "LIBARCHIVE.creationtime"
_DAMAGED = (tarfile.TarError, EOFError, OSError, ValueError)


@dataclass(frozen=True, slots=True)
class Member:
    """An entry of an archive. ``path``: names from the root; empty for the root itself."""

    path: tuple[str, ...]
    kind: str
    mtime_ns: int
    created_ns: int | None = None
    size: int = 0
    properties: Mapping[str, str] = field(default_factory=dict)
    digests: Mapping[str, str] = field(default_factory=dict)


class Writer:
    """Writes an archive to ``write``, which takes all that it is given."""

    def __init__(self, write: Callable[[bytes], Any], volume: str, position: Any, entries: int) -> None:
        self._write = write
        self._written = 0
        about = {"format": FORMAT, "volume": volume, "position": position, "entries": entries}
        self._put(tarfile.TarInfo.create_pax_global_header({_VOLUME: json.dumps(about)}))

    def add(self, member: Member, blocks: Iterable[bytes | memoryview]) -> None:
        """One entry with its bytes; :class:`CorruptData` if they are not as many as it says."""
        self._put(_header(member))
        size = 0
        for block in blocks:
            size += len(block)
            self._put(block)
        if size != member.size:
            raise CorruptData(f"/{'/'.join(member.path)} has {size} bytes and not {member.size}")
        self._put(bytes(-size % BLOCK))

    def close(self) -> None:
        """The end mark; without it an archive is not whole."""
        self._put(bytes(2 * BLOCK))
        self._put(bytes(-self._written % RECORD))

    def _put(self, data: bytes | memoryview) -> None:
        self._written += len(data)
        self._write(bytes(data))


def _header(member: Member) -> bytes:
    info = tarfile.TarInfo("/".join(member.path) or ".")
    info.type = tarfile.DIRTYPE if member.kind == DIRECTORY else tarfile.REGTYPE
    info.mode = 0o755 if member.kind == DIRECTORY else 0o644
    info.size = member.size
    info.mtime = member.mtime_ns // 1_000_000_000
    headers: dict[str, str] = {}
    if member.mtime_ns % 1_000_000_000 or member.mtime_ns < 0:
        headers["mtime"] = _seconds(member.mtime_ns)
    if member.created_ns is not None:
        headers[_CREATED] = _seconds(member.created_ns)
    for key, value in ((_PROPERTIES, member.properties), (_DIGESTS, member.digests)):
        if value:
            headers[key] = json.dumps(dict(value), ensure_ascii=False)
    info.pax_headers = headers
    return info.tobuf(tarfile.PAX_FORMAT)


class Reader:
    """Reads an archive from a stream, also a compressed one. ``entries``: how many it says it has, None for another's."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.entries: int | None = None
        try:
            self._tar = tarfile.open(fileobj=stream, mode="r|*", bufsize=READ_BYTES)  # noqa: SIM115  closed by its owner
        except (*_DAMAGED, TypeError) as error:  # TypeError: tarfile, of a gzip header that is cut
            raise CorruptData(f"this is no tar archive: {error}") from error
        self._look_at(self._tar.pax_headers)

    def members(self) -> Iterator[tuple[Member | str, Callable[[int], bytes]]]:
        """Each entry with a function that reads its bytes, in order; a text instead of an entry of a kind that WebDAV does
        not know (a link, a device). :class:`CorruptData` where the archive is damaged or cut."""
        count = 0
        while (info := self._next()) is not None:
            self._tar.members = []  # type: ignore[attr-defined]  # else it remembers each entry that it ever read
            count += 1
            if not info.isreg() and not info.isdir():
                yield f"{info.name!r} is a link or a device", lambda size: b""
                continue
            file = self._tar.extractfile(info)
            yield _member(info), self._reading(info.name, file)
        if self.entries is not None and count < self.entries:
            raise CorruptData(f"the archive is cut: it has {count} of {self.entries} entries")

    def _next(self) -> tarfile.TarInfo | None:
        try:
            return self._tar.next()
        except _DAMAGED as error:
            raise CorruptData(f"the archive is damaged or cut: {error}") from error

    def _reading(self, name: str, file: IO[bytes] | None) -> Callable[[int], bytes]:
        def read(size: int) -> bytes:
            try:
                return b"" if file is None else file.read(size)
            except _DAMAGED as error:
                raise CorruptData(f"the archive is damaged or cut within {name!r}: {error}") from error

        return read

    def _look_at(self, headers: Mapping[str, str]) -> None:
        if _VOLUME not in headers:
            return
        try:
            about = json.loads(headers[_VOLUME])
            version, self.entries = about["format"], int(about["entries"])
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise CorruptData(f"the head of the archive is damaged: {error}") from error
        if version != FORMAT:
            raise UnknownFormat(f"the archive has format {version}; this davfs knows format {FORMAT}")


def _member(info: tarfile.TarInfo) -> Member:
    names = tuple(name for name in info.name.split("/") if name not in ("", "."))
    headers = info.pax_headers
    try:
        created = headers.get(_CREATED)
        return Member(
            names,
            DIRECTORY if info.isdir() else FILE,
            _nanoseconds(headers["mtime"]) if "mtime" in headers else int(info.mtime * 1_000_000_000),
            None if created is None else _nanoseconds(created),
            info.size if info.isreg() else 0,
            json.loads(headers.get(_PROPERTIES, "{}")),
            json.loads(headers.get(_DIGESTS, "{}")),
        )
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise CorruptData(f"the head of {info.name!r} in the archive is damaged: {error}") from error


def _seconds(ns: int) -> str:
    """Whole nanoseconds as decimal seconds, exactly."""
    whole, rest = divmod(abs(ns), 1_000_000_000)
    return f"{'-' if ns < 0 else ''}{whole}.{rest:09d}".rstrip("0").rstrip(".")


def _nanoseconds(text: str) -> int:
    """The inverse; further digits are cut off. ValueError for anything that is no number."""
    whole, _, rest = text.strip().partition(".")
    digits = rest[:9]
    if digits and not (digits.isascii() and digits.isdigit()):
        raise ValueError(f"not a time: {text!r}")
    ns = abs(int(whole or "0")) * 1_000_000_000 + int(digits.ljust(9, "0") or "0")
    return -ns if whole.startswith("-") else ns
