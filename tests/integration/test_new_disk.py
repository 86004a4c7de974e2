"""A node that lost its disk takes no part under its old name, until an administrator lets it in as a new member."""

from __future__ import annotations

import json
import random
from functools import partial

from tests.support.cluster import DevCluster
from tests.support.writes import Writer, digest, judge

LARGE = random.Random(3).randbytes(6_000_000)


def test_a_wiped_node_stays_out_until_it_is_readmitted(fresh: DevCluster) -> None:
    writer = Writer([fresh.url(1), fresh.url(3)], 1)
    writer.start()
    writer.await_ack(15)
    with fresh.client(1) as client:
        assert client.put("large.bin", LARGE).ok
    refused = fresh.command("node", "readmit", "node-2")
    assert refused.returncode == 1 and "remembers what it voted" in refused.stderr

    before = _store(fresh)
    fresh.kill(2)
    data = fresh.directory / "node-2" / "data"
    data.rename(data.with_name("lost"))
    wiped = fresh.serve(2)
    assert wiped.wait(30) == 1
    assert "davfs node readmit node-2" in fresh.log.with_name(f"{fresh.directory.name}.node-2.log").read_text()
    writer.await_ack(15)

    done = fresh.command("node", "readmit", "node-2")
    assert done.returncode == 0, fresh.story(done.stderr)
    fresh.serve(2)
    took = fresh.until("its new replica to count", lambda: _store(fresh) != before, 30)
    took += fresh.until("the node to vote again", partial(_votes, fresh), 30)
    print(f"counts again {took:.1f} s after its start")
    writer.await_ack(15)
    writer.finish()

    fresh.kill(1)  # what is left needs the new disk, in Raft and in the volume
    late = Writer([fresh.url(2), fresh.url(3)], 2)
    late.start()
    late.await_ack(20)
    late.finish()
    with fresh.client(2) as client:
        assert judge(client, [writer, late], ("large.bin",)) > 0
        assert digest(client.get("large.bin").body) == digest(LARGE)


def _votes(cluster: DevCluster) -> bool:
    known = cluster.status()
    return known["fresh"] and next(n["up"] and n["votes"] for n in known["nodes"] if n["name"] == "node-2")


def _store(cluster: DevCluster) -> str:
    """The incarnation of the node's replica store that may vote."""
    shown = cluster.command("volume", "show", "demo", "--json")
    return str(json.loads(shown.stdout)["incarnations"]["node-2"])
