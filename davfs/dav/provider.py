"""WsgiDAV over the drive: PROPPATCH, the HTML listings of collections, and the base for what davfs does not do itself.

One provider stands at ``/`` (WsgiDAV finds no share whose name has capitals). davfs's own handlers stand in front of it where
WsgiDAV is wrong or slow (docs/dav-compliance.md); locks belong to the volume, so WsgiDAV gets no lock manager.
This module and browse.py alone import wsgidav.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from typing import Any

from wsgidav.dav_error import HTTP_FORBIDDEN, DAVError, DAVErrorCondition
from wsgidav.dav_provider import DAVCollection, DAVNonCollection, DAVProvider
from wsgidav.xml_tools import etree

from davfs.cluster.api import Content, Volume
from davfs.core.errors import InvalidInput
from davfs.core.model import ROOT, Entry
from davfs.dav import xml
from davfs.dav.access import Access
from davfs.dav.checksums import OC_CHECKSUMS, oc_checksums
from davfs.dav.dates import SECOND, parse_any
from davfs.dav.properties import PROTECTED, content_type
from davfs.dav.proppatch import Staged

STAGED = "davfs.staged"
REQUEST = "davfs.request"
VOLUME = "davfs.volume"
TEXTS = "davfs.texts"

_WIN32 = "{urn:schemas-microsoft-com:}"
# {DAV:}lastmodified is what rclone and ownCloud's clients set, in seconds since 1970.
_MTIME = frozenset({xml.DAV + "getlastmodified", xml.DAV + "lastmodified", _WIN32 + "Win32LastModifiedTime"})
# Windows sets these after every PUT and reports a failure when it cannot; the drive has no place for them.
_ACCEPTED = frozenset(
    {
        xml.DAV + "creationdate",
        _WIN32 + "Win32CreationTime",
        _WIN32 + "Win32LastAccessTime",
        _WIN32 + "Win32FileAttributes",
    }
)


class DriveProvider(DAVProvider):
    """The whole drive as WsgiDAV sees it. The environment brings the request and the volume that it is about."""

    def __init__(self, access: Access) -> None:
        super().__init__()
        self.access = access

    def get_resource_inst(self, path: str, environ: dict[str, Any]) -> _Folder | _File | _Volumes | None:
        """The resource at ``/volume/name/...``, None if there is none."""
        names = tuple(name for name in path.split("/") if name)
        if not names:
            return _Volumes(environ)
        volume: Volume | None = environ.get(VOLUME)
        if volume is None or volume.info.name != names[0]:
            return None
        entry = volume.lookup(names[1:])
        return None if entry is None else _resource(path, environ, volume, entry)

    def custom_request_handler(
        self, environ: dict[str, Any], start_response: Callable[..., Any], default_handler: Callable[..., Any]
    ) -> Iterable[bytes]:
        """PROPPATCH: WsgiDAV collects the changes on the resource, one record of the volume makes them all."""
        if environ["REQUEST_METHOD"] != "PROPPATCH":
            answer: Iterable[bytes] = default_handler(environ, start_response)
            return answer
        staged = environ[STAGED] = Staged()
        begun: list[tuple[Any, ...]] = []
        blocks = list(default_handler(environ, lambda *args: begun.append(args)))
        request, volume = environ[REQUEST], environ[VOLUME]
        staged.commit(request, volume)
        start_response(*begun[-1])
        return blocks


class _Shown:
    """Mixed into WsgiDAV's classes: how the client names a resource, whatever proxies put before its path."""

    environ: dict[str, Any]

    def get_href(self) -> str:
        href: str = super().get_href()  # type: ignore[misc]  # of WsgiDAV's class beside this one
        return str(self.environ[REQUEST].base) + href


class _Shared(_Shown):
    """What files and folders have in common. Mixed into WsgiDAV's classes."""

    entry: Entry
    volume: Volume

    def get_creation_date(self) -> float:
        return self.entry.created_ns / SECOND

    def get_last_modified(self) -> float:
        return self.entry.mtime_ns / SECOND

    def get_etag(self) -> str | None:
        return self.entry.etag or None

    def support_etag(self) -> bool:
        return bool(self.entry.etag)

    def set_property_value(self, name: str, value: Any, *, dry_run: bool = False) -> None:
        """Stage a change of a property (``value`` None removes it). DAVError for what cannot be changed."""
        root_time = name == xml.DAV + "getlastmodified" and self.entry.inode == ROOT
        if name in PROTECTED or root_time or (value is None and name in (*_MTIME, OC_CHECKSUMS)):
            raise DAVError(HTTP_FORBIDDEN, err_condition=DAVErrorCondition("{DAV:}cannot-modify-protected-property"))
        staged: Staged = self.environ[STAGED]
        if name in _MTIME:
            try:
                mtime_ns = parse_any(value.text or "")
            except InvalidInput as error:
                raise DAVError(409, error.message) from error
            if not dry_run:
                staged.mtime_ns = mtime_ns
        elif name == OC_CHECKSUMS:
            self._compare_checksums(value)
        elif not dry_run and name not in _ACCEPTED:
            if value is None:
                staged.remove(name)
            else:
                value.tail = None
                text = self.environ[TEXTS].get(name)  # as the client wrote it, where that could be told
                staged.set(name, text or etree.tostring(value, encoding="unicode"))


    def _compare_checksums(self, value: Any) -> None:
        """rclone repeats a file's checksums when it sets its time: right ones are kept already, wrong ones a conflict.

        What was never announced with the content itself is not kept: nobody has checked it.
        """
        known = dict(self.volume.digests(self.entry))
        try:
            given = dict(oc_checksums("".join(value.itertext())))
        except InvalidInput as error:
            raise DAVError(409, error.message) from error
        if any(known.get(kind, digest) != digest for kind, digest in given.items()):
            raise DAVError(409, "these are not the checksums of the file")


class _File(_Shared, DAVNonCollection):
    """A file."""

    def __init__(self, path: str, environ: dict[str, Any], volume: Volume, entry: Entry) -> None:
        super().__init__(path, environ)
        self.volume = volume
        self.entry = entry

    def get_content_length(self) -> int:
        return self.entry.size

    def get_content_type(self) -> str:
        return content_type(self.entry.name)

    def support_ranges(self) -> bool:
        return True

    def get_content(self) -> io.BufferedReader:
        names = tuple(name for name in self.path.split("/") if name)
        return io.BufferedReader(_ContentFile(self.volume.open(names[1:])), 1 << 20)


class _Folder(_Shared, DAVCollection):
    """A collection inside a volume, or the volume's own."""

    def __init__(self, path: str, environ: dict[str, Any], volume: Volume, entry: Entry) -> None:
        super().__init__(path, environ)
        self.volume = volume
        self.entry = entry
        self._path = tuple(name for name in path.split("/") if name)[1:]

    def get_member_names(self) -> list[str]:
        return [entry.name for entry in self.volume.children(self._path)]

    def get_member_list(self) -> list[_Folder | _File]:
        base = self.path.rstrip("/")
        return [
            _resource(f"{base}/{entry.name}", self.environ, self.volume, entry)
            for entry in self.volume.children(self._path)
        ]


class _Volumes(_Shown, DAVCollection):
    """The address ``/``."""

    def __init__(self, environ: dict[str, Any]) -> None:
        super().__init__("/", environ)

    def get_member_names(self) -> list[str]:
        return [volume.name for volume in self.provider.access.volumes(self.environ[REQUEST])]

    def get_member_list(self) -> list[_VolumeName]:
        return [_VolumeName(f"/{name}", self.environ) for name in self.get_member_names()]


class _VolumeName(_Shown, DAVCollection):
    """A volume as a member of ``/``: its name alone, whoever holds it."""

    def get_member_names(self) -> list[str]:
        return []


class _ContentFile(io.RawIOBase):
    """An open file of the drive as Python's file object, forward and seekable."""

    def __init__(self, content: Content) -> None:
        self._content = content
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._content.entry.size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, buffer: Any) -> int:
        stop = min(self._at + len(buffer), self._content.entry.size)
        done = 0
        if self._at < stop:
            for block in self._content.read(self._at, stop):
                buffer[done : done + len(block)] = block
                done += len(block)
        self._at += done
        return done


def _resource(path: str, environ: dict[str, Any], volume: Volume, entry: Entry) -> _Folder | _File:
    return (_Folder if entry.is_directory else _File)(path, environ, volume, entry)
