"""Plays transcripts: sends each request as it is written, judges the answer and what came of it.

Effects are looked at by requests of the runner's own through the URL that is played against and every other one of the
same collection (``--through``), so that a change through one node is seen to be there on the others. Must not import:
davfs.
"""

from __future__ import annotations

import random
import urllib.parse
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from http.client import HTTPException

from compat.client import Answer, DavClient
from compat.report import CompatError, Report
from compat.target import Target
from compat.transcripts.script import GENERATED, Exchange, ScriptError, Transcript, fill

BLOCK = 1 << 20
DEFAULT_SIZE = 100_000_000
TIMEOUT = 300.0
NOT_FOUND = "-"
ANY = "*"
DAV = "{DAV:}"
LOOK = (
    b'<?xml version="1.0"?><D:propfind xmlns:D="DAV:"><D:prop>'
    b"<D:resourcetype/><D:getlastmodified/><D:lockdiscovery/></D:prop></D:propfind>"
)


class RawClient(DavClient):
    """A client whose paths are request targets already, sent as they are."""

    def target(self, path: str) -> str:
        """The path itself."""
        return path


class Player:
    """One transcript in one folder; variables grow from step to step."""

    def __init__(self, transcript: Transcript, folder: Target, volume: Target, size: int) -> None:
        self.transcript = transcript
        path = urllib.parse.urlsplit(folder.url).path.rstrip("/")
        self.variables = {
            "root": "/",
            "volume": urllib.parse.urlsplit(volume.url).path.rstrip("/"),
            "path": path,
            "url": folder.url.rstrip("/"),
            "size": str(size),
        }

    def target(self, text: str) -> str:
        """The request target that a text of the transcript stands for."""
        filled = fill(text, self.variables)
        return self.variables["path"] + filled if text.startswith("/") else filled

    def step(self, exchange: Exchange, client: DavClient, eyes: Sequence[DavClient]) -> None:
        """Send one request and judge it; CompatError or ScriptError says what is wrong."""
        headers = {"User-Agent": self.transcript.agent} if self.transcript.agent else {}
        headers.update({name: fill(value, self.variables) for name, value in exchange.headers})
        body = None if exchange.body is None else self._body(exchange.body, headers)
        answer = client.request(exchange.method, self.target(exchange.target), body, headers)
        if answer.status not in exchange.statuses:
            wanted = " or ".join(str(status) for status in sorted(exchange.statuses))
            raise CompatError(f"answered {answer.status}, not {wanted}: {answer.body[:200]!r}")
        for name, value in exchange.expected:
            _check_header(answer, name, fill(value, self.variables))
        for kind, rest in exchange.facts:
            self._fact(kind, rest, answer, eyes)

    def _body(self, text: str, headers: dict[str, str]) -> bytes | Iterator[bytes]:
        filled = fill(text, self.variables)
        chunked = headers.pop("Transfer-Encoding", "") == "chunked"
        if not filled.startswith(GENERATED):
            data = filled.encode()
            return iter([data[:7], data[7:]]) if chunked else data
        _, name, count = filled.split()
        if not chunked:
            headers["Content-Length"] = count
        return generated(name, int(count))

    def _fact(self, kind: str, rest: str, answer: Answer, eyes: Sequence[DavClient]) -> None:
        match kind:
            case "keep":
                name, _, what = rest.partition(" ")
                self.variables[name] = _kept(what, answer)
            case "has" | "lacks":
                listed = _listed(answer)
                names = {urllib.parse.unquote(name.strip()) for name in fill(rest, self.variables).split(",")}
                wrong = names - listed if kind == "has" else names & listed
                if wrong:
                    raise CompatError(f"the answer {kind} not {sorted(wrong)}: it lists {sorted(listed)}")
            case "property":
                name, _, value = rest.partition(" ")
                _check_property(answer, name, fill(value, self.variables))
            case "body":
                _check_content(answer.body, fill(rest, self.variables))
            case _:
                place, _, value = rest.partition(" ")
                for eye in eyes:
                    try:
                        _look(eye, kind, self.target(place), fill(value, self.variables))
                    except CompatError as error:
                        raise CompatError(f"{place} through {eye.url}: {error}") from error


def play(transcript: Transcript, target: Target, through: Sequence[str] = (), size: int = DEFAULT_SIZE) -> Report:
    """Play a transcript in a new folder, which is removed at the end; one row a step, named 'operation: title'."""
    report = Report(f"{transcript.client}, as its transcript says, against {target.url}")
    with target.folder(transcript.name) as folder, ExitStack() as stack:
        player = Player(transcript, folder, target, size)
        urls = [target.url, *(url for url in through if url != target.url)]
        eyes = [stack.enter_context(RawClient(url, target.user, target.password, TIMEOUT)) for url in urls]
        client = stack.enter_context(RawClient(target.url, target.user, target.password, TIMEOUT))
        for exchange in transcript.exchanges:
            with report.step(f"{exchange.operation}: {exchange.title}"):
                try:
                    player.step(exchange, client, eyes)
                except (ScriptError, HTTPException) as error:
                    raise CompatError(f"{type(error).__name__}: {error}") from error
    return report


def generated(name: str, count: int) -> Iterator[bytes]:
    """`count` bytes that follow from the name alone, in blocks that differ from each other."""
    base = random.Random(name).randbytes(BLOCK)
    for start in range(0, count, BLOCK):
        yield (start.to_bytes(8, "big") + base[8:])[: count - start]


def _check_content(body: bytes, wanted: str) -> None:
    if not wanted.startswith(GENERATED):
        if body != wanted.encode():
            raise CompatError(f"the content is {body[:200]!r}, not {wanted!r}")
        return
    _, name, count, *part = wanted.split()
    whole = b"".join(generated(name, int(count)))
    if part:
        first, _, last = part[0].partition("-")
        whole = whole[int(first) : int(last) + 1 if last else None]
    if body != whole:
        raise CompatError(f"{len(body)} bytes came that are not the {len(whole)} of {wanted}")


def _check_header(answer: Answer, name: str, wanted: str) -> None:
    value = answer.headers.get(name.lower())
    if value is None:
        raise CompatError(f"the answer ({answer.status}) has no header {name}")
    if wanted not in (ANY, value) and wanted not in [part.strip() for part in value.split(",")]:
        raise CompatError(f"{name} is {value!r}, not {wanted!r}")


def _tree(answer: Answer) -> ElementTree.Element:
    try:
        return ElementTree.fromstring(answer.body)
    except ElementTree.ParseError as error:
        raise CompatError(f"the answer is not XML: {error}: {answer.body[:200]!r}") from error


def _listed(answer: Answer) -> set[str]:
    names = set()
    for response in _tree(answer).iter(f"{DAV}response"):
        href = urllib.parse.unquote(response.findtext(f"{DAV}href") or "")
        is_collection = response.find(f".//{DAV}collection") is not None
        names.add(href.rstrip("/").rpartition("/")[2] + ("/" if is_collection else ""))
    return names


def _property(answer: Answer, name: str) -> ElementTree.Element | None:
    """The property's element among those that were found (200) in the first response, or None."""
    full = name if name.startswith("{") else DAV + name
    response = _tree(answer).find(f"{DAV}response")
    for propstat in response.iter(f"{DAV}propstat") if response is not None else ():
        found = propstat.find(f"{DAV}prop/{full}")
        if found is not None and " 200 " in (propstat.findtext(f"{DAV}status") or ""):
            return found
    return None


def _check_property(answer: Answer, name: str, wanted: str) -> None:
    found = _property(answer, name)
    text = NOT_FOUND if found is None else "".join(found.itertext()).strip()
    if text != wanted and not (wanted == ANY and found is not None):
        raise CompatError(f"property {name} is {text!r}, not {wanted!r}")


def _kept(what: str, answer: Answer) -> str:
    kind, _, name = what.partition(" ")
    value: str | None = None
    if kind == "header":
        value = answer.headers.get(name.lower())
    elif kind == "property":
        found = _property(answer, name)
        value = None if found is None else found.text
    elif kind == "locktoken":
        value = _tree(answer).findtext(f".//{DAV}locktoken/{DAV}href")
    if not value:
        raise CompatError(f"the answer has no {what}")
    return value.strip().strip("<>") if kind == "locktoken" or name.lower() == "lock-token" else value


def _look(eye: DavClient, kind: str, place: str, wanted: str) -> None:
    """Check an effect with a request of the runner's own."""
    if kind == "file":
        answer = eye.get(place)
        if answer.status != 200:
            raise CompatError(f"GET is answered {answer.status}")
        _check_content(answer.body, wanted)
        return
    answer = eye.request("PROPFIND", place, LOOK, {"Depth": "0", "Content-Type": "application/xml"})
    if (answer.status == 404) != (kind == "gone"):
        raise CompatError(f"it should be {'gone' if kind == 'gone' else 'there'}: PROPFIND is answered {answer.status}")
    if kind == "folder" and _tree(answer).find(f".//{DAV}collection") is None:
        raise CompatError("it is not a collection")
    if kind == "unlocked" and _tree(answer).find(f".//{DAV}activelock") is not None:
        raise CompatError("it is locked still")
    if kind == "modified":
        _check_property(answer, "getlastmodified", wanted)
