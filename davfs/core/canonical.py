"""When two names are one: Unicode's canonical equivalence, by its form NFC (Unicode Standard Annex 15). Imports nothing.

macOS sends decomposed names (NFD), everybody else mostly composed ones (NFC), and people see no difference. Names are kept as
they were given; what is compared is their NFC form.
"""

from __future__ import annotations

import unicodedata


def canonical(name: str) -> str:
    """The name in NFC: equal for names that are the same characters, however they are composed."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def place(path: tuple[str, ...]) -> tuple[str, ...]:
    """A path by which paths are compared: each of its names in NFC."""
    for name in path:
        if not name.isascii():
            return tuple(map(canonical, path))
    return path
