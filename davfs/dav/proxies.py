"""What reverse proxies in front say about a request: who its client is, and how that client names this server.

Only the word of a proxy that the configuration trusts counts, in the one family of fields that it is said to set: a proxy
that sets ``X-Forwarded-For`` hands on a ``Forwarded`` that its client made up, and the other way round. Lists are read from
the right, where the nearest proxy wrote, up to the first address that is no trusted proxy's. Sources: RFC 7239; for the
older fields, what nginx and Apache do. Pure: an environment in, an environment out.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from davfs.core.errors import InvalidInput
from davfs.dav.target import below_prefix, parse_prefix

X_FORWARDED = "x-forwarded"
FORWARDED = "forwarded"
FAMILIES = (X_FORWARDED, FORWARDED)

HOSTS = "davfs.hosts"
"""In the environment: the names (with or without ports, after commas) under which the client may know this server."""

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

_MAX_FIELD = 8192
_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PAIR = re.compile(rf'[ \t]*({_WORD})=(?:({_WORD})|"((?:[^"\\]|\\.)*)")[ \t]*([;,]|$)')
_EMPTY = re.compile(r"[ \t]*([;,]|$)")


class Hop(NamedTuple):
    """What one proxy says of whoever spoke to it; "" for what it does not say."""

    client: str = ""
    scheme: str = ""
    host: str = ""


def parse_networks(texts: Sequence[str]) -> tuple[Network, ...]:
    """Addresses and networks (``10.0.0.0/8``); :class:`InvalidInput` names the text that is neither."""
    networks = []
    for text in texts:
        try:
            networks.append(ipaddress.ip_network(text))
        except ValueError as error:
            raise InvalidInput(f"{text!r} is no address and no network such as 10.0.0.0/8: {error}") from error
    return tuple(networks)


class Proxies:
    """``trusted``: addresses and networks of proxies; ``family``: the fields that they set; ``prefix``: the path under which
    they show the drive, if they pass it on as it is."""

    def __init__(self, trusted: Sequence[str] = (), family: str = X_FORWARDED, prefix: str = "") -> None:
        self._trusted = parse_networks(trusted)
        self._family = family
        self._prefix = parse_prefix(prefix)

    def seen(self, environ: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
        """(the environment as if the client had come by itself, the prefix of all its URLs, quoted and without a slash at its
        end). :class:`InvalidInput` for what a trusted proxy cannot have meant.

        ``REQUEST_URI`` loses the prefix; a path outside of it is taken as it is, without one.
        """
        own = dict(environ)
        outer = ""
        told = [name for name in own if name == "HTTP_FORWARDED" or name.startswith("HTTP_X_FORWARDED_")]
        if not told and not self._prefix:
            return own, ""
        if self._trusts(str(environ.get("REMOTE_ADDR", ""))):
            hop = self._hop(environ)
            own["REMOTE_ADDR"] = hop.client or environ["REMOTE_ADDR"]
            own["wsgi.url_scheme"] = hop.scheme or environ.get("wsgi.url_scheme", "http")
            if hop.host:
                own[HOSTS] = f"{hop.host}, {environ.get('HTTP_HOST', '')}"
                own["HTTP_HOST"] = hop.host
            if self._family == X_FORWARDED:
                outer = parse_prefix(_last(environ.get("HTTP_X_FORWARDED_PREFIX", "")))
        for name in told:
            del own[name]  # nothing further on is to believe them
        inner = self._without_prefix(own)
        return own, outer + inner

    def _without_prefix(self, own: dict[str, Any]) -> str:
        uri = own.get("REQUEST_URI")
        if not self._prefix or not isinstance(uri, str) or uri == "*":
            return ""
        path, mark, query = uri.partition("?")
        if not path.startswith("/"):
            path = "/" + path.partition("://")[2].partition("/")[2]
        rest = below_prefix(path, self._prefix)
        if rest is None:
            return ""
        own["REQUEST_URI"] = rest + mark + query
        return self._prefix

    def _hop(self, environ: Mapping[str, Any]) -> Hop:
        """What the trusted proxy that is nearest to the client says of it."""
        if self._family == FORWARDED:
            hops = parse_forwarded(environ.get("HTTP_FORWARDED", ""))
        else:
            hops = _x_forwarded(environ)
        found = Hop()
        for hop in reversed(hops):
            address = _address(hop.client)
            # What is not told, or is no address (RFC 7239, 6.3), ends what can be followed.
            found = Hop(address or found.client, hop.scheme or found.scheme, hop.host or found.host)
            if not address or not self._trusts(address):
                break
        return found

    def _trusts(self, text: str) -> bool:
        address = _parsed(text)
        return address is not None and any(
            address.version == network.version and address in network for network in self._trusted
        )


def parse_forwarded(field: str) -> list[Hop]:
    """The elements of a Forwarded field, from the client to here (RFC 7239, 4); :class:`InvalidInput` if it is malformed."""
    hops: list[Hop] = []
    pairs: dict[str, str] = {}
    position, field = 0, field.strip()
    if len(field) > _MAX_FIELD:
        raise InvalidInput("the Forwarded field is too long")
    while position < len(field):
        found = _PAIR.match(field, position)
        empty = None if found else _EMPTY.match(field, position)
        if found:
            pairs[found[1].lower()] = found[2] if found[2] is not None else re.sub(r"\\(.)", r"\1", found[3])
        elif not empty:
            raise InvalidInput(f"the Forwarded field is malformed at character {position} (RFC 7239, 4)")
        match = found or empty
        assert match is not None  # noqa: S101  (one of the two)
        position = match.end()
        if match[match.lastindex or 0] == "," or position >= len(field):
            if pairs:
                hops.append(_checked(pairs.get("for", ""), pairs.get("proto", ""), pairs.get("host", "")))
            pairs = {}
    return hops


def _x_forwarded(environ: Mapping[str, Any]) -> list[Hop]:
    """One hop for each address of X-Forwarded-For. Host and Proto are lists of as many, or one value that holds for all."""
    clients, schemes, hosts = (
        [part.strip() for part in str(environ.get(f"HTTP_X_FORWARDED_{name}", ""))[-_MAX_FIELD:].split(",") if part.strip()]
        for name in ("FOR", "PROTO", "HOST")
    )
    count = max(len(clients), 1)
    clients = [""] * (count - len(clients)) + clients

    def at(values: list[str], back: int) -> str:
        return values[max(len(values) - back, 0)] if values else ""

    return [
        _checked(client, at(schemes, count - index), at(hosts, count - index)) for index, client in enumerate(clients)
    ]


def _checked(client: str, scheme: str, host: str) -> Hop:
    scheme = scheme.lower()
    return Hop(client, scheme if scheme in ("http", "https") else "", host if "," not in host else "")


def _last(field: str) -> str:
    return str(field).rpartition(",")[2].strip()


def _address(node: str) -> str:
    """The address in ``192.0.2.1``, ``192.0.2.1:80``, ``2001:db8::1`` or ``[2001:db8::1]:80``; "" for anything else."""
    node = node.strip()
    if node.startswith("["):
        node = node[1:].partition("]")[0]
    elif node.count(":") == 1:
        node = node.partition(":")[0]
    address = _parsed(node)
    return "" if address is None else str(address)


def _parsed(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)  # a listener for both kinds shows IPv4 so
    return mapped or address
