"""PROPPATCH (RFC 4918, 9.2): the changes of one request, gathered while WsgiDAV reads them, made all at once or not at all."""

from __future__ import annotations

from davfs.cluster.api import Volume
from davfs.core.errors import InvalidInput
from davfs.dav import conditions, xml
from davfs.dav.request import Request

_XML_PROLOGUE = b'<?xml version="1.0" encoding="utf-8"?>\n'


class Staged:
    """Changes in the order of the document: what comes later wins (RFC 4918, 9.2)."""

    def __init__(self) -> None:
        self.mtime_ns: int | None = None
        self._changes: dict[str, str | None] = {}

    def set(self, name: str, text: str) -> None:
        """The whole XML element of a dead property; ``name`` is its Clark name."""
        self._changes[name] = text

    def remove(self, name: str) -> None:
        """Remove a dead property, if there is one."""
        self._changes[name] = None

    def commit(self, request: Request, volume: Volume) -> None:
        """Make the changes. An answer that reports a failure comes with nothing staged, and nothing is changed."""
        sets = {name: text for name, text in self._changes.items() if text is not None}
        removes = [name for name, text in self._changes.items() if text is None]
        path = request.target.path
        condition = conditions.of(request, volume, path)
        if sets or removes or self.mtime_ns is not None:
            volume.proppatch(path, sets, removes, condition=condition, caller=request.caller(), mtime_ns=self.mtime_ns)
        else:
            condition(volume.lookup(path))


def normalize(data: bytes) -> bytes:
    """The body as WsgiDAV is to see it: with the xml:lang that a property inherits on itself (RFC 4918, 4.3)."""
    root = xml.parse(data)
    if root is None or root.tag != xml.DAV + "propertyupdate":
        raise InvalidInput("the body of PROPPATCH is a DAV: propertyupdate element")
    for update in root:
        for prop in update:
            language = xml.language_of(prop, xml.language_of(update, xml.language_of(root, None)))
            for element in prop:
                if language is not None and element.get(xml.LANGUAGE) is None:
                    element.set(xml.LANGUAGE, language)
    return _XML_PROLOGUE + xml.serialize(root).encode()
