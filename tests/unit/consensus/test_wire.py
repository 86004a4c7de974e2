"""Frames and messages: what was sent comes back, and nothing else is taken."""

from __future__ import annotations

import hashlib
import pickle
import random

import msgpack
import pytest

from davfs.consensus import membership, snapshots, wire
from davfs.consensus.wire import DATA, Frame


def test_a_frame_comes_back_and_begins_with_its_version() -> None:
    frame = Frame(DATA, 7, 2**40, 9, 3, b"body")
    data = wire.encode_frame(frame)
    assert data[0] == wire.VERSION
    assert wire.decode_frame(data) == frame


def test_any_torn_or_flipped_frame_is_refused() -> None:
    data = wire.encode_frame(Frame(DATA, 1, 2, 3, 4, b"some body"))
    for length in range(len(data)):
        with pytest.raises(ValueError, match=r"frame|version"):
            wire.decode_frame(data[:length])
    for position in range(len(data)):
        broken = bytearray(data)
        broken[position] ^= 1 << random.Random(position).randrange(8)
        with pytest.raises(ValueError, match=r"frame|version"):
            wire.decode_frame(bytes(broken))


APPEND = {
    "type": "append_entries",
    "term": 3,
    "commit_index": 4,
    "entries": [[b"\0x", 6, 3]],
    "prevLogIdx": 5,
    "prevLogTerm": 2,
}


@pytest.mark.parametrize(
    "message",
    [
        APPEND,
        {"type": "append_entries", "term": 1, "commit_index": 1, "serialized": None},
        {"type": "request_vote", "term": 1, "last_log_index": 2, "last_log_term": 0},
        {"type": "apply_command", "command": b"\0", "request_id": 5},
        {"type": "apply_command_response", "request_id": 5, "error": 4},
        {"type": "apply_command_response", "request_id": 5, "log_idx": 4, "log_term": 2},
    ],
)
def test_messages_come_back(message: dict) -> None:
    assert wire.decode_message(wire.encode_message(message)) == message


@pytest.mark.parametrize(
    "message",
    [
        {},
        [],
        {"type": "exec"},
        {"type": ["append_entries"]},
        APPEND | {"term": "3"},
        APPEND | {"extra": 1},
        APPEND | {"entries": [[b"\0x", 7, 3]]},  # not the next index
        APPEND | {"entries": [[b"", 6, 3]]},
        APPEND | {"entries": [["x", 6, 3]]},
        APPEND | {"entries": [[b"x", 6]]},
        APPEND | {"serialized": None},
        {key: value for key, value in APPEND.items() if key != "prevLogIdx"},
        APPEND | {"transmission": "start"},  # pieces of pickles
        {"type": "response_vote"},
        {"type": "apply_command_response", "request_id": 5},
    ],
)
def test_anything_else_is_refused(message: object) -> None:
    with pytest.raises((ValueError, TypeError)):
        wire.decode_message(msgpack.packb(message))


class Bomb:
    def __reduce__(self) -> tuple:
        return (pytest.fail, ("a pickle was loaded",))


def test_a_pickle_is_not_loaded() -> None:
    for data in (pickle.dumps(Bomb()), pickle.dumps(Bomb(), protocol=0)):
        with pytest.raises(ValueError, match=r"msgpack|not a Raft message"):
            wire.decode_message(data)


def test_commands_come_back_as_tuples_of_plain_values() -> None:
    command = ("id", "verb", 1.5, None, b"bytes", {"a": [1, "two"]})
    assert wire.decode_command(wire.encode_command(command)) == command
    assert wire.decode_command(wire.encode_command(("id", (1, 2)))) == ("id", [1, 2])


def test_a_message_whose_type_is_no_text_is_refused() -> None:
    with pytest.raises(ValueError, match="not a Raft message"):
        wire.decode_message(msgpack.packb({**APPEND, "type": ["append_entries"]}))


@pytest.mark.parametrize("value", [[1, [5, 2]], [1, [[["node-1"], []], [["node-1"], [], []]]], [1, [None, None]]])
def test_a_membership_of_another_shape_is_refused(value) -> None:
    with pytest.raises(ValueError, match="membership"):
        membership.decode(membership.CONFIG + msgpack.packb(value))


@pytest.mark.parametrize("entries", [[[b"x", 6, 2], []], [[b"x", [], 2], [b"y", [7], 2]], [[b"x", 6, 2], [b"y"]], [{}, {}]])
def test_a_snapshot_of_another_shape_is_refused(entries) -> None:
    body = msgpack.packb([*entries, b"state"])
    with pytest.raises(ValueError, match="snapshot"):
        snapshots.unpack(msgpack.packb([snapshots.FORMAT, hashlib.sha256(body).digest(), body]))
