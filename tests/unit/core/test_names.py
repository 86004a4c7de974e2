"""Which names there may be, which are refused and how, and which are one."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from davfs.core.canonical import canonical, place
from davfs.core.errors import InvalidInput, NameTooLong
from davfs.core.model import DavLock
from davfs.core.names import check_name, check_path

NFC, NFD = "Zo\u00eb", "Zoe\u0308"
NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/\ufffe\uffff"), min_size=1).filter(
    lambda name: name not in (".", "..") and len(name.encode()) <= 255
)


@given(NAMES)
def test_every_name_of_255_bytes_is_taken_as_it_is(name):
    assert check_name(name) == name


@pytest.mark.parametrize(
    "name", ["x" * 255, "é" * 127, "日" * 85, "🎉" * 63, " ", "...", "a.", "CON", "a\\b", "-", "\u00a0", "\ud7ff"]
)
def test_odd_names_are_names(name):
    assert check_name(name) == name


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "a/b", "/", "a\0b", "a\nb", "\x1f", "\x7f", "\x85", "\x9f", "a\ud800b", "\udfff", "\ufffe", "\uffff"],
)
def test_what_is_no_name_is_refused(name):
    with pytest.raises(InvalidInput) as caught:
        check_name(name)
    assert caught.value.status == 400


@pytest.mark.parametrize("name", ["x" * 256, "é" * 128, "日" * 86, "🎉" * 64])
def test_a_name_that_is_too_long_is_refused_as_such(name):
    with pytest.raises(NameTooLong) as caught:
        check_name(name)
    assert caught.value.status == 414


def test_paths_have_a_limit_too():
    assert check_path(["x" * 255] * 16) == ("x" * 255,) * 16
    with pytest.raises(NameTooLong):
        check_path(["x" * 255] * 17)


@given(NAMES)
def test_forms_of_a_name_are_one(name):
    forms = {unicodedata.normalize(form, name) for form in ("NFC", "NFD")} | {name}
    assert {canonical(form) for form in forms} == {unicodedata.normalize("NFC", name)}


def test_what_only_looks_alike_is_two():
    assert canonical("ﬁ") != canonical("fi")  # a ligature is compatible, not equivalent
    assert canonical("A") != canonical("a")
    assert place(("a", NFD, "b")) == place(("a", NFC, "b")) == ("a", NFC, "b")


def test_a_lock_covers_its_resource_in_whatever_form_it_is_asked_for():
    lock = DavLock("t", (NFC,), True, True, "", "", 60)
    assert lock.covers((NFD,)) and lock.covers((NFD, "below"))
    assert not lock.covers(("Zoe",))
