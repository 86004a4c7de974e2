"""House rules that no linter knows."""

import ast
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted((ROOT / "davfs").rglob("*.py"))

MODULE_LINES = 450
FUNCTION_LINES = 70
TEST_LINES = 500


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_is_small_and_says_what_it_is(module: Path) -> None:
    text = module.read_text()
    tree = ast.parse(text)
    assert ast.get_docstring(tree), "says its one subject and what it must not import"
    assert len(text.splitlines()) <= MODULE_LINES
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= FUNCTION_LINES, f"{node.name} has {length} lines"


def test_tests_are_split_by_subject() -> None:
    modules = [path for folder in ("tests", "compat") for path in (ROOT / folder).rglob("*.py")]
    assert {str(path.relative_to(ROOT)) for path in modules if len(path.read_text().splitlines()) > TEST_LINES} == set()


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_a_library_may_be_used_for(module: Path) -> None:
    package = module.relative_to(ROOT / "davfs").parts[0]
    for node in ast.walk(ast.parse(module.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        for name in names:
            if name == "http.client":
                pytest.fail("rpc speaks HTTP as a client: its own framing between nodes, requests to anybody else")
            if name == "tomllib":
                assert package == "node", "only node reads configuration"
            if name == "unittest.mock":
                pytest.fail("the product has no mocks")


def test_locked_requirements_have_hashes_and_no_addresses() -> None:
    for path in sorted(ROOT.glob("requirements*.txt")):
        text = path.read_text()
        assert "://" not in text, path.name
        pins = re.findall(r"^(\S+==\S+)( \\)?$", text, re.M)
        assert pins, path.name
        assert all(continued for _, continued in pins), f"{path.name}: a pin without a hash"


def test_locked_packages_of_node_have_digests_and_no_addresses() -> None:
    text = (ROOT / "compat" / "node" / "package-lock.json").read_text()
    assert "://" not in text
    packages = {name: package for name, package in json.loads(text)["packages"].items() if name}
    assert packages
    for name, package in packages.items():
        assert package["integrity"].startswith("sha512-"), name
