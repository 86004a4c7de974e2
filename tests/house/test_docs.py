"""The pages say what is there: links lead somewhere, named files and names exist, nothing that people set is left out."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest

from davfs.cli.main import parser
from davfs.core.cluster_state import ClusterState
from davfs.core.errors import DavfsError
from davfs.core.model import VolumePolicy
from davfs.node.config import ClusterConfig, DavConfig, ForwardConfig, Limits, Member, RpcConfig

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
DOCS = ROOT / "docs"
PAGES = [README, ROOT / "compat" / "README.md", *sorted(DOCS.rglob("*.md"))]
BASES = (ROOT, ROOT / "davfs", ROOT / "davfs" / "dav")  # what a path in a page may be relative to


def _name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def _links(page: Path) -> Iterator[tuple[str, str]]:
    """(target, anchor) of the links to other pages."""
    for target in re.findall(r"\[[^\]]*\]\(([^)\s]+)\)", page.read_text()):
        if "://" not in target:
            path, _, anchor = target.partition("#")
            yield path, anchor


def _code(page: Path) -> list[str]:
    """What stands in single back-quotes, outside of blocks."""
    return re.findall(r"`([^`\n]+)`", page.read_text())


def _file(name: str) -> Path | None:
    return next((base / name for base in BASES if (base / name).is_file()), None)


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_links_resolve(page: Path) -> None:
    for path, anchor in _links(page):
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{path} of {_name(page)}"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", target.read_text(), re.M)
            assert anchor in [re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in headings], anchor


def test_every_page_is_reachable_from_the_readme() -> None:
    reached, todo = {README}, [README]
    while todo:
        page = todo.pop()
        for path, _ in _links(page):
            target = (page.parent / path).resolve()
            if target.suffix == ".md" and target not in reached:
                reached.add(target)
                todo.append(target)
    assert set(PAGES) <= reached


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_named_files_and_what_is_named_in_them_exist(page: Path) -> None:
    text = page.read_text()
    for name in _code(page):
        if re.fullmatch(r"[\w./-]+\.(py|sh)", name):
            assert _file(name), f"{name} in {_name(page)}"
    for name, inside in re.findall(r"`([\w/]+\.py)`,?\s`(\w+)`", text):
        file = _file(name)
        assert file and re.search(rf"\b{inside}\b", file.read_text()), f"{inside} of {name} in {_name(page)}"
    for inside, name in re.findall(r"`(?:\w+\.)?(\w+)`\s\(`([\w/]+\.py)`", text):
        file = _file(name)
        assert file and re.search(rf"\b{inside}\b", file.read_text()), f"{inside} of {name} in {_name(page)}"


def test_pages_that_the_sources_name_exist() -> None:
    for source in [*(ROOT / "davfs").rglob("*.py"), *(ROOT / "compat").rglob("*.py"), ROOT / "Makefile"]:
        for name in re.findall(r"docs/[\w./-]+\.(?:md|yaml)\b", source.read_text()):
            assert (ROOT / name).is_file(), f"{name} in {source.relative_to(ROOT)}"


def test_decisions_are_numbered_and_dated() -> None:
    pages = sorted((DOCS / "decisions").glob("*.md"))
    assert [page.name[:4] for page in pages] == [f"{number:04}" for number in range(1, len(pages) + 1)]
    for page in pages:
        assert re.match(rf"# {page.name[:4]} \S.*\n\n\d{{4}}-\d\d-\d\d\n\n", page.read_text()), page.name


def test_every_key_of_the_configuration_is_explained() -> None:
    page = (DOCS / "OPERATIONS.md").read_text()
    tables = (VolumePolicy, ClusterConfig, DavConfig, ForwardConfig, Limits, Member, RpcConfig)
    keys = {item.name for table in tables for item in fields(table)}
    for key in keys - {"nodes", "users", "defaults"}:  # these are tables: [[cluster.nodes]] and so on
        assert re.search(rf"`(\[+[\w.]+\]+ )?{key}`", page), f"{key} is not in docs/OPERATIONS.md"
    assert {"[[cluster.nodes]]", "[[dav.user]]", "[cluster.defaults]"} <= set(re.findall(r"\[+[\w.]+\]+", page))


def test_every_command_is_in_the_readme() -> None:
    text = README.read_text()
    for action in parser()._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name in action.choices:
                assert f"`davfs {name}" in text, f"davfs {name} is not in README.md"


def test_the_protocol_page_has_every_method_error_and_command() -> None:
    page = (DOCS / "PROTOCOL.md").read_text()
    sources = [ROOT / "davfs" / "cluster" / "service.py", *sorted((ROOT / "davfs" / "node").glob("*.py"))]
    source = "".join(path.read_text() for path in sources)
    methods = set(re.findall(r'^\s+"((?:replica|chunk|node|admin|token)\.\w+)":', source, re.M))
    assert len(methods) > 10
    named = re.findall(r"^\| ((?:`(?:replica|chunk|node|admin|token)\.\w+`,? ?)+)\|", page, re.M)
    listed = {name for names in named for name in re.findall(r"`([\w.]+)`", names)}
    assert listed == methods, "the tables of methods are not what the nodes serve"
    statuses = {code: int(status) for status, codes in re.findall(r"^\| (\d{3}) \| (.+) \|$", page, re.M)
                for code in re.findall(r"`([\w-]+)`", codes)}  # fmt: skip
    real = {error.code: error.status for error in _errors(DavfsError)}
    assert statuses == real, "the table under Errors is not core/errors.py"
    for verb in (name.removeprefix("_do_") for name in dir(ClusterState) if name.startswith("_do_")):
        assert f"`{verb}`" in page, f"the command {verb} is not in docs/PROTOCOL.md"


def _errors(error: type[DavfsError]) -> Iterator[type[DavfsError]]:
    """The errors of ``core/errors.py``: those that dav alone knows never travel."""
    if error.__module__ == DavfsError.__module__:
        yield error
    for below in error.__subclasses__():
        yield from _errors(below)
