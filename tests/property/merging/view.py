"""A committed state in a dictionary, as merging sees it (port: ``core.facts.MergeView``), and its tree."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from davfs.core import keys, values
from davfs.core.canonical import canonical
from davfs.core.model import DIRECTORY, ROOT
from davfs.core.values import NameEntry


class DictView:
    """``facts``: live key -> value."""

    def __init__(self, facts: dict[str, str], seen: Callable[[str, str], bool]) -> None:
        self._keys = [(keys.parse(text), text, value) for text, value in facts.items()]
        self.seen = seen
        self.names: dict[str, tuple[str, NameEntry]] = {}
        for key, _, value in self._keys:
            if key.kind == keys.NAME:
                assert key.inode not in self.names, f"two names of {key.inode}"
                self.names[key.inode] = (key.version, values.decode_name(value))

    def stored_name(self, inode: str) -> tuple[str, NameEntry] | None:
        return self.names.get(inode)

    def stored_content(self, inode: str) -> tuple[str, str] | None:
        found = [(key.version, value) for key, _, value in self._keys if (key.kind, key.inode) == (keys.MANIFEST, inode)]
        assert len(found) < 2, f"two contents of {inode}"
        return found[0] if found else None

    def properties(self, inode: str) -> dict[str, tuple[str, str]]:
        found: dict[str, tuple[str, str]] = {}
        for key, _, value in self._keys:
            if (key.kind, key.inode) == (keys.PROPERTY, inode):
                assert key.part not in found, f"two values of {key.part}"
                found[key.part] = (key.version, value)
        return found

    def shadows(self, inode: str) -> list[tuple[str, str]]:
        return [(text, value) for key, text, value in self._keys if (key.kind, key.inode) == (keys.SHADOW, inode)]

    def copies(self, inode: str) -> list[str]:
        return [one for one, (_, entry) in self.names.items() if entry.origin == inode]

    def claimants(self, parent: str, name: str) -> Iterable[str]:
        for inode, (_, entry) in self.names.items():
            for at, called in ((entry.parent, entry.name), entry.claim or ("", "")):
                if at == parent and canonical(called) == canonical(name):
                    yield inode

    def members(self, parent: str) -> Iterable[str]:
        for inode, (_, entry) in self.names.items():
            if parent in (entry.parent, (entry.claim or ("", ""))[0], (entry.raw or ("", ""))[0]):
                yield inode

    def displaced(self) -> Iterable[str]:
        return [inode for inode, (_, entry) in self.names.items() if entry.raw is not None or entry.claim is not None]

    def tree(self) -> dict[str, Any]:
        """path -> (content or None for a directory, properties) of all that shows; raises if it is no tree."""
        shown: dict[str, Any] = {"": (None, _plain(self.properties(ROOT)))}
        count = 0

        def walk(parent: str, path: str) -> None:
            nonlocal count
            names = [canonical(e.name) for _, e in self.names.values() if e.parent == parent]
            assert len(names) == len(set(names)), f"double names in {path}: {names}"
            for inode, (_, entry) in self.names.items():
                if entry.parent == parent:
                    count += 1
                    content = self.stored_content(inode)
                    text = None if content is None else values.decode_manifest(content[1]).etag
                    assert entry.kind != DIRECTORY or content is None
                    shown[path + entry.name] = (text, _plain(self.properties(inode)))
                    if entry.kind == DIRECTORY:
                        walk(inode, f"{path}{entry.name}/")

        walk(ROOT, "")
        alive = count
        walk("trash", "trash:")
        assert count == len(self.names), f"{len(self.names) - count} of {len(self.names)} are in a cycle or orphans"
        del alive
        return {path: what for path, what in shown.items() if not path.startswith("trash:")}


def _plain(properties: dict[str, tuple[str, str]]) -> dict[str, str]:
    return {name: xml for name, (_, xml) in properties.items()}
