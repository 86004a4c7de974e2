"""What a merge must give, as simply as it can be said: all live versions at once, no neighbourhoods, no stored results.

Written from the table of docs/decisions/0018-merging.md, and slow on purpose.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from davfs.core import keys, values
from davfs.core.conflict_names import conflict_name, label_of
from davfs.core.facts import copy_inode
from davfs.core.model import DIRECTORY, ROOT, TRASH
from tests.property.merging.branches import World, apply

LOST = "the lost"


@dataclass
class Thing:
    inode: str
    parent: str
    name: str
    directory: bool
    tie: str
    versions: list[str]  # of the name and, of a file, the contents: what someone who deletes must have seen
    content: str | None = None
    was: tuple[str, str] | None = None
    copy: bool = False


def merged(world: World) -> dict[str, Any]:
    """path -> (content, properties), like ``DictView.tree``."""
    facts: dict[str, str] = {}
    gone: set[str] = set()
    for writer in (world.common, *world.branches):
        for words in writer.records:
            gone.update(words.deletes)
            facts.update(words.puts)
    live = {key: value for key, value in facts.items() if key not in gone}
    parsed = [(keys.parse(key), value) for key, value in live.items()]
    names: dict[str, dict[str, Any]] = {}
    contents: dict[str, dict[str, str]] = {}
    properties: dict[str, dict[str, tuple[str, str]]] = {}
    for key, value in sorted(parsed):  # by version within an entry: the last one counts
        if key.kind == keys.NAME:
            names.setdefault(key.inode, {})[key.version] = values.decode_name(value)
        elif key.kind == keys.MANIFEST:
            contents.setdefault(key.inode, {})[key.version] = values.decode_manifest(value).etag
        else:
            properties.setdefault(key.inode, {})[key.part] = (key.version, value)
    things: dict[str, Thing] = {}
    deletions: dict[str, list[str]] = {}
    for inode, versions in names.items():
        deletions[inode] = [v for v, entry in versions.items() if entry.parent == TRASH]
        for thing in _things(inode, versions, contents.get(inode, {})):
            things[thing.inode] = thing
    _break_cycles(things)
    for inode in [i for i, thing in things.items() if _lost(world, things, deletions, thing)]:
        things[inode].parent = LOST
    shown: dict[str, Any] = {}
    _show(things, properties, [ROOT], "", shown)
    lost: dict[str, Any] = {}
    _show(things, properties, [LOST], "lost+found/", lost)
    if lost:
        shown.update({"lost+found": (None, {}), **lost})
    shown[""] = (None, _xml(properties, ROOT))
    return shown


def _things(inode, versions, contents) -> list[Thing]:
    alive = {v: e for v, e in versions.items() if e.parent != TRASH}
    fresh = {v: c for v, c in contents.items() if v not in {e.deleted[2] for e in versions.values() if e.deleted}}
    if alive:
        tie = max(alive)
        entry, parent, name = alive[tie], alive[tie].parent, alive[tie].name
        contents = fresh or contents
    else:
        if not fresh:
            return [Thing(inode, TRASH, inode, next(iter(versions.values())).kind == DIRECTORY, max(versions), [])]
        entry, contents, tie = versions[max(versions)], fresh, max(fresh)
        parent, name, _ = entry.deleted
    last = max(contents, default=None)
    at = max(alive or versions)
    thing = Thing(inode, parent, name, entry.kind == DIRECTORY, tie, [at, *contents], contents.get(last), entry.was)
    copies = [
        Thing(
            copy_inode(v, inode), parent, conflict_name(name, label_of(v, inode)), False, v, [v], text, copy=True
        )
        for v, text in contents.items() if v != last
    ]  # fmt: skip
    return [thing, *copies]


def _break_cycles(things: dict[str, Thing]) -> None:
    moved: set[str] = set()
    while cycle := next((c for inode in things if (c := _cycle(things, inode))), None):
        fresh = [inode for inode in cycle if inode not in moved] or cycle
        last = max(fresh, key=lambda inode: (things[inode].tie, inode))
        thing = things[last]
        if last in moved or thing.was is None:
            thing.parent = LOST
        else:
            thing.parent, thing.name = thing.was
        moved.add(last)


def _cycle(things: dict[str, Thing], inode: str) -> list[str] | None:
    path = [inode]
    while (inode := things[inode].parent) in things:
        if inode in path:
            return path[path.index(inode) :]
        path.append(inode)
    return None


def _lost(world: World, things: dict[str, Thing], deletions: dict[str, list[str]], thing: Thing) -> bool:
    """Whether this is the topmost of what stands in a deleted directory and was not known to whoever deleted it."""
    path = [thing]
    while (at := path[-1]).parent in things:
        path.append(things[at.parent])
    if path[-1].parent != TRASH or len(path) == 1:
        return False
    by = deletions[path.pop().inode]
    unknown = [one for one in path if not any(all(world.seen(v, t) for v in one.versions) for t in by)]
    return bool(unknown) and unknown[-1] is thing


def _show(things: dict[str, Thing], properties: Any, folders: list[str], path: str, shown: dict[str, Any]) -> None:
    """Show what is in a directory, or in several that are merged into the first."""
    groups: dict[str, list[Thing]] = {}
    for thing in things.values():
        if thing.parent in folders:
            groups.setdefault(thing.name, []).append(thing)
    for name, group in groups.items():
        group.sort(key=lambda t: (t.directory, not t.copy, t.tie, t.inode), reverse=True)
        twins = [thing for thing in group if thing.directory]
        shown[path + name] = (group[0].content, _xml(properties, group[0].inode))
        if twins:
            _show(things, properties, [thing.inode for thing in twins], f"{path}{name}/", shown)
        for thing in group[max(1, len(twins)) :]:
            assert not thing.copy, "names of copies are unique here"
            other = conflict_name(name, label_of(thing.tie, thing.inode))
            assert other not in groups, "conflict names are unique here"
            shown[path + other] = (thing.content, _xml(properties, thing.inode))


def _xml(properties: Any, inode: str) -> dict[str, str]:
    return {part: xml for part, (_, xml) in properties.get(inode, {}).items()}


__all__ = ["apply", "merged"]
