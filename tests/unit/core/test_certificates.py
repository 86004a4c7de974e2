"""Which certificates are listed and which open nothing: by serial number, and by name whether seen before or not."""

import pytest

from davfs.core import certificates
from davfs.core.certificates import LISTED_PER_NAME, Certificates
from davfs.core.cluster_state import ClusterState, value_of
from davfs.core.errors import Forbidden, NodeNotFound, NotFound

OLD, NEW, HIDDEN = "a" * 40, "b" * 39, "c" * 40


def table() -> Certificates:
    return certificates.issue(certificates.see(Certificates(), OLD, "node-1", 100), NEW, "node-1", 200)


def test_a_revoked_serial_is_refused_and_the_next_one_of_the_same_node_is_not() -> None:
    after, serials = certificates.revoke(table(), OLD)
    assert serials == [OLD]
    assert after.refused("node-1", OLD)
    assert not after.refused("node-1", NEW)
    assert not after.refused("node-1", HIDDEN), "nobody spoke of it"
    assert certificates.see(after, OLD, "node-1", 100).refused("node-1", OLD), "showing it again does not help"


def test_revoking_a_name_ends_what_was_never_seen_too_and_only_what_is_issued_later_counts() -> None:
    after, serials = certificates.revoke(table(), "node-1")
    assert serials == [OLD, NEW]
    assert all(after.refused("node-1", serial) for serial in (OLD, NEW, HIDDEN))
    assert not after.refused("node-2", HIDDEN)
    assert certificates.see(after, HIDDEN, "node-1", 300).refused("node-1", HIDDEN)
    later = certificates.issue(after, "d" * 40, "node-1", 400)
    assert not later.refused("node-1", "d" * 40)
    again, serials = certificates.revoke(later, "node-1")
    assert serials == ["d" * 40] and again.refused("node-1", "d" * 40)


def test_a_name_is_known_by_its_node_and_a_serial_by_its_length() -> None:
    after, serials = certificates.revoke(Certificates(), "node-9", ["node-9"])
    assert serials == [] and after.refused("node-9", HIDDEN)
    assert certificates.revoke(Certificates(), HIDDEN)[0].refused("whoever", HIDDEN), "known from elsewhere"
    for what in ("nobody", "abc", "program:none", "A" * 40):
        with pytest.raises(NotFound, match="cert list"):
            certificates.revoke(table(), what)


def test_the_list_is_bounded_and_keeps_what_ends_last() -> None:
    after = Certificates()
    for number in range(LISTED_PER_NAME + 5):
        after = certificates.issue(after, f"{number:016x}", "node-1", 1000 - number)
    assert len(after.listed) == LISTED_PER_NAME
    assert max(issued.ends for issued in after.listed.values()) == 1000


def test_it_is_kept_in_snapshots_and_an_older_snapshot_has_none() -> None:
    state = ClusterState()
    value_of(state.apply(("1", "cert_issue", NEW, "node-1", 200)))
    value_of(state.apply(("2", "cert_see", OLD, "node-1", 100)))
    assert value_of(state.apply(("3", "cert_revoke", OLD))) == [OLD]
    value_of(state.apply(("4", "cert_issue", HIDDEN, "program:backup", 200)))
    assert value_of(state.apply(("5", "cert_revoke", "program:backup"))) == [HIDDEN]
    copy = ClusterState()
    copy.load(state.dump())
    assert copy.certificates == state.certificates
    assert copy.certificates.refused("program:backup", "1" * 40)
    assert certificates.load({}) == Certificates()


def test_a_token_for_a_certificate_is_for_one_node_once_and_lets_nobody_join() -> None:
    state = ClusterState()
    for name in ("node-1", "node-2"):
        value_of(state.apply((name, "node_set", name, "http://x", "", 1.0, "disk")))
    with pytest.raises(NodeNotFound):
        value_of(state.apply(("0", "token_add", "t0", 60.0, "node-9")))
    value_of(state.apply(("1", "token_add", "t", 60.0, "node-2")))
    copy = ClusterState()
    copy.load(state.dump())
    for cluster in (state, copy):
        info = {"name": "node-3", "dav": "http://y", "rpc": "h:1", "forward": "h:2"}
        with pytest.raises(Forbidden, match="used already"):
            value_of(cluster.apply(("2", "node_admit", "t", info)))
        with pytest.raises(Forbidden, match="--renew node-1"):
            value_of(cluster.apply(("3", "cert_issue", OLD, "node-1", 100, "t")))
        assert OLD not in cluster.certificates.listed
        value_of(cluster.apply(("4", "cert_issue", NEW, "node-2", 100, "t")))
        assert not cluster.membership.certifying and not cluster.membership.tokens
        with pytest.raises(Forbidden):
            value_of(cluster.apply(("5", "cert_issue", HIDDEN, "node-2", 100, "t")))
    value_of(state.apply(("6", "token_add", "t2", 60.0, "node-2")))
    value_of(state.apply(("7", "token_expire", "t2")))
    with pytest.raises(Forbidden):
        value_of(state.apply(("8", "cert_issue", HIDDEN, "node-2", 100, "t2")))
