"""How a transcript is written, and what it reads as. Nothing is sent here.

A transcript begins with ``client:``, ``agent:`` (its User-Agent) and ``source:`` lines; lines that begin with ``#`` are
remarks. Then operations (``== mount``) of steps (``-- title``), each of lines that begin with

====  =====================================================================================================
``>``  the request: method and target, headers, an empty ``>``, the body; ``@generated NAME COUNT`` is a made body
``<``  the answer: the statuses that are right, then headers: ``Name: value`` (the header's whole value or one of its
       comma-separated ones), ``Name: *`` (there, whatever it says)
``=``  facts, see :data:`FACTS`
====  =====================================================================================================

A target that begins with ``/`` is below the folder of the run and written as it is sent (quoted). ``{name}`` stands for
what a step kept, or ``{root}`` ``/``, ``{volume}`` the path of the URL, ``{path}`` and ``{url}`` path and URL of the
run's folder (no slash at the end), ``{size}`` the length of the large file. Must not import: davfs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

FACTS = {
    "has": "names (quoted, with commas between) that the answer, a multistatus, lists; collections end with a slash",
    "lacks": "names that it does not list",
    "property": "name and value of a property of the answer's first response (* is any, - is that it is not found)",
    "body": "the text that is the answer's whole body, or @generated NAME COUNT [FIRST-LAST]",
    "keep": "a name, then 'header NAME', 'property NAME' or 'locktoken': later steps write it as {name}",
    "file": "target, then its content as for body: read back through every URL",
    "folder": "a target that is a collection, through every URL",
    "gone": "a target that is not there, through every URL",
    "unlocked": "a target without a lock, through every URL",
    "modified": "target, then its getlastmodified, through every URL",
}
"""What may follow ``=``: of the answer, or (from ``file`` on) effects, checked by requests of the runner's own."""

GENERATED = "@generated "
_VARIABLE = re.compile(r"\{([a-z_]+)\}")


class ScriptError(ValueError):
    """A transcript is not written as it must be; says file, line and what is wrong."""


@dataclass(frozen=True)
class Exchange:
    """One request of the client and what must come of it; texts still have their variables."""

    operation: str
    title: str
    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: str | None
    statuses: frozenset[int]
    expected: tuple[tuple[str, str], ...]
    facts: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Transcript:
    """One client: its name as people know it, its User-Agent ('' for none), sources, and its requests in order."""

    name: str
    client: str
    agent: str
    sources: tuple[str, ...]
    exchanges: tuple[Exchange, ...]

    @property
    def operations(self) -> tuple[str, ...]:
        """The names of the operations, in order, each once."""
        return tuple(dict.fromkeys(exchange.operation for exchange in self.exchanges))


@dataclass
class _Draft:
    """The lines of a step until its end is seen."""

    operation: str
    title: str
    line: int
    lines: dict[str, list[str]] = field(default_factory=lambda: {">": [], "<": [], "=": []})


def transcripts() -> dict[str, Path]:
    """The files that come with this package, by name."""
    return {path.stem: path for path in sorted(Path(__file__).parent.glob("*.txt"))}


def read(path: Path) -> Transcript:
    """A transcript from its file; ScriptError when it is not one."""
    return parse(path.read_text(encoding="utf-8"), path.stem)


def parse(text: str, name: str) -> Transcript:
    """A transcript from its text; ScriptError when it is not one."""
    head: dict[str, list[str]] = {"client": [], "agent": [], "source": []}
    exchanges: list[Exchange] = []
    operation, draft = "", None
    for number, line in enumerate(text.splitlines(), 1):
        mark, _, rest = line.partition(" ")
        if not line.strip() or mark.startswith("#"):
            continue
        if mark in ("==", "--"):
            if draft is not None:
                exchanges.append(_exchange(draft, name))
            operation = rest.strip() if mark == "==" else operation
            draft = _Draft(operation, rest.strip(), number) if mark == "--" else None
        elif draft is not None and mark in draft.lines:
            draft.lines[mark].append(rest)
        elif not operation and mark.rstrip(":") in head and mark.endswith(":"):
            head[mark.rstrip(":")].append(rest.strip())
        else:
            raise ScriptError(f"{name}, line {number}: neither part of the head nor of a step: {line!r}")
    if draft is not None:
        exchanges.append(_exchange(draft, name))
    if len(head["client"]) != 1 or not head["source"] or not exchanges:
        raise ScriptError(f"{name}: it must say its client, its sources, and at least one step")
    agent = "".join(head["agent"])
    return Transcript(name, head["client"][0], agent, tuple(head["source"]), tuple(exchanges))


def _exchange(draft: _Draft, name: str) -> Exchange:
    where = f"{name}, line {draft.line} ({draft.title})"
    request, answer = draft.lines[">"], draft.lines["<"]
    if not draft.operation or not request or not answer:
        raise ScriptError(f"{where}: a step is part of an operation, has a request (>) and an answer (<)")
    end = request.index("") if "" in request else len(request)
    method, _, target = request[0].partition(" ")
    facts = []
    for line in draft.lines["="]:
        kind, _, rest = line.partition(" ")
        if kind not in FACTS:
            raise ScriptError(f"{where}: there is no fact {kind!r}, only {', '.join(FACTS)}")
        facts.append((kind, rest.strip()))
    try:
        statuses = frozenset(int(status) for status in answer[0].split())
    except ValueError:
        raise ScriptError(f"{where}: statuses are numbers, not {answer[0]!r}") from None
    return Exchange(
        draft.operation,
        draft.title,
        method,
        target.strip(),
        tuple(_header(line, where) for line in request[1:end]),
        "\n".join(request[end + 1 :]) if end < len(request) else None,
        statuses,
        tuple(_header(line, where) for line in answer[1:]),
        tuple(facts),
    )


def _header(line: str, where: str) -> tuple[str, str]:
    name, colon, value = line.partition(":")
    if not colon or " " in name:
        raise ScriptError(f"{where}: not a header: {line!r}")
    return name, value.strip()


def fill(text: str, variables: Mapping[str, str]) -> str:
    """The text with its variables replaced; ScriptError names one that no step has kept."""

    def value(match: re.Match[str]) -> str:
        if match[1] not in variables:
            raise ScriptError(f"nothing was kept as {{{match[1]}}}: the step that should have failed")
        return variables[match[1]]

    return _VARIABLE.sub(value, text)
