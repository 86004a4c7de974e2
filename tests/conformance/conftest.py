"""What the tests of ports run over."""

import pytest

from davfs.storage.replica_db import ReplicaDb


@pytest.fixture(params=["file", "memory"])
def store(request, tmp_path):
    """A replica store: a database in a file, and one in memory."""
    store = ReplicaDb(":memory:" if request.param == "memory" else tmp_path / "v.sqlite")
    yield store
    store.close()
