"""LOCK, UNLOCK and lockdiscovery as tests say them, over ``compat.client``."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass

from compat.client import Answer, DavClient

D = "{DAV:}"
OWNER = '<D:owner><D:href>mailto:anna@example.org</D:href><x:desk xmlns:x="urn:example:x">7 &amp; 8</x:desk></D:owner>'
DISCOVERY = b'<?xml version="1.0"?><D:propfind xmlns:D="DAV:"><D:prop><D:lockdiscovery/></D:prop></D:propfind>'


@dataclass(frozen=True)
class ActiveLock:
    """An ``activelock`` element (RFC 4918, 14.1); ``root`` is the href of its lockroot."""

    token: str
    exclusive: bool
    depth: str
    timeout: str
    root: str
    owner: str


def lock(
    client: DavClient,
    path: str,
    *,
    scope: str = "exclusive",
    depth: str = "0",
    timeout: str = "Second-600",
    owner: str = OWNER,
    agent: str = "",
) -> Answer:
    """LOCK with a body."""
    body = (
        f'<?xml version="1.0"?><D:lockinfo xmlns:D="DAV:"><D:lockscope><D:{scope}/></D:lockscope>'
        f"<D:locktype><D:write/></D:locktype>{owner}</D:lockinfo>"
    )
    headers = {"Depth": depth, "Timeout": timeout, "Content-Type": "application/xml"}
    return client.request("LOCK", path, body.encode(), headers | ({"User-Agent": agent} if agent else {}))


def locked(client: DavClient, path: str, **options: str) -> str:
    """LOCK that must be granted: its token."""
    answer = lock(client, path, **options)
    assert answer.ok, f"LOCK {path}: {answer.status} {answer.body!r}"
    return answer.headers["lock-token"].strip("<>")


def refresh(client: DavClient, path: str, token: str, timeout: str) -> Answer:
    """LOCK without a body."""
    return client.request("LOCK", path, None, {"If": f"(<{token}>)", "Timeout": timeout})


def unlock(client: DavClient, path: str, token: str) -> Answer:
    """UNLOCK."""
    return client.request("UNLOCK", path, None, {"Lock-Token": f"<{token}>"})


def submit(client: DavClient, path: str, *tokens: str) -> dict[str, str]:
    """The If header that submits tokens of locks that cover a path."""
    return {"If": f"<{client.target(path)}> " + "".join(f"(<{token}>)" for token in tokens)}


def discover(client: DavClient, path: str) -> list[ActiveLock]:
    """The locks that a PROPFIND shows for a path, inherited ones too."""
    answer = client.request("PROPFIND", path, DISCOVERY, {"Depth": "0"})
    assert answer.status == 207, f"PROPFIND {path}: {answer.status}"
    return active_locks(answer)


def active_locks(answer: Answer) -> list[ActiveLock]:
    """The locks that an answer tells of."""
    found = []
    for element in ElementTree.fromstring(answer.body).iter(f"{D}activelock"):
        owner = element.find(f"{D}owner")
        found.append(
            ActiveLock(
                element.findtext(f"{D}locktoken/{D}href") or "",
                element.find(f"{D}lockscope/{D}exclusive") is not None,
                element.findtext(f"{D}depth") or "",
                element.findtext(f"{D}timeout") or "",
                element.findtext(f"{D}lockroot/{D}href") or "",
                "" if owner is None else ElementTree.tostring(owner, encoding="unicode"),
            )
        )
    return found
