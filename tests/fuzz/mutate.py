"""Inputs made from good ones: seeded, the same on every machine, and cheap (some microseconds each)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

TOKENS = (
    b"", b" ", b"\t", b"\r\n", b"\n", b"\0", b"\xff", b"\x80", b"\xc3\xa9", b"\xed\xa0\x80", b"%00", b"%2F", b"%2e%2e",
    b"%", b"..",
    b"/", b"//", b"\\", b"\"", b"'", b"<", b">", b"(", b")", b"[", b"]", b"{", b"}", b",", b";", b":", b"=", b"-", b"+",
    b"*", b"@",
    b"0", b"1", b"-1", b"00", b"255", b"256", b"65536", b"2147483648", b"4294967295", b"9223372036854775807",
    b"18446744073709551616", b"1" * 400, b"9" * 5000, b"1e999", b"0e99999999", b"NaN", b"inf", b"0x10", b"1_0", b"\xd9\xa3",
    b"null", b"true", b"[]", b"{}", b"Not", b"W/", b"bytes=", b"http://", b"infinity", b"<a/>", b"&#0;", b"]]>",
)  # fmt: skip
"""What is put into inputs of every kind; a parser may name more."""

PUMPED = 48 * 1024
"""Bytes that a repeated part is stretched to: quadratic reading shows there."""

Make = Callable[[Random], bytes]


class Mutator:
    """An endless supply of inputs. ``make`` gives well-formed ones, a tuple of bytes does as well; ``limit``: their size;
    ``intact``: how many of them stay as they are."""

    def __init__(self, seed: int, good: Make | Sequence[bytes], tokens: Sequence[bytes] = (), limit: int = 64 * 1024,
        intact: float = 0.05) -> None:
        self.random = Random(seed)
        self._good = good
        self._tokens = (*TOKENS, *tokens, *tokens)
        self._limit = limit
        self._intact = intact

    def next(self) -> bytes:
        """The next input: a good one, one with a few things wrong, now and then one part of it a thousandfold."""
        random = self.random
        data = bytearray(self._one())
        draw = random.random()
        if draw < self._intact:
            return bytes(data)
        if draw < self._intact + 0.01:
            return bytes(self._pump(data))[: self._limit]
        for _ in range(1 + int(random.expovariate(0.7))):
            self._change(data)
        return bytes(data[: self._limit])

    def _one(self) -> bytes:
        return self._good(self.random) if callable(self._good) else self.random.choice(self._good)

    def _change(self, data: bytearray) -> None:
        random = self.random
        size = len(data)
        at = int(random.random() * (size + 1))
        how = int(random.random() * 10)
        if how < 3 or not size:
            token = self._tokens[int(random.random() * len(self._tokens))]
            end = at + (len(token) if how == 0 else int(random.random() * 3))
            data[at:end] = token
        elif how == 3:
            data[min(at, size - 1)] ^= 1 << random.getrandbits(3)
        elif how == 4:
            data[min(at, size - 1)] = random.getrandbits(8)
        elif how == 5:
            del data[at : at + 1 + int(random.expovariate(0.2))]
        elif how == 6:
            data[at:at] = random.randbytes(1 + random.getrandbits(3))
        elif how == 7:
            part = data[at : at + 1 + int(random.expovariate(0.05))]
            to = int(random.random() * (size + 1))
            data[to:to] = part * (1 + random.getrandbits(2))
        elif how == 8:
            del data[at:]
        else:
            other = self._one()
            start = int(random.random() * (len(other) + 1))
            data[at:] = other[start:]

    def _pump(self, data: bytearray) -> bytearray:
        random = self.random
        if random.random() < 0.5 or not data:
            part = random.choice(self._tokens) or b"a"
            at = random.randint(0, len(data))
        else:
            at = random.randrange(len(data))
            part = bytes(data[at : at + 1 + int(random.expovariate(0.3))])
        whole = min(self._limit, random.choice((2000, 16 * 1024, PUMPED, self._limit)))
        rest = data[at:] if random.random() < 0.7 else bytearray(random.choice(self._tokens))
        return data[:at] + part * max(1, (whole - len(data)) // len(part)) + rest
