"""Archives of volumes: what is written is read again, by other programs too, and a cut or damaged one is noticed."""

from __future__ import annotations

import io
import subprocess
import tarfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from davfs.cli.archive import Member, Reader, Writer
from davfs.core.errors import CorruptData, UnknownFormat
from davfs.core.model import DIRECTORY, FILE

NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/"), min_size=1, max_size=80).filter(
    lambda name: name not in (".", "..") and len(name.encode()) <= 255
)
XML = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=100)
TIMES = st.integers(-(10**18), 4 * 10**18)
MEMBERS = st.builds(
    lambda path, mtime, created, properties, data: (
        Member(tuple(path), FILE, mtime, created, len(data), properties, {"SHA1": "a" * 40} if data else {}),
        data,
    ),
    st.lists(NAMES, min_size=1, max_size=6), TIMES, st.none() | TIMES,
    st.dictionaries(NAMES.map("{{http://x/?a=b}}{}".format), XML, max_size=3), st.binary(max_size=2000),
)  # fmt: skip


def archive(members, entries=None):
    out = io.BytesIO()
    writer = Writer(out.write, "demo", [[1, 2], 3], len(members) if entries is None else entries)
    for member, data in members:
        writer.add(member, [data[:7], data[7:]])
    writer.close()
    return out.getvalue()


def contents(data):
    reader = Reader(io.BytesIO(data))
    return [(member, b"" if isinstance(member, str) else read(1 << 20)) for member, read in reader.members()]


@settings(deadline=None, max_examples=60)
@given(st.lists(MEMBERS, min_size=1, max_size=5))
def test_what_is_written_is_read(members):
    assert contents(archive(members)) == members


SOME = [
    (Member((), DIRECTORY, 5_000_000_000, None, 0, {"{x:}of-the-root": "<a/>"}), b""),
    (Member(("Papers",), DIRECTORY, 1_700_000_000_123_456_789, 1), b""),
    (Member(("Papers", "Zoë’s café"), FILE, 1_600_000_000_000_000_000, 7, 1500), b"x" * 1500),
    (Member(("Papers", "n" * 255), FILE, 1, None, 0), b""),
]


def test_other_programs_read_it(tmp_path):
    file = tmp_path / "a.tar"
    file.write_bytes(archive(SOME))
    run = subprocess.run(["tar", "-xpf", file, "-C", tmp_path], capture_output=True, text=True, env={"LC_ALL": "C.UTF-8"})
    assert run.returncode == 0, run.stderr
    path = tmp_path / "Papers" / "Zoë’s café"
    assert path.read_bytes() == b"x" * 1500
    assert path.stat().st_mtime_ns == 1_600_000_000_000_000_000
    assert (tmp_path / "Papers").stat().st_mtime_ns == 1_700_000_000_123_456_789
    assert (tmp_path / "Papers" / ("n" * 255)).stat().st_size == 0


@pytest.mark.parametrize("options", ["-cf", "-czf", "--format=gnu -cf", "--format=ustar -cf"])
def test_archives_of_other_programs_are_read(tmp_path, options):
    folder = tmp_path / "f"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "file").write_bytes(b"content")
    (folder / "link").symlink_to("sub/file")
    subprocess.run(["tar", *options.split(), tmp_path / "a.tar", "-C", folder, "."], check=True)
    with (tmp_path / "a.tar").open("rb") as stream:
        reader = Reader(stream)
        assert reader.entries is None
        pairs = [(member, read(100)) for member, read in reader.members()]
    found = {m if isinstance(m, str) else m.path: data for m, data in pairs if isinstance(m, str) or m.kind == FILE}
    assert found == {("sub", "file"): b"content", "'./link' is a link or a device": b""}


def whole_contents(data):
    """The same by someone who counts, as whoever reads must."""
    for member, read in Reader(io.BytesIO(data)).members():
        assert not isinstance(member, str)
        if len(read(member.size)) != member.size:
            raise CorruptData("cut within a file")


def test_a_cut_is_noticed_wherever_it_is():
    whole = archive(SOME)
    end = (whole.rindex(b"n" * 20) // 512 + 1) * 512  # behind the last header there is only the end mark
    for length in range(0, end, 131):
        with pytest.raises(CorruptData, match=r"cut|no tar|damaged"):
            whole_contents(whole[:length])
    assert contents(whole) == SOME


def test_a_damaged_head_is_noticed():
    whole = bytearray(archive(SOME))
    whole[whole.index(b"Papers") + 2] ^= 1
    with pytest.raises(CorruptData):
        contents(bytes(whole))


def test_a_newer_format_is_refused():
    with pytest.raises(UnknownFormat, match="format 9"):
        contents(archive(SOME).replace(b'"format": 1', b'"format": 9'))


def test_a_file_that_is_not_as_long_as_it_says_ends_the_export():
    writer = Writer(lambda data: None, "demo", None, 1)
    with pytest.raises(CorruptData, match="not 5"):
        writer.add(Member(("a",), FILE, 0, None, 5), [b"1234"])


def test_memory_does_not_grow_with_the_number_of_entries():
    reader = Reader(io.BytesIO(archive([(Member((f"{number}",), FILE, 0), b"") for number in range(500)])))
    assert max(len(reader._tar.__dict__["members"]) for _ in reader.members()) <= 1


@pytest.mark.parametrize("data", [b"\x1f\x8b\x08", b"\x1f\x8b", b"BZh9", b"\xfd7zXZ\0", b""])
def test_what_ends_in_its_first_bytes_is_no_archive(data):
    with pytest.raises(CorruptData):
        list(Reader(io.BytesIO(data)).members())


def test_properties_that_are_nested_too_deeply_are_damage():
    with tarfile.open(fileobj=(buffer := io.BytesIO()), mode="w", format=tarfile.PAX_FORMAT) as tar:
        info = tarfile.TarInfo("a")
        info.pax_headers = {"DAVFS.properties": "[" * 9000}
        tar.addfile(info)
    with pytest.raises(CorruptData, match="head of 'a'"):
        list(Reader(io.BytesIO(buffer.getvalue())).members())
