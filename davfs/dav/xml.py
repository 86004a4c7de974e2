"""XML of requests, read without entities or surprises (defusedxml), and the few helpers to write answers. Pure."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from davfs.core.errors import InvalidInput

MAX_BODY = 1024 * 1024  # bytes of XML that a request may bring
MAX_DEPTH = 256  # levels of elements: whoever writes a tree down calls itself for each
DAV = "{DAV:}"
HEAD = '<?xml version="1.0" encoding="utf-8"?>\n'
CONTENT_TYPE = "application/xml; charset=utf-8"
LANGUAGE = "{http://www.w3.org/XML/1998/namespace}lang"
_UNPRINTABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def parse(data: bytes) -> ElementTree.Element | None:
    """The root element of a request's body, None for an empty one; :class:`InvalidInput` for anything else."""
    if not data.strip():
        return None
    try:
        root: ElementTree.Element = fromstring(data, forbid_dtd=True)
    except (ElementTree.ParseError, DefusedXmlException, ValueError, LookupError) as error:
        raise InvalidInput(f"the body is no XML that is taken here: {error}") from None
    if data.count(b"<") > MAX_DEPTH and _deeper(root, MAX_DEPTH):
        raise InvalidInput(f"the body is nested more than {MAX_DEPTH} elements deep")
    return root


def _deeper(root: ElementTree.Element, most: int) -> bool:
    """Whether there are more levels of elements than that. Without recursion: this is what keeps others from it."""
    level = [root]
    for _ in range(most):
        level = [child for element in level for child in element]
        if not level:
            return False
    return True


def serialize(element: ElementTree.Element) -> str:
    """An element as text that stands for itself, with all namespaces that it needs."""
    tail, element.tail = element.tail, None
    try:
        return str(ElementTree.tostring(element, encoding="unicode"))
    finally:
        element.tail = tail


def escape(text: str) -> str:
    """Text as character data; what XML 1.0 cannot hold becomes U+FFFD."""
    if "&" in text or "<" in text or ">" in text:
        text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    if not text.isprintable():
        text = _UNPRINTABLE.sub("\ufffd", text)
    return text


def split_clark(name: str) -> tuple[str, str]:
    """(namespace, local name) of ``{namespace}name``; the namespace may be empty."""
    if name.startswith("{"):
        namespace, _, local = name[1:].partition("}")
        return namespace, local
    return "", name


def empty_element(name: str) -> str:
    """An empty element of a Clark name. DAV: has the prefix D, which the root of every answer declares."""
    namespace, local = split_clark(name)
    if namespace == "DAV:":
        return f"<D:{local}/>"
    if not namespace:
        return f"<{local}/>"
    quoted = escape(namespace).replace('"', "&quot;")
    return f'<x:{local} xmlns:x="{quoted}"/>'


def language_of(element: ElementTree.Element, inherited: str | None) -> str | None:
    """The xml:lang that holds inside an element."""
    return element.get(LANGUAGE, inherited)
