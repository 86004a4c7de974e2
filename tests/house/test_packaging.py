"""What is shipped: the wheel holds every module, and the Dockerfile can be followed from the repository alone."""

import re
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_a_wheel_holds_every_module(tmp_path: Path) -> None:
    # In a copy: building in place would leave folders behind.
    source = tmp_path / "source"
    modules = [path.relative_to(ROOT) for path in (ROOT / "davfs").rglob("*.py")]
    for name in (Path("pyproject.toml"), Path("README.md"), *modules):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes((ROOT / name).read_bytes())
    pip = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check"]
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--no-index", "-w", str(tmp_path), str(source)]
    subprocess.run(build, check=True, capture_output=True, timeout=120)
    (wheel,) = tmp_path.glob("davfs-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {str(module) for module in modules} <= set(names)
    assert not [name for name in names if name.startswith(("tests", "compat"))]


def test_the_dockerfile_copies_what_is_there_and_does_not_run_as_root() -> None:
    text = (ROOT / "Dockerfile").read_text()
    allowed = re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(), re.M)
    for line in re.findall(r"^COPY (?!--from)(.+)$", text, re.M):
        for name in line.split()[:-1]:
            assert (ROOT / name).exists(), name
            assert name in allowed, f"{name} is kept out by .dockerignore"
    final = text.rpartition("\nFROM ")[2]
    assert re.search(r"^USER (?!root)", final, re.M)
    installs = re.findall(r"pip install (.+)", text)
    assert all("--require-hashes" in line or "--no-deps" in line for line in installs)


def test_every_kind_of_test_runs():
    listed = re.findall(r'^(?:together|alone)="(.*)"$', (ROOT / "scripts" / "test.sh").read_text(), re.MULTILINE)
    kinds = {path.relative_to(ROOT / "tests").parts[0] for path in (ROOT / "tests").rglob("test_*.py")}
    assert sorted(" ".join(listed).split()) == sorted(kinds)
