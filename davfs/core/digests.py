"""Checksums of whole files, as clients announce them: which algorithms there are, and how bytes are run through them.

Nothing is computed that no client asked for. A digest is (algorithm, lower-case hex); the algorithms have ownCloud's names.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Iterable
from typing import Protocol, TypeAlias

from davfs.core.errors import ChecksumMismatch

Digests: TypeAlias = tuple[tuple[str, str], ...]
"""(algorithm, hex) of one content, sorted by algorithm, each algorithm once. Where a client announces them, "" in place of
the hex means that this one is to be worked out and kept."""


class Hasher(Protocol):
    """What takes bytes and gives their digest."""

    def update(self, data: bytes | memoryview, /) -> None: ...

    def hexdigest(self) -> str: ...


class _Adler32:
    """zlib's checksum as a hasher: 8 hex digits, zeros in front (RFC 1950)."""

    def __init__(self) -> None:
        self._value = 1

    def update(self, data: bytes | memoryview, /) -> None:
        self._value = zlib.adler32(data, self._value)

    def hexdigest(self) -> str:
        return f"{self._value:08x}"


_MAKERS: dict[str, Callable[[], Hasher]] = {
    "ADLER32": _Adler32,
    "MD5": lambda: hashlib.md5(usedforsecurity=False),
    "SHA1": lambda: hashlib.sha1(usedforsecurity=False),
    "SHA256": hashlib.sha256,
    "SHA3-256": hashlib.sha3_256,
    "SHA512": hashlib.sha512,
}
HEX_LENGTH = {name: len(make().hexdigest()) for name, make in _MAKERS.items()}
"""Algorithm -> hex digits of its digests."""


class Hashing:
    """Some algorithms at once over one content."""

    def __init__(self, algorithms: Iterable[str]) -> None:
        self._hashers = {name: _MAKERS[name]() for name in sorted(set(algorithms))}

    def update(self, data: bytes | memoryview) -> None:
        for hasher in self._hashers.values():
            hasher.update(data)

    def digests(self) -> Digests:
        return tuple((name, hasher.hexdigest()) for name, hasher in self._hashers.items())

    def require(self, announced: Digests) -> None:
        """:class:`ChecksumMismatch` unless the content has the digests that were announced for it ("": any will do)."""
        for (name, wanted), (_, value) in zip(announced, self.digests(), strict=True):
            if wanted not in ("", value):
                raise ChecksumMismatch(f"the body has the {name} {value}, and {wanted} was announced; nothing was changed")
