"""The text of dead properties as a client wrote it: prefixes, comments and all (RFC 4918, 4.3 and 4.4).

A tree that is parsed and written again has other prefixes. So each property of a PROPPATCH is cut out of the body, with the
namespaces and the language that it inherits put onto it. Pure.
"""

from __future__ import annotations

import re
from xml.parsers import expat
from xml.sax.saxutils import quoteattr

_PROPERTY = 4  # propertyupdate, set or remove, prop, and then the property
_NAME = re.compile(rb"<[^\s/>]+")
_TAG = re.compile(rb"""<(?:[^>"']|"[^"]*"|'[^']*')*>""")
_ENCODING = re.compile(rb"""^\s*<\?xml[^>]*?\sencoding\s*=\s*["']([A-Za-z0-9._-]+)["']""")
_LANGUAGE = "xml:lang"


def properties(data: bytes) -> dict[str, str]:
    """Clark name -> the text of the whole element, of each property in a well-formed ``propertyupdate``; of two of one name
    the later. Empty for encodings other than UTF-8."""
    data = data.removeprefix(b"\xef\xbb\xbf")
    declared = _ENCODING.match(data)
    if data[:2] in (b"\xff\xfe", b"\xfe\xff") or (declared and declared[1].lower() not in (b"utf-8", b"us-ascii")):
        return {}
    reader = _Reader(data)
    reader.read()
    return reader.found


class _Reader:
    """One pass over a body that was checked before: no DTD, no entities."""

    def __init__(self, data: bytes) -> None:
        self.found: dict[str, str] = {}
        self._data = data
        self._scope: dict[str, str] = {}  # attribute that declares a namespace, or the language -> value
        self._hidden: list[dict[str, str | None]] = []  # for each open element: what its own declarations stand before
        self._begin = 0
        self._tag = ""
        self._own: dict[str, str] = {}
        self._used: set[str] = set()
        self._parser = expat.ParserCreate()
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end

    def read(self) -> None:
        self._parser.Parse(self._data, True)

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        inherited = {n: v for n, v in attributes.items() if n == "xmlns" or n.startswith("xmlns:") or n == _LANGUAGE}
        self._hidden.append({name: self._scope.get(name) for name in inherited})
        self._scope.update(inherited)
        depth = len(self._hidden)
        if depth == _PROPERTY:
            self._begin, self._tag, self._own, self._used = self._parser.CurrentByteIndex, tag, attributes, set()
        if depth >= _PROPERTY:
            names = [tag, *(name for name in attributes if ":" in name and not name.startswith("xmlns"))]
            self._used.update("xmlns:" + n.partition(":")[0] if ":" in n else "xmlns" for n in names)

    def _end(self, tag: str) -> None:
        if len(self._hidden) == _PROPERTY:
            self._cut(self._parser.CurrentByteIndex)
        for name, value in self._hidden.pop().items():
            if value is None:
                del self._scope[name]
            else:
                self._scope[name] = value

    def _cut(self, at: int) -> None:
        data, scope = self._data, self._scope
        tag = _TAG.match(data, self._begin)
        empty = tag is not None and tag[0].endswith(b"/>")
        end = tag.end() if tag is not None and empty else data.index(b">", at) + 1
        name = _NAME.match(data, self._begin)
        split = name.end() if name else self._begin
        wanted = sorted(n for n in {*self._used, _LANGUAGE} if n in scope and n not in self._own and n != "xmlns:xml")
        added = "".join(f" {name}={quoteattr(scope[name])}" for name in wanted)
        text = data[self._begin : split].decode() + added + data[split:end].decode()
        prefix, colon, local = self._tag.rpartition(":")
        namespace = scope.get(f"xmlns:{prefix}" if colon else "xmlns", "")
        self.found[f"{{{namespace}}}{local}" if namespace else local] = text
