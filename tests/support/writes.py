"""A stream of PUTs whose answers are remembered, and the judge of what a drive holds afterwards.

The rule is the promise of the drive: what was answered 2xx is there and whole; of what was not answered, or answered with
an error, each is whole or absent (an earlier acknowledged content of the name stays then).
"""

from __future__ import annotations

import hashlib
import random
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from http.client import HTTPException

from compat.client import DavClient

RETRY_PAUSE = 0.1


def digest(data: bytes) -> str:
    """SHA-256, as hex."""
    return hashlib.sha256(data).hexdigest()


@dataclass
class History:
    """What may lie under one name: the digest acknowledged last (None for absent), and those of unknown outcome."""

    acknowledged: str | None = None
    refused: set[str] = field(default_factory=set)
    """Answered with an error, which may mean *unknown*; but over when answered, so before any later acknowledgement."""
    unanswered: set[str] = field(default_factory=set)
    """Never answered: may still be under way anywhere, and take effect once or never."""

    def note(self, content: str, status: int | None) -> None:
        """Remember the outcome of one PUT (status None: no answer came)."""
        if status is None:
            self.unanswered.add(content)
        elif 200 <= status < 300:
            self.acknowledged = content
            self.refused.clear()
        else:
            self.refused.add(content)

    @property
    def allowed(self) -> set[str | None]:
        """Every content that the promise allows."""
        return {self.acknowledged, *self.refused, *self.unanswered}


@dataclass(frozen=True)
class Attempt:
    """One PUT: name, whether it was answered 2xx, the status (None without an answer), start and end (monotonic seconds)."""

    name: str
    ok: bool
    status: int | None
    began: float
    ended: float


class Writer(threading.Thread):
    """PUTs one file after another to the URLs in turn until told to stop; every third one overwrites an earlier name.

    Uses a URL for as long as it works, and rests for ``pause`` seconds behind each answer: who writes at full speed for a
    minute makes thousands of files that are all read again in the end. `attempts` and `histories` are to be read after
    finish().
    """

    def __init__(
        self, urls: Sequence[str], seed: int, *, timeout: float = 20.0, largest: int = 300_000, pause: float = 0.03
    ) -> None:
        super().__init__(name=f"writer-{seed}", daemon=True)
        self.attempts: list[Attempt] = []
        self.histories: dict[str, History] = {}
        self._clients = [DavClient(url, timeout=timeout) for url in urls]
        self._source = random.Random(seed)
        self._seed = seed
        self._largest = largest
        self._pause = pause
        self._stopping = threading.Event()
        self._acknowledged = threading.Event()

    def run(self) -> None:
        turn = 0
        while not self._stopping.is_set():
            attempt = self._put(self._clients[turn % len(self._clients)])
            self.attempts.append(attempt)
            if attempt.ok:
                self._acknowledged.set()
                self._stopping.wait(self._pause)
            else:
                turn += 1
                self._stopping.wait(RETRY_PAUSE)

    def await_ack(self, limit: float) -> float:
        """Wait for an acknowledgement of a PUT that began after this call; returns the seconds until it came."""
        began = time.monotonic()
        while time.monotonic() - began < limit:
            self._acknowledged.clear()
            self._acknowledged.wait(limit)
            late = [attempt for attempt in list(self.attempts) if attempt.ok and attempt.began >= began]
            if late:
                return late[0].ended - began
        raise AssertionError(f"no PUT was acknowledged for {limit:.0f} s; the last attempts: {self.attempts[-5:]}")

    def finish(self, limit: float = 30.0) -> None:
        """Stop after the PUT that is under way."""
        self._stopping.set()
        self.join(limit)
        assert not self.is_alive(), "a PUT hangs"
        for client in self._clients:
            client.close()

    def _put(self, client: DavClient) -> Attempt:
        number = len(self.attempts)
        name = f"w{self._seed}-{number if number % 3 else self._source.randrange(number + 1)}.bin"
        size = self._source.choice((0, 1, 1000, 20_000, self._source.randrange(self._largest)))
        data = self._source.randbytes(size)
        history = self.histories.setdefault(name, History())
        began, status = time.monotonic(), None
        try:
            status = client.put(name, data).status
        except (OSError, HTTPException):
            client.close()
        history.note(digest(data), status)
        ok = status is not None and 200 <= status < 300
        return Attempt(name, ok, status, began, time.monotonic())


def judge(client: DavClient, writers: Sequence[Writer], others: Sequence[str] = ()) -> int:
    """Read every name back and compare with what the promise allows; returns how many files were there and whole.

    Writers must not share names. No other name may be there, save conflict copies and `others`.
    """
    histories = {name: history for writer in writers for name, history in writer.histories.items()}
    whole, wrong = 0, []
    for name, history in histories.items():
        answer = client.get(name)
        assert answer.status in (200, 404), f"GET {name} was answered {answer.status}"
        found = digest(answer.body) if answer.status == 200 else None
        if found not in history.allowed:
            wrong.append(f"{name}: {answer.status}, {len(answer.body)} bytes, acknowledged {history.acknowledged}")
        whole += found is not None
    assert not wrong, f"{len(wrong)} of {len(histories)} names break the promise:\n" + "\n".join(wrong[:20])
    known = {*histories, *others}
    strangers = [name for name in client.members() if name not in known and "(conflict " not in name]
    assert not strangers, f"names that nobody wrote: {strangers[:10]}"
    return whole
