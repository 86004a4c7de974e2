"""Passwords at rest: argon2id (RFC 9106), one text that holds its own parameters; scrypt texts of older files still count.

Pure: the salt comes in as an argument. Verification costs some 20 MiB and 30 ms on purpose, so that whoever calls it
for every request keeps its own memory of what was verified. May import core.errors and argon2.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import unicodedata

from argon2 import extract_parameters
from argon2.exceptions import InvalidHashError, VerificationError
from argon2.low_level import Type, hash_secret, verify_secret

from davfs.core.errors import InvalidInput

_TIME, _MEMORY_KIB, _LANES, _LENGTH = 2, 19 * 1024, 1, 32  # OWASP's recommendation for argon2id
_MAX_MEMORY = 64 << 20  # a stored text must not make us use more, whatever it says
_MAX_TIME = 16
_MIN_DIGEST = 16
_EXAMPLE = "$argon2id$v=19$m=19456,t=2,p=1$SALT$HASH (davfs hash-password)"

STAND_IN = f"$argon2id$v=19$m={_MEMORY_KIB},t={_TIME},p={_LANES}${'A' * 22}${'A' * 43}"
"""No password's hash, verified for a name that does not exist: it costs what a real one costs."""


def hash_password(password: str, salt: bytes) -> str:
    """``$argon2id$v=19$m=...,t=...,p=...$salt$hash``. ``salt``: at least 16 random bytes. Unicode as in RFC 8265 (NFC)."""
    return hash_secret(_bytes(password), salt, _TIME, _MEMORY_KIB, _LANES, _LENGTH, Type.ID).decode()


def verify_password(password: str, stored: str) -> bool:
    """Whether the password is the one; :class:`InvalidInput` if the stored text is not one of ours."""
    check_hash(stored)
    if stored.startswith("scrypt$"):
        return _verify_scrypt(password, stored)
    try:
        return verify_secret(stored.encode(), _bytes(password), Type.ID)
    except (VerificationError, InvalidHashError):
        return False


def check_hash(stored: str) -> None:
    """:class:`InvalidInput` unless the text is a hash that this module can verify at a bearable price."""
    if stored.startswith("scrypt$"):
        _parse_scrypt(stored)
        return
    try:
        parameters = extract_parameters(stored)
    except (InvalidHashError, ValueError, IndexError) as error:
        raise InvalidInput(f"a password hash looks like {_EXAMPLE}") from error
    too_much = parameters.memory_cost << 10 > _MAX_MEMORY or parameters.time_cost > _MAX_TIME
    if parameters.type is not Type.ID or parameters.hash_len < _MIN_DIGEST or too_much:
        raise InvalidInput("only argon2id hashes of at least 16 bytes, at most 64 MiB and 16 passes are understood")


def _bytes(password: str) -> bytes:
    return unicodedata.normalize("NFC", password).encode()


def _verify_scrypt(password: str, stored: str) -> bool:
    cost, block, parallel, salt, expected = _parse_scrypt(stored)
    digest = hashlib.scrypt(
        password.encode(), salt=salt, n=cost, r=block, p=parallel, dklen=len(expected), maxmem=_MAX_MEMORY + (1 << 20)
    )
    return hmac.compare_digest(digest, expected)


def _parse_scrypt(stored: str) -> tuple[int, int, int, bytes, bytes]:
    """(cost, block size, parallelism, salt, hash) of ``scrypt$cost$block$parallel$salt$hash`` (RFC 7914)."""
    try:
        _, cost, block, parallel, salt, digest = stored.split("$")
        values = int(cost), int(block), int(parallel), base64.b64decode(salt, validate=True)
        expected = base64.b64decode(digest, validate=True)
    except (ValueError, binascii.Error) as error:
        raise InvalidInput(f"a password hash looks like {_EXAMPLE}") from error
    if len(expected) < _MIN_DIGEST or 128 * values[0] * values[1] * values[2] > _MAX_MEMORY:
        raise InvalidInput("only scrypt hashes of at least 16 bytes and at most 64 MiB are understood")
    return *values, expected
