"""A file's checksums, worked out by reading it, for a client that asks for them and announced none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from davfs.cluster import tree
from davfs.cluster.api import Caller, Condition
from davfs.cluster.changes import Build, change
from davfs.cluster.chunk_read import read_chunk
from davfs.cluster.files import OpenFile
from davfs.cluster.holder import Holder
from davfs.core.digests import Digests, Hashing
from davfs.core.effects import Protocol_
from davfs.core.errors import Forbidden, PreconditionFailed
from davfs.core.model import Path
from davfs.core.namespace import Edits
from davfs.core.ports import IndexView


def keep_digests(
    holder: Holder, path: Path, algorithms: Sequence[str], condition: Condition, caller: Caller
) -> Protocol_[Digests]:
    """Keep the checksums of some algorithms with a file; all that it then has. Its etag and times stay.

    PreconditionFailed if the file changed while it was read.
    """
    holder.check_lease()
    with holder.replica.store.view() as view:
        condition(tree.resolve(view, path))
        entry = tree.require(view, path)
        held = view.manifest(entry.inode)
    if held is None:
        raise Forbidden("only a file with content has checksums")
    version, manifest = held
    missing = [name for name in algorithms if name not in dict(manifest.digests)]
    if not missing:
        return manifest.digests
    hashing = Hashing(missing)
    file = OpenFile(holder, entry, manifest)
    for number in range(-(-manifest.size // manifest.chunk_size)):
        holder.check_lease()
        hashing.update((yield from read_chunk(holder.site, holder.credentials.volume, file.chunk(number))))
    digests = tuple(sorted({**dict(manifest.digests), **dict(hashing.digests())}.items()))

    def prepare(view: IndexView) -> Build:
        condition(tree.resolve(view, path))
        tree.require_unlocked(holder.locks(), caller, path, membership=False, members=False)
        now = view.manifest(tree.require(view, path).inode)
        if now is None or now[0] != version:
            raise PreconditionFailed("the file was changed while it was read; nothing was changed")

        def build(edits: Edits) -> None:
            edits.write(entry.inode, replace(manifest, digests=digests), version)

        return build

    yield from change(holder, caller, [path], prepare)
    return digests
