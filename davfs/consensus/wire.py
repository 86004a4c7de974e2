"""Raft's bytes: frames (the envelope with session and number) and the messages inside, encoded and checked.

Messages are PySyncObj's dictionaries, but as msgpack, never as pickles: nothing that arrives here can run code. Whatever
is not exactly a known frame or message is a :class:`ValueError`. No IO, no state; may import only msgpack.
"""

from __future__ import annotations

import struct
import zlib
from typing import Any, NamedTuple

import msgpack

VERSION = 1

HELLO = 1
"""Begins a session; number 0."""
WELCOME = 2
"""The receiver took the session: its messages may follow."""
RESET = 3
"""The receiver takes nothing more of the session: begin a new one."""
DATA = 4
"""A message (or nothing: a sign of life) of a session, numbered from 1."""

_HEADER = struct.Struct(">BBQQQQI")


class Frame(NamedTuple):
    """The envelope. ``boot``: of the sender; ``to_boot``: of the node that it is meant for (0: not known yet).

    HELLO and DATA name the sender's own session, WELCOME and RESET the receiver's, which they answer.
    """

    kind: int
    boot: int
    session: int
    to_boot: int
    number: int
    body: bytes = b""


def encode_frame(frame: Frame) -> bytes:
    """Version byte, header, CRC-32 of both and the body."""
    plain = _HEADER.pack(VERSION, frame.kind, frame.boot, frame.session, frame.to_boot, frame.number, 0)
    crc = zlib.crc32(frame.body, zlib.crc32(plain[:-4]))
    return plain[:-4] + crc.to_bytes(4, "big") + frame.body


def decode_frame(data: bytes) -> Frame:
    """The frame in ``data``; :class:`ValueError` for anything else (torn, of another version, not a frame)."""
    if len(data) < _HEADER.size:
        raise ValueError("too short for a frame")
    version, kind, boot, session, to_boot, number, crc = _HEADER.unpack_from(data)
    if version != VERSION or kind not in (HELLO, WELCOME, RESET, DATA):
        raise ValueError(f"unknown frame: version {version}, kind {kind}")
    body = bytes(data[_HEADER.size :])
    if zlib.crc32(body, zlib.crc32(data[: _HEADER.size - 4])) != crc:
        raise ValueError("a frame's checksum does not match")
    return Frame(kind, boot, session, to_boot, number, body)


# --- messages -------------------------------------------------------------------------------------------------------

_INT = (int,)
_OPTIONAL_INT = (int, type(None))
_REQUIRED: dict[str, dict[str, tuple[type, ...]]] = {
    "request_vote": {"term": _INT, "last_log_index": _INT, "last_log_term": _INT},
    "response_vote": {"term": _INT},
    "pre_vote": {"round": _INT, "last_log_index": _INT, "last_log_term": _INT},
    "pre_vote_response": {"round": _INT},
    "append_entries": {"term": _INT, "commit_index": _INT},
    "next_node_idx": {"term": _INT, "next_node_idx": _INT, "reset": (bool,), "success": (bool,)},
    "apply_command": {"command": (bytes,)},
    "apply_command_response": {"request_id": _INT},
    "timeout_now": {"term": _INT},
}
_OPTIONAL: dict[str, dict[str, tuple[type, ...]]] = {
    "append_entries": {
        "entries": (list,),
        "prevLogIdx": _OPTIONAL_INT,
        "prevLogTerm": _OPTIONAL_INT,
        "serialized": (list, type(None)),
    },
    "apply_command": {"request_id": _INT},
    "apply_command_response": {"error": _INT, "log_idx": _INT, "log_term": _INT},
}


def encode_message(message: dict[str, Any]) -> bytes:
    """PySyncObj's message as msgpack."""
    return bytes(msgpack.packb(message, use_bin_type=True))


def decode_message(body: bytes) -> dict[str, Any]:
    """The message in ``body``, its fields and their types checked; :class:`ValueError` for anything else."""
    try:
        message = msgpack.unpackb(body, raw=False)
    except Exception as error:
        raise ValueError(f"not msgpack: {error}") from error
    if not isinstance(message, dict) or not isinstance(message.get("type"), str) or message["type"] not in _REQUIRED:
        raise ValueError("not a Raft message")
    kind = message["type"]
    required, optional = _REQUIRED[kind], _OPTIONAL.get(kind, {})
    if not required.keys() <= message.keys() - {"type"} <= required.keys() | optional.keys():
        raise ValueError(f"wrong fields in {kind}: {sorted(map(str, message))}")
    for name, types in (required | optional).items():
        if name in message and not isinstance(message[name], types):
            raise ValueError(f"wrong type of {name} in {kind}")
    if kind == "append_entries":
        _check_append(message)
    if kind == "apply_command_response" and ("error" in message) == ("log_idx" in message and "log_term" in message):
        raise ValueError("an apply_command_response has either an error or a place in the log")
    return message


def _check_append(message: dict[str, Any]) -> None:
    if ("prevLogIdx" in message) == ("serialized" in message):
        raise ValueError("append_entries carries either entries or a part of a snapshot")
    if "serialized" in message:
        return
    if not {"prevLogTerm", "entries"} <= message.keys():
        raise ValueError("append_entries without its place in the log")
    entries = message["entries"]
    index = message["prevLogIdx"] or 0
    for entry in entries:
        index += 1
        if not (
            isinstance(entry, list)
            and len(entry) == 3
            and isinstance(entry[0], bytes)
            and entry[0]
            and entry[1] == index
            and isinstance(entry[2], int)
        ):
            raise ValueError("append_entries with an entry that does not fit")


# --- commands -------------------------------------------------------------------------------------------------------


def encode_command(command: tuple[Any, ...]) -> bytes:
    """A command of the state machine: plain values only."""
    return bytes(msgpack.packb(command, use_bin_type=True))


def decode_command(data: bytes) -> tuple[Any, ...]:
    """The tuple again; sequences inside it have become lists."""
    return tuple(msgpack.unpackb(data, raw=False, strict_map_key=False))
