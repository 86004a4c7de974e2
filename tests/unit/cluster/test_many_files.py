"""What must not grow with a volume: counted, not timed, on 20,000 files (``python -m tests.scale`` has the full size)."""

from __future__ import annotations

import sqlite3
import tracemalloc
from collections import Counter
from collections.abc import Iterator, Sequence

import pytest

from davfs.core import keys
from davfs.core.ports import Document
from davfs.core.record import decode
from davfs.crdt.documents import AutomergeDocuments
from tests.scale.commits import Changes
from tests.scale.local import NODE, Alone, alone
from tests.scale.volume import Plan, build

VOLUME = "ab" * 16
PLAN = Plan(files=10_000, directories=500, wide=10_000)
FEW = Plan(files=200, directories=10, wide=20)
MOST_LOADS = 2  # one for the change, one to apply it
MOST_LOADED = 64 * 1024
MOST_ROWS = 30


class CountingDocuments(AutomergeDocuments):
    """Counts loads, and the bytes that they load."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[int] = []

    def load(self, snapshot: bytes | None, changes: Sequence[bytes], actor: bytes) -> Document:  # type: ignore[override]
        self.loads.append(len(snapshot or b"") + sum(map(len, changes)))
        return super().load(snapshot, changes, actor)


class Built:
    """A volume and what its documents are loaded for."""

    def __init__(self, drive: Alone, documents: CountingDocuments, plan: Plan) -> None:
        self.drive = drive
        self.documents = documents
        self.plan = plan
        self.database: sqlite3.Connection = drive.store._db  # type: ignore[attr-defined]
        build(plan, (NODE,), lambda make, chunks: drive.runtime.run(drive.holder.commit(make, "", chunks)), 1, print)
        self.changes = Changes(drive.held, plan)

    def cost(self, kind: str, count: int) -> tuple[Counter[str], Counter[str]]:
        """(what one of ``count`` such changes took in the middle, the most that any took)."""
        each: list[Counter[str]] = []
        store = self.drive.store
        for _ in range(count):
            step = self.changes.kinds[kind]()
            self.documents.loads.clear()
            first, rows = store.last.seq + 1, self.database.total_changes
            step()
            records = store.read_log(first, 1 << 20)
            each.append(Counter(
                records=len(records),
                bytes=sum(map(len, records)),
                loads=len(self.documents.loads),
                loaded=max(self.documents.loads, default=0),
                rows=self.database.total_changes - rows,
                documents=len(decode(records[0], VOLUME).changes),
            ))  # fmt: skip
        middle = Counter({what: sorted(one[what] for one in each)[count // 2] for what in each[0]})
        return middle, Counter({what: max(one[what] for one in each) for what in each[0]})


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Built, Built]]:
    """A volume with few files and one with many."""
    documents = CountingDocuments(), CountingDocuments()
    folders = [tmp_path_factory.mktemp("few"), tmp_path_factory.mktemp("many")]
    with (
        alone(folders[0] / "v.sqlite", VOLUME, documents[0]) as few,
        alone(folders[1] / "v.sqlite", VOLUME, documents[1]) as many,
    ):
        yield Built(few, documents[0], FEW), Built(many, documents[1], PLAN)


@pytest.mark.parametrize(
    "kind",
    [
        "new file", "file written again", "file renamed", "file deleted", "new directory",
        "rename of the directory that holds everything",
    ],
)  # fmt: skip
def test_a_change_costs_the_same_among_many_files(built: tuple[Built, Built], kind: str) -> None:
    (few, _), (many, most) = (volume.cost(kind, 20) for volume in built)
    assert most["records"] == 1
    # What is overwritten goes into the trash, an entry that is made now.
    assert most["documents"] == (2 if kind == "file written again" else 1)
    assert most["loads"] <= MOST_LOADS
    assert most["loaded"] < MOST_LOADED
    assert many["rows"] <= few["rows"] + 2 <= MOST_ROWS
    assert many["bytes"] < 1.5 * few["bytes"]


def test_no_document_grows_with_the_volume(built: tuple[Built, Built]) -> None:
    store = built[1].drive.store
    sizes = []
    for name in store.iter_documents():
        stored = store.load_document(name)
        document = AutomergeDocuments().load(stored.snapshot, stored.changes, bytes(16))
        sizes.append(len({keys.parse(key).inode for key in document.keys()}))  # noqa: SIM118  not a dict
    assert sum(sizes) >= PLAN.total + PLAN.directories
    assert max(sizes) <= (1 << keys.BUCKET_BITS) * keys.SHARED_INODES


def test_few_documents_stay_in_memory(built: tuple[Built, Built]) -> None:
    holder = built[1].drive.holder
    most = holder.site.bounds.documents
    assert 0 < len(holder._workspace._documents) <= most
    assert 0 < len(holder.replica._documents) <= most


def test_a_directory_is_one_walk_over_the_index(built: tuple[Built, Built]) -> None:
    """No sorting, and no look into another table or index for each member."""
    question = "EXPLAIN QUERY PLAN SELECT inode, size, etag FROM entry WHERE parent = ? ORDER BY name, version"
    steps = [row[3] for row in built[1].database.execute(question, ("x",))]
    assert steps == ["SEARCH entry USING PRIMARY KEY (parent=?)"]


def test_a_large_directory_is_listed_in_little_memory(built: tuple[Built, Built]) -> None:
    held = built[1].drive.held
    top = held.children(())[0].name
    tracemalloc.start()
    try:
        count = sum(1 for _ in held.members((top, "wide")))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        listed = len(held.children((top, "wide")))
        whole = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == listed == PLAN.wide
    assert peak < 3 << 20 < whole
