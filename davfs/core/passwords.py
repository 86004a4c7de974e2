"""Passwords at rest: scrypt (RFC 7914), one text that holds its own parameters.

Pure: the salt comes in as an argument. Verification costs 16 MiB and some 50 ms on purpose, so that whoever calls it
for every request keeps its own memory of what was verified.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac

from davfs.core.errors import InvalidInput

_COST, _BLOCK, _PARALLEL, _LENGTH = 1 << 14, 8, 1, 32
_MAX_MEMORY = 64 << 20  # a stored text must not make us use more, whatever it says


def hash_password(password: str, salt: bytes) -> str:
    """``scrypt$cost$block$parallel$salt$hash``, salt (at least 16 random bytes) and hash in base64."""
    return _text(_COST, _BLOCK, _PARALLEL, salt, _scrypt(password, salt, _COST, _BLOCK, _PARALLEL, _LENGTH))


def verify_password(password: str, stored: str) -> bool:
    """Whether the password is the one; :class:`InvalidInput` if the stored text is not one of ours."""
    cost, block, parallel, salt, expected = parse_hash(stored)
    return hmac.compare_digest(_scrypt(password, salt, cost, block, parallel, len(expected)), expected)


def parse_hash(stored: str) -> tuple[int, int, int, bytes, bytes]:
    """(cost, block size, parallelism, salt, hash) of a stored text; :class:`InvalidInput` if it is not one."""
    try:
        kind, cost, block, parallel, salt, digest = stored.split("$")
        values = int(cost), int(block), int(parallel), base64.b64decode(salt, validate=True)
        expected = base64.b64decode(digest, validate=True)
    except (ValueError, binascii.Error) as error:
        raise InvalidInput("a password hash looks like scrypt$16384$8$1$SALT$HASH (davfs hash-password)") from error
    if kind != "scrypt" or len(expected) < 16 or 128 * values[0] * values[1] * values[2] > _MAX_MEMORY:
        raise InvalidInput("only scrypt hashes of at least 16 bytes and at most 64 MiB are understood")
    return *values, expected


def _scrypt(password: str, salt: bytes, cost: int, block: int, parallel: int, length: int) -> bytes:
    return hashlib.scrypt(
        password.encode(), salt=salt, n=cost, r=block, p=parallel, dklen=length, maxmem=_MAX_MEMORY + (1 << 20)
    )


def _text(cost: int, block: int, parallel: int, salt: bytes, digest: bytes) -> str:
    b64 = (base64.b64encode(salt).decode(), base64.b64encode(digest).decode())
    return f"scrypt${cost}${block}${parallel}${b64[0]}${b64[1]}"
