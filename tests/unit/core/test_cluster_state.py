"""The state machine: idempotent by request id, never raising, and refusing what comes from a holder that no longer is one."""

from dataclasses import asdict
from typing import Any

import pytest

from davfs.core.cluster_state import ClusterState, value_of
from davfs.core.errors import AlreadyExists, DavfsError, InvalidInput, Locked, StaleEpoch, VolumeHeld
from davfs.core.model import DavLock, VolumePolicy

MINE, THEIRS = "1" * 64, "2" * 64


class Machine:
    """A state machine with one volume, ``v``."""

    def __init__(self) -> None:
        self.state = ClusterState()
        self.number = 0
        self.do("node_set", "a", "http://a", "", 1.0, "")
        self.do("volume_create", "v", "demo", asdict(VolumePolicy()), ["a", "b", "c"])

    def do(self, verb: str, *arguments: Any) -> Any:
        self.number += 1
        return value_of(self.state.apply((f"r{self.number}", verb, *arguments)))

    def take(self, digest: str = MINE) -> list[int]:
        taken: list[int] = self.do("assign", "v", digest, "a", 5.0)
        return taken


def test_a_command_that_comes_twice_is_answered_as_before() -> None:
    machine = Machine()
    command = ("once", "assign", "v", MINE, "a", 5.0)
    first = machine.state.apply(command)
    machine.do("free", "v", first[1], MINE)
    assert machine.state.apply(command) == first
    assert machine.state.volume("v").tenure.grant is None  # and it did nothing


def test_an_epoch_that_was_never_granted_begins_a_new_incarnation() -> None:
    machine = Machine()
    machine.do("free", "v", machine.take(), MINE)
    assert machine.do("epochs_raise", "v", [1, 1]) == 1, "it was granted: whoever asked was behind"
    assert machine.do("epochs_raise", "v", [1, 2]) == 2
    assert machine.take(THEIRS) == [2, 1]
    assert machine.do("epochs_raise", "v", [1, 9]) == 2, "below what is granted since"
    assert machine.do("epochs_raise", "v", [4, 0]) == 5
    copy = ClusterState()
    copy.load(machine.state.dump())
    assert copy.incarnation == 5


def test_refusals_are_remembered_too() -> None:
    machine = Machine()
    epoch = machine.take()
    refused = ("late", "assign", "v", THEIRS, "b", 5.0)
    assert machine.state.apply(refused)[1] == VolumeHeld.code
    machine.do("free", "v", epoch, MINE)
    assert machine.state.apply(refused)[1] == VolumeHeld.code


def test_epochs_only_rise() -> None:
    machine = Machine()
    epochs = []
    for digest in (MINE, THEIRS, MINE):
        epochs.append(machine.take(digest))
        machine.do("free", "v", epochs[-1], digest)
    assert epochs == sorted(epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3


def test_an_expiry_that_did_not_see_the_last_refresh_does_nothing() -> None:
    machine = Machine()
    epoch = machine.take()
    assert machine.do("refresh", [["v", epoch, MINE], ["gone", epoch, MINE], ["v", epoch, THEIRS]]) == ["gone", "v"]
    machine.do("expire", "v", epoch, 0)
    assert machine.state.volume("v").tenure.grant is not None
    machine.do("expire", "v", epoch, 1)
    assert machine.state.volume("v").tenure.grant is None


@pytest.mark.parametrize("command", [(), ("r",), ("r", "no such verb"), ("r", "assign"), ("r", "lock", "v", [1], {})])
def test_what_is_malformed_is_refused_and_never_raises(command: tuple[Any, ...]) -> None:
    machine = Machine()
    assert machine.state.apply(command)[0] == "error"
    assert machine.take() == [1, 1]


def test_names_are_unique_and_possible() -> None:
    machine = Machine()
    for name, error in (("demo", AlreadyExists), ("a/b", InvalidInput), ("..", InvalidInput)):
        with pytest.raises(error):
            machine.do("volume_create", "w", name, asdict(VolumePolicy()), ["a"])
    with pytest.raises(InvalidInput):
        machine.do("volume_create", "w", "other", asdict(VolumePolicy()), ["a", "a"])


def test_a_store_that_replaces_another_is_admitted_by_the_holder_only() -> None:
    machine = Machine()
    machine.do("replica_admit", "v", "a", "first", None)
    machine.do("replica_admit", "v", "a", "first", None)
    with pytest.raises(DavfsError):
        machine.do("replica_admit", "v", "a", "second", None)
    epoch = machine.take()
    machine.do("replica_admit", "v", "a", "second", epoch)
    assert machine.state.volume("v").incarnations == {"a": "second"}


def _lock(token: str, *path: str, exclusive: bool = True) -> dict[str, Any]:
    return asdict(DavLock(token, path, True, exclusive, "", "me", 60))


def test_locks_are_the_current_holders_business() -> None:
    machine = Machine()
    old = machine.take()
    machine.do("lock", "v", old, _lock("t", "a"))
    with pytest.raises(Locked):
        machine.do("lock", "v", old, _lock("u", "a", "b", exclusive=False))
    machine.do("free", "v", old, MINE)
    new = machine.take(THEIRS)
    for command in (("lock", "v", old, _lock("w", "z")), ("unlock", "v", old, ["t"]), ("lock_refresh", "v", old, "t", 9)):
        with pytest.raises(StaleEpoch):
            machine.do(*command)
    machine.do("lock_refresh", "v", new, "t", 90)
    machine.do("lock_expire", "v", "t", 0)  # seen before the refresh
    assert machine.state.volume("v").locks["t"].timeout_s == 90
    machine.do("lock_expire", "v", "t", 1)
    assert not machine.state.volume("v").locks


def test_a_dump_loads_as_it_was() -> None:
    machine = Machine()
    epoch = machine.take()
    machine.do("node_set", "a", "http://a", "zone", 2.0, "i")
    machine.do("lock", "v", epoch, _lock("t", "a", "b"))
    again = ClusterState()
    again.load(machine.state.dump())
    assert (again.nodes, again.volumes) == (machine.state.nodes, machine.state.volumes)
    assert again.apply(("r3", "assign", "v", THEIRS, "b", 5.0)) == ("ok", epoch)  # answers are remembered
    assert again.dump() == machine.state.dump()
