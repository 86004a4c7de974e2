"""Names for what lost its name in a merge: ``name (conflict EPOCH.SEQ).ext``, at most 255 bytes of UTF-8."""

from __future__ import annotations

import re

from davfs.core import keys
from davfs.core.model import MAX_NAME

_LABEL = re.compile(r" \(conflict \d+\.\d+\.\d+(?:-\d+)?\)")


def label_of(version: str, inode: str) -> str:
    """``INCARNATION.COUNTER.SEQ`` of the record that lost, in decimal, and the number of the inode if that record made
    several: so no two that lose get the same."""
    at = keys.parse_version(version)
    made, _, number = inode.partition("-")
    own = made == keys.make_inode(at, 0).partition("-")[0] and number not in ("", "0") and len(number) < 9
    return f"{at.epoch.incarnation}.{at.epoch.counter}.{at.seq}" + (f"-{int(number, 16)}" if own else "")


def conflict_name(name: str, label: str, attempt: int = 1) -> str:
    """The name beside ``name``; ``attempt`` 2, 3, ... give others, should it be taken."""
    return marked_name(name, f" (conflict {label})" + (f" {attempt}" if attempt > 1 else ""))


def marked_name(name: str, mark: str) -> str:
    """The name with a mark before its extension, its stem cut so that it is a name still."""
    stem, dot, extension = name.rpartition(".")
    if not stem or len(extension.encode()) > 32:
        stem, dot, extension = name, "", ""
    tail = mark + dot + extension
    return _cut(stem, MAX_NAME - len(tail.encode())) + tail


def is_conflict_name(name: str) -> bool:
    """Whether a name looks like one that a merge gave."""
    return _LABEL.search(name) is not None


def _cut(text: str, size: int) -> str:
    """The longest beginning of a text that has at most so many bytes, in whole characters."""
    return text.encode()[:size].decode(errors="ignore")
