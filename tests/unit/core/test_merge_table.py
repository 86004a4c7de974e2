"""Every row of the table of docs/decisions/0018-merging.md, and histories that a merge once got wrong, by name."""

from __future__ import annotations

import random

import pytest

from davfs.core.conflict_names import conflict_name
from davfs.core.model import Epoch
from tests.property.merging.branches import World, Writer
from tests.property.merging.oracle import merged
from tests.property.test_merge import arrive


class Story:
    """A common past, then what the holder that followed did (``here``, epoch 9) and others that were cut off."""

    def __init__(self) -> None:
        self.here = Writer(Epoch(1, 1))
        self.others: list[Writer] = []

    def part(self, epoch: int = 5) -> Writer:
        """Someone is cut off now and goes on alone."""
        other = self.here.branch(Epoch(1, epoch))
        self.here.epoch = Epoch(1, 9)
        self.others.append(other)
        return other

    def end(self, asked: bool = True) -> dict:
        """path -> (content, properties), the same in every order, and what the oracle says (it knows of no taken names)."""
        world = World(self.here, self.others)
        trees = [arrive(world, random.Random(order)) for order in range(6)]
        wanted = merged(world) if asked else trees[0]
        assert all(tree == wanted for tree in trees)
        return {path: what for path, what in trees[0].items() if path}


@pytest.fixture
def story() -> Story:
    return Story()


def files(tree: dict) -> dict:
    return {path: content for path, (content, _) in tree.items()}


def test_two_files_of_one_name(story: Story) -> None:
    there = story.part()
    there.put("a.txt", "there")  # (1.5, 1)
    story.here.put("a.txt", "here")
    assert files(story.end()) == {"a.txt": "here", "a (conflict 1.5.1).txt": "there"}


def test_the_conflict_name_is_of_who_lost_and_fits(story: Story) -> None:
    name = "ä" * 120 + ".tar.gz"
    there = story.part()
    there.put(name, "there")
    story.here.put(name, "here")
    tree = files(story.end())
    (lost,) = [path for path in tree if path != name]
    assert tree[lost] == "there"
    assert lost.endswith(" (conflict 1.5.1).gz")
    assert len(lost.encode()) <= 255


def test_a_conflict_name_is_never_a_taken_one(story: Story) -> None:
    story.here.put("a (conflict 1.5.2).txt", "mine")
    there = story.part()
    there.put("a.txt", "there")
    story.here.put("a.txt", "here")
    wanted = {"a.txt": "here", "a (conflict 1.5.2).txt": "mine", "a (conflict 1.5.2) 2.txt": "there"}
    assert files(story.end(asked=False)) == wanted


def test_names_are_the_same_in_nfc_and_nfd(story: Story) -> None:
    there = story.part()
    there.put("u\u0308", "there")
    story.here.put("\u00fc", "here")
    assert files(story.end(asked=False)) == {"\u00fc": "here", conflict_name("u\u0308", "1.5.1"): "there"}


def test_two_directories_of_one_name_are_merged(story: Story) -> None:
    there = story.part()
    there.mkdir("d")
    there.put("d/there", "1")
    there.put("d/both", "2")
    story.here.mkdir("d")
    story.here.put("d/here", "3")
    story.here.put("d/both", "4")
    wanted = {"d": None, "d/there": "1", "d/here": "3", "d/both": "4", "d/both (conflict 1.5.3)": "2"}
    assert files(story.end()) == wanted


def test_a_directory_keeps_its_name_against_a_file(story: Story) -> None:
    there = story.part()
    there.mkdir("a")
    there.put("a/x", "1")
    story.here.put("a", "2")
    assert files(story.end()) == {"a": None, "a/x": "1", "a (conflict 1.9.1)": "2"}


def test_one_file_written_twice(story: Story) -> None:
    story.here.put("a", "0")
    there = story.part()
    there.put("a", "there")
    there.put("a", "there again")
    story.here.put("a", "here")
    assert files(story.end()) == {"a": "here", "a (conflict 1.5.3)": "there again"}


@pytest.mark.parametrize("here_deletes", [True, False])
def test_an_overwrite_survives_a_delete(story: Story, here_deletes: bool) -> None:
    story.here.put("a", "0")
    there = story.part()
    one, other = (story.here, there) if here_deletes else (there, story.here)
    one.delete("a")
    other.put("a", "new")
    assert files(story.end()) == {"a": "new"}


def test_what_was_written_and_then_deleted_is_deleted(story: Story) -> None:
    story.here.put("a", "0")
    there = story.part()
    there.put("a", "1")
    there.delete("a")
    story.here.proppatch("a", "{x:}p", "1")
    assert files(story.end()) == {}


@pytest.mark.parametrize("here_deletes", [True, False])
def test_what_was_added_survives_its_directory(story: Story, here_deletes: bool) -> None:
    story.here.mkdir("d")
    story.here.put("d/old", "0")
    there = story.part()
    one, other = (story.here, there) if here_deletes else (there, story.here)
    one.delete("d")
    other.mkdir("d/new")
    other.put("d/new/x", "1")
    assert files(story.end()) == {"lost+found": None, "lost+found/new": None, "lost+found/new/x": "1"}


def test_what_was_overwritten_survives_its_directory(story: Story) -> None:
    story.here.mkdir("d")
    story.here.put("d/a", "0")
    story.here.put("d/b", "0")
    there = story.part()
    there.put("d/a", "1")
    story.here.delete("d")
    assert files(story.end()) == {"lost+found": None, "lost+found/a": "1"}


def test_a_directory_that_was_renamed_and_deleted_stays_with_all_that_is_in_it(story: Story) -> None:
    story.here.mkdir("d")
    story.here.put("d/a", "0")
    there = story.part()
    there.move("d", "e")
    there.put("d2", "1")
    story.here.delete("d")
    assert files(story.end()) == {"e": None, "e/a": "0", "d2": "1"}


def test_rename_and_rename(story: Story) -> None:
    story.here.put("a", "0")
    there = story.part()
    there.move("a", "there")
    story.here.move("a", "here")
    assert files(story.end()) == {"here": "0"}


def test_rename_and_overwrite(story: Story) -> None:
    story.here.put("a", "0")
    there = story.part()
    there.put("a", "new")
    story.here.move("a", "b")
    assert files(story.end()) == {"b": "new"}


@pytest.mark.parametrize("here_deletes", [True, False])
def test_rename_and_delete(story: Story, here_deletes: bool) -> None:
    story.here.put("a", "0")
    there = story.part()
    one, other = (story.here, there) if here_deletes else (there, story.here)
    one.delete("a")
    other.move("a", "b")
    assert files(story.end()) == {"b": "0"}


def test_renamed_in_both_and_deleted_in_one(story: Story) -> None:
    """The one who deleted it had not seen the other's name."""
    story.here.put("a", "0")
    there = story.part(epoch=12)
    there.move("a", "there")
    there.delete("there")
    story.here.move("a", "here")
    assert files(story.end()) == {"here": "0"}


def test_moved_into_each_other(story: Story) -> None:
    story.here.mkdir("a")
    story.here.mkdir("b")
    story.here.put("a/x", "1")
    story.here.put("b/y", "2")
    there = story.part()
    there.move("a", "b/a")
    story.here.move("b", "a/b")
    assert files(story.end()) == {"b": None, "b/y": "2", "b/a": None, "b/a/x": "1"}


def test_the_later_property_stays(story: Story) -> None:
    story.here.put("a", "0")
    there = story.part()
    there.proppatch("a", "{x:}p", "there")
    there.proppatch("a", "{x:}q", "there")
    story.here.proppatch("a", "{x:}p", "here")
    assert story.end() == {"a": ("0", {"{x:}p": "here", "{x:}q": "there"})}


def test_a_property_that_was_set_survives_its_removal(story: Story) -> None:
    story.here.put("a", "0")
    story.here.proppatch("a", "{x:}p", "old")
    there = story.part()
    there.proppatch("a", "{x:}p", "new")
    story.here.proppatch("a", "{x:}p", None)
    assert story.end() == {"a": ("0", {"{x:}p": "new"})}


# --- found by the property tests ----------------------------------------------------------------------------------------


def test_a_cycle_is_broken_at_a_directory_that_the_change_did_not_touch(story: Story) -> None:
    story.here.mkdir("b")
    story.here.mkdir("b/b")
    story.here.mkdir("a")
    one = story.part(5)
    two = story.part(4)
    one.move("b", "a/c")
    two.put("a/b", "x")
    two.move("a", "b/b/c")
    assert files(story.end()) == {"b": None, "b/b": None, "b/b/c": None, "b/b/c/b": "x"}


def test_moved_into_a_directory_that_is_then_deleted(story: Story) -> None:
    """What the other added in the moved one was known to nobody who deleted, also if both come at once."""
    story.here.mkdir("c")
    story.here.mkdir("a")
    there = story.part()
    there.move("c", "a/b")
    there.delete("a")
    story.here.mkdir("c/new")
    assert files(story.end()) == {"lost+found": None, "lost+found/new": None}


def test_two_deletions_of_one_directory(story: Story) -> None:
    """One of them had seen what the other had not."""
    story.here.mkdir("a")
    one = story.part(4)
    story.here.mkdir("a/c")
    two = story.part(2)
    story.here.put("b", "x")
    story.here.move("b", "a/c/y")
    one.delete("a")
    two.delete("a")
    assert files(story.end()) == {"lost+found": None, "lost+found/y": "x"}


def test_a_content_that_was_deleted_by_its_writer_is_no_conflict_copy(story: Story) -> None:
    story.here.put("a", "0")
    one = story.part(5)
    two = story.part(6)
    three = story.part(7)
    one.put("a", "one")
    one.delete("a")
    two.move("a", "b")
    three.put("a", "three")
    assert files(story.end()) == {"b": "three"}


def test_the_copy_follows_its_file_that_comes_to_another_name(story: Story) -> None:
    story.here.put("c", "0")
    one = story.part(6)
    one.put("c", "one")
    story.here.put("c", "here")
    two = story.part(5)
    two.move("c", "a")
    assert files(story.end()) == {"a": "here", "a (conflict 1.6.2)": "one"}


def test_what_was_purged_here_and_written_there_survives_without_its_name(story: Story) -> None:
    story.here.put("a", "0")
    there = story.part()
    there.put("a", "1")
    there.put("a", "2")
    inode = story.here.find("a").inode
    story.here.delete("a")
    for key in [key for key in story.here.facts if f"/{inode}@" in key]:
        story.here.facts.pop(key)  # the trash was emptied
    assert files(story.end(asked=False)) == {"lost+found": None, f"lost+found/{inode}": "2"}


def test_a_file_survives_its_directory_with_all_contents_if_one_was_not_known(story: Story) -> None:
    story.here.mkdir("d")
    story.here.put("d/f", "before")
    there = story.part(12)
    story.here.put("d/f", "here")
    there.put("d/f", "there")  # the later one: the other is then its conflict copy
    there.delete("d")
    tree = files(story.end())
    assert tree["lost+found/f"] == "there"
    assert sorted(filter(None, tree.values())) == ["here", "there"]


def test_two_deletions_of_one_directory_that_knew_one_content_each_of_a_file(story: Story) -> None:
    story.here.mkdir("d")
    story.here.put("d/f", "before")
    there = story.part(12)
    story.here.put("d/f", "here")
    story.here.delete("d")
    there.move("d", "e")  # it is back for a while, and its file in its place
    there.put("e/f", "there")
    there.delete("e")
    assert files(story.end()) == {"lost+found": None, "lost+found/f": "there"}
