"""Saying "have it" again: before a record may name chunks whose acknowledgements are old (design, section 3).

A node that is asked verifies its copy and begins its grace anew, durably, so that no collector's order that is on its
way takes it. Whoever commits a record that names chunks which nothing named until then asks first.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from davfs.cluster.lagging import Credentials
from davfs.cluster.site import Site
from davfs.core.effects import Call, Gather, Outcomes, Protocol_, Reply
from davfs.core.errors import QuorumLost
from davfs.core.model import ChunkRef

AT_ONCE = 8
"""Chunks in one question: each is read and verified there."""


@dataclass(slots=True)
class Confirmed:
    """Which nodes have a chunk, verified a moment ago."""

    chunk: ChunkRef
    nodes: set[str] = field(default_factory=set)


def copies(site: Site, credentials: Credentials, chunks: Iterable[ChunkRef]) -> Protocol_[list[Confirmed]]:
    """For each chunk, those of its nodes that say "have it"; they keep it for the whole grace from now on."""
    found = [Confirmed(chunk) for chunk in chunks]
    for some in _batches(found):
        wanted: dict[str, list[Confirmed]] = {}
        for one in some:
            for node in one.chunk.nodes:
                if node in site.state.nodes:
                    wanted.setdefault(node, []).append(one)
        calls = [
            Call(
                node,
                "chunk.keep",
                {**credentials.wire(), "digests": [one.chunk.digest for one in asked]},
                timeout=site.timing.transfer,
            )
            for node, asked in wanted.items()
        ]
        outcomes: Outcomes = yield Gather(calls)
        for node, outcome in outcomes.items():
            if isinstance(outcome, Reply) and len(outcome.value["kept"]) == len(wanted[node]):
                for one, size in zip(wanted[node], outcome.value["kept"], strict=True):
                    if size == one.chunk.size:
                        one.nodes.add(node)
    return found


def confirm(site: Site, credentials: Credentials, chunks: Iterable[ChunkRef], write_quorum: int) -> Protocol_[None]:
    """:class:`QuorumLost` unless each chunk has W copies that were verified just now and are kept."""
    for one in (yield from copies(site, credentials, chunks)):
        lasting = one.nodes.difference(site.state.membership.leaving)
        if len(lasting) < write_quorum:
            raise QuorumLost(f"chunk {one.chunk.digest} has {len(lasting)} good copies instead of {write_quorum}; try again")


def _batches(found: Sequence[Confirmed]) -> Iterable[Sequence[Confirmed]]:
    return (found[start : start + AT_ONCE] for start in range(0, len(found), AT_ONCE))
