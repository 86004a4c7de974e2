"""The table of accounts: roles, names, app passwords, and its way through Raft's state."""

from __future__ import annotations

from typing import Any

import pytest

from davfs.core import accounts
from davfs.core.accounts import ADMIN, NONE, READ, ROLES, WRITE, Accounts
from davfs.core.chunking import digest_of
from davfs.core.cluster_state import ClusterState, value_of
from davfs.core.errors import AccountNotFound, AlreadyExists, InvalidInput
from davfs.core.passwords import hash_password

HASH = hash_password("secret", b"0123456789abcdef")
SECRET = accounts.app_password("0a1b", "f00d")


def table() -> Accounts:
    return accounts.add({}, "ann", HASH, NONE, {"v1": READ})


def test_each_role_includes_the_ones_before_it():
    for i, role in enumerate(ROLES):
        assert [accounts.allows(role, wanted) for wanted in ROLES] == [j <= i for j in range(len(ROLES))]


def test_a_role_is_the_volumes_own_or_the_default():
    ann = accounts.set_role(table(), "ann", "", WRITE)["ann"]
    assert (ann.role("v1"), ann.role("v2")) == (READ, WRITE)
    assert accounts.set_role({"ann": ann}, "ann", "v1", "")["ann"].role("v1") == WRITE
    assert accounts.set_role({"ann": ann}, "ann", "v1", NONE)["ann"].role("v1") == NONE


@pytest.mark.parametrize("role", ["", "owner", "READ"])
def test_a_role_that_is_none_is_refused(role):
    with pytest.raises(InvalidInput, match="none, read, write, admin"):
        accounts.set_role(table(), "ann", "", role)
    with pytest.raises(InvalidInput):
        accounts.add({}, "bob", HASH, role, {})


@pytest.mark.parametrize("name", ["", "a:b", " ann", "ann ", "a\nb", "a\0b", "x" * 129])
def test_names_that_http_cannot_carry_are_refused(name):
    with pytest.raises(InvalidInput):
        accounts.add({}, name, HASH, NONE, {})


def test_a_name_is_the_same_however_it_is_composed():
    zoe = accounts.add({}, "zoe\u0308", HASH, NONE, {})
    assert list(zoe) == ["zo\u00eb"]
    assert accounts.named(zoe, "zoe\u0308").name == "zo\u00eb"
    with pytest.raises(AlreadyExists):
        accounts.add(zoe, "zo\u00eb", HASH, NONE, {})
    assert accounts.delete(zoe, "zoe\u0308") == {}


@pytest.mark.parametrize("stored", ["secret", "$argon2id$v=19$m=1048576,t=2,p=1$YWFhYWFhYWE$YWFhYWFhYWE", "scrypt$1$2"])
def test_only_hashes_are_stored(stored):
    with pytest.raises(InvalidInput):
        accounts.set_password(table(), "ann", stored)


def test_app_passwords_are_found_by_id_and_checked_by_digest():
    made = accounts.add_app_password(table(), "ann", "0a1b", digest_of(SECRET.encode()), "laptop", 5)
    found = accounts.holder_of(made, SECRET)
    assert found is not None and found.name == "ann"
    for other in ("davfs_0a1b_beef", "davfs_0a1c_f00d", "davfs_0a1b", "davfs_0a1b_f00d_", "davfs__", "0a1b_f00d", ""):
        assert accounts.holder_of(made, other) is None
    with pytest.raises(AlreadyExists):
        accounts.add_app_password(made, "ann", "0a1b", digest_of(b"x"), "", 5)
    gone = accounts.revoke_app_password(made, "ann", "0a1b")
    assert accounts.holder_of(gone, SECRET) is None
    with pytest.raises(AccountNotFound):
        accounts.revoke_app_password(gone, "ann", "0a1b")
    assert accounts.holder_of(accounts.delete(made, "ann"), SECRET) is None


def test_the_number_of_app_passwords_is_bounded():
    many = table()
    for i in range(accounts.MAX_APP_PASSWORDS):
        many = accounts.add_app_password(many, "ann", f"a{i}", digest_of(b"x"), "", 0)
    with pytest.raises(InvalidInput, match="revoke"):
        accounts.add_app_password(many, "ann", "b", digest_of(b"x"), "", 0)


def test_changes_leave_the_old_table_as_it_was():
    before = table()
    accounts.set_role(before, "ann", "v1", ADMIN)
    accounts.forget_volume(before, "v1")
    assert before["ann"].role("v1") == READ


def state() -> ClusterState:
    made = ClusterState()
    policy = {"copies": 1, "write_quorum": 1, "replicas": 1}
    value_of(made.apply(("1", "volume_create", "v1", "demo", policy, ["node-1"])))
    value_of(made.apply(("2", "account", "add", "ann", HASH, NONE, {"v1": READ, "v2": WRITE})))
    value_of(made.apply(("3", "account", "app_add", "ann", "0a1b", digest_of(SECRET.encode()), "laptop", 5)))
    return made


def test_the_state_survives_a_snapshot():
    loaded = ClusterState()
    loaded.load(state().dump())
    assert loaded.accounts == state().accounts
    assert accounts.holder_of(loaded.accounts, SECRET) is not None


def test_a_deleted_volume_takes_its_roles_with_it():
    made = state()
    value_of(made.apply(("4", "volume_delete", "v1")))
    assert made.accounts["ann"].roles == {"v2": WRITE}


def test_refused_changes_are_answers():
    made = state()
    with pytest.raises(AccountNotFound):
        value_of(made.apply(("4", "account", "delete", "bob")))
    with pytest.raises(AlreadyExists):
        value_of(made.apply(("5", "account", "add", "ann", HASH, NONE, {})))
    strange: list[tuple[Any, ...]] = [("fly",), (), ("delete",), ("add", 5, HASH, NONE, {}), ("role", "ann", ["v1"], READ)]
    for i, malformed in enumerate(strange):
        with pytest.raises(InvalidInput):
            value_of(made.apply((f"m{i}", "account", *malformed)))
    assert list(made.accounts) == ["ann"]


def test_a_change_that_is_sent_twice_happens_once():
    made = state()
    value_of(made.apply(("4", "account", "delete", "ann")))
    value_of(made.apply(("5", "account", "add", "ann", HASH, NONE, {})))
    value_of(made.apply(("4", "account", "delete", "ann")))
    assert "ann" in made.accounts
