"""Which names files, collections and volumes may have. Pure; may import nothing of davfs but errors and model.

Every Unicode name of up to 255 bytes of UTF-8 is a name; what no client could ask for again, or what would make a
directory's listing malformed XML, is refused where it would be made.
"""

from __future__ import annotations

from collections.abc import Iterable

from davfs.core.errors import InvalidInput, NameTooLong
from davfs.core.model import MAX_NAME, MAX_PATH, Path

MAX_VOLUME_NAME = 64
TRASH_NAME = ".davfs-trash"
"""Where a volume shows its trash (cluster/trash_view.py): nothing else stands there."""

RESERVED = "remote.php"
_VOLUME = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")
_REFUSED = frozenset(chr(c) for c in (*range(32), *range(0x7F, 0xA0))) | {"/", "\ufffe", "\uffff"}


def check_name(name: str) -> str:
    """The name itself if a member of a collection may have it, else :class:`InvalidInput` (or its
    :class:`NameTooLong`) with the reason."""
    if not name or name in (".", ".."):
        raise InvalidInput(f"{name!r} is not a name for a file or collection")
    if not _REFUSED.isdisjoint(name):
        raise InvalidInput("a name may not contain '/' or control characters")
    try:
        size = len(name) if name.isascii() else len(name.encode())
    except UnicodeEncodeError:
        raise InvalidInput("a name must be whole Unicode characters") from None
    if size > MAX_NAME:
        raise NameTooLong(f"a name may have {MAX_NAME} bytes of UTF-8 at most; this one has {size}")
    return name


def check_path(names: Iterable[str]) -> Path:
    """The names as a path, each checked, and the whole of at most 4096 bytes (one more for each name but the first)."""
    path = tuple(check_name(name) for name in names)
    if sum(len(name.encode()) + 1 for name in path) - 1 > MAX_PATH:
        raise NameTooLong(f"a path may have {MAX_PATH} bytes of UTF-8 at most")
    return path


def check_volume_name(name: str) -> str:
    """The name itself if a volume may have it: letters, digits and ``-_.`` of ASCII, not beginning with a dot."""
    if not name or len(name) > MAX_VOLUME_NAME or name.startswith(".") or not _VOLUME.issuperset(name):
        raise InvalidInput(
            f"{name!r} is not a name for a volume: 1 to {MAX_VOLUME_NAME} letters, digits, '-', '_' or '.' of ASCII, "
            "not beginning with a dot"
        )
    if name == RESERVED:
        raise InvalidInput(f"{name!r} is where Nextcloud's clients look for files; give the volume another name")
    return name
