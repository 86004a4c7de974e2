"""A removed node's open connection for forwarded requests gets nothing more."""

from collections.abc import Callable
from typing import Any

from davfs.core.errors import Forbidden
from davfs.node.admission import members_only
from davfs.rpc.identity import Peer


def test_a_connection_that_is_older_than_the_removal_is_refused() -> None:
    certificate = {
        "subject": ((("commonName", "node-4"),),), "serialNumber": "0A",
        "notBefore": "Jan  1 00:00:00 2026 GMT", "notAfter": "Jan  1 00:00:00 2056 GMT",
    }  # fmt: skip
    removed: set[str] = set()
    statuses: list[str] = []

    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes | memoryview]:
        start_response("200 OK", [])
        return [b"served"]

    def admit(peer: Peer) -> None:
        if peer.name in removed:
            raise Forbidden(f"{peer} was removed")

    guarded = members_only(application, admit)

    def ask() -> list[bytes | memoryview]:
        return list(guarded({"davfs.certificate": certificate}, lambda status, fields: statuses.append(status)))

    assert ask() == [b"served"]
    removed.add("node-4")
    assert ask() == []
    assert statuses == ["200 OK", "403 Forbidden"]
