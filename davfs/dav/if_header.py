"""The If header of RFC 4918, section 10.4: parsed in full, and evaluated against the state of resources. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from davfs.core.errors import InvalidInput

MAX_LENGTH = 16 * 1024
_TOKEN = re.compile(
    r"""\s*+(?:
        <(?P<url>[^<>]*+)>
      | \[\s*+(?P<etag>(?:W/)?"[^"]*+"|[^\]\s]*+)\s*+\]
      | (?P<mark>[()])
      | (?P<no>[Nn][Oo][Tt]\b)
    )""",
    re.VERBOSE,
)


class State(NamedTuple):
    """What a resource is like: its quoted etag (None: it has none, or there is nothing), the tokens of its locks."""

    etag: str | None
    tokens: frozenset[str]


class Term(NamedTuple):
    """One condition of a list: a state token or (``is_etag``) an entity tag, as sent; ``negated`` by Not."""

    value: str
    is_etag: bool
    negated: bool


class ConditionList(NamedTuple):
    """A parenthesised list: all its terms must hold for the resource. ``tag``: its URL, None for the request's own."""

    tag: str | None
    terms: tuple[Term, ...]


class IfHeader(NamedTuple):
    """A parsed header: it holds when any of its lists does."""

    lists: tuple[ConditionList, ...]

    @property
    def tokens(self) -> frozenset[str]:
        """All state tokens: wherever one stands, the client has submitted it (RFC 4918, 10.4.1)."""
        return frozenset(term.value for one in self.lists for term in one.terms if not term.is_etag)

    def holds(self, state_of: Callable[[str | None], State]) -> bool:
        """Whether any list holds. ``state_of`` gives the state for a tag, None meaning the request's resource."""
        return any(_list_holds(one, state_of(one.tag)) for one in self.lists)


def parse_if(text: str) -> IfHeader:
    """The parsed header; :class:`InvalidInput` if it is not one."""
    if len(text) > MAX_LENGTH:
        raise InvalidInput("the If header is too long")
    lists: list[ConditionList] = []
    terms: list[Term] | None = None  # of the list that is open
    tag: str | None = None
    tag_used = True
    tagged: bool | None = None  # untagged and tagged lists may not be mixed
    negated = False
    position = 0
    text = text.rstrip()
    while position < len(text):
        found = _TOKEN.match(text, position)
        if not found:
            raise InvalidInput(f"the If header is malformed at character {position}")
        position = found.end()
        kind, value = str(found.lastgroup), found.group(str(found.lastgroup))
        if terms is None:
            if kind == "url" and tagged is not False and tag_used:
                tag, tag_used, tagged = value, False, True
            elif kind == "mark" and value == "(":
                terms, tagged, tag_used = [], tagged or False, True
            else:
                raise InvalidInput("the If header is malformed outside of its lists")
        elif kind == "no" and not negated:
            negated = True
        elif kind in ("url", "etag"):
            terms.append(Term(value, kind == "etag", negated))
            negated = False
        elif value == ")" and terms and not negated:
            lists.append(ConditionList(tag, tuple(terms)))
            terms = None
        else:
            raise InvalidInput("a list of the If header is malformed")
    if terms is not None or not lists or not tag_used:
        raise InvalidInput("the If header ends early")
    return IfHeader(tuple(lists))


def _list_holds(one: ConditionList, state: State) -> bool:
    for term in one.terms:
        if term.is_etag:
            holds = state.etag is not None and _bare(term.value) == _bare(state.etag)
        else:
            holds = term.value in state.tokens
        if holds == term.negated:
            return False
    return True


def _bare(etag: str) -> str:
    # Weak comparison: ours are strong, and clients add W/ or drop the quotes (RFC 9110, 8.8.3.2).
    return etag.removeprefix("W/").strip('"')
