"""What the documented HTTP API (``/v1/...``) looks like to the server: whole requests in, whole answers out.

The server frames messages, knows who asks and bounds sizes; what paths there are and what they mean is decided above.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

API_PATH = "/v1/"


@dataclass(frozen=True, slots=True)
class ApiRequest:
    """``peer``: the name in the caller's certificate; ``target``: path and query as sent; ``fields``: lower-case names."""

    peer: str
    method: str
    target: str
    fields: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class ApiAnswer:
    """``fields``: further header fields; Content-Length is added."""

    status: int
    body: bytes = b""
    content_type: str = "application/json"
    fields: Mapping[str, str] = field(default_factory=dict)


Api: TypeAlias = Callable[[ApiRequest], ApiAnswer]
"""Never raises a :class:`~davfs.core.errors.DavfsError`: errors are answers."""
