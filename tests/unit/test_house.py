"""The repository keeps its own rules: imports, names, locks, and what README promises."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))
LOCKS = ("runtime", "examples", "dev")


def tracked_files() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True)
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def locked(name: str) -> dict[str, str]:
    """Each package of a lock and its version."""
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    return dict(re.findall(r"^([a-z0-9-]+)==(\S+)", text, re.MULTILINE))


def wanted(name: str) -> set[str]:
    """The packages that pyproject.toml asks for, for the purpose of a lock."""
    project, groups = PROJECT["project"], PROJECT["dependency-groups"]
    extras = project["optional-dependencies"]
    lines = [*project["dependencies"], *extras["kafka"], *extras["postgres"]]
    if name != "runtime":
        lines += [*extras["examples"], *groups["build"]]
    if name == "dev":
        lines += [line for line in groups["dev"] if isinstance(line, str)]
    return {canonicalize_name(Requirement(line).name) for line in lines}


def test_imports_go_one_way() -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout


IMPORT_ALL = """
import importlib, pkgutil, sys, threading
acts = {"socket.connect", "socket.bind", "subprocess.Popen", "os.mkdir", "os.remove", "sqlite3.connect"}
def watch(event, arguments):
    writes = event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+")
    if writes or event in acts:
        raise RuntimeError(f"{event} {arguments} at import")
sys.dont_write_bytecode = True
sys.addaudithook(watch)
for name in ("streams", "nodes", "connectors", "millstream"):
    for module in pkgutil.walk_packages(importlib.import_module(name).__path__, name + "."):
        if not module.name.endswith(("__main__", ".migrations.env")):  # programs: python's, and Alembic's
            importlib.import_module(module.name)
assert threading.active_count() == 1, threading.enumerate()
"""


def test_nothing_happens_at_import() -> None:
    """No module of ours starts a thread or a process, opens a connection, or writes a file when it is imported."""
    done = subprocess.run([sys.executable, "-c", IMPORT_ALL], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr


MACHINE = re.compile(
    r"/(?:root|work|home/[a-z]+|Users/[a-z]+)/[a-zA-Z.]|/tmp/[a-z]+/"  # a path of somebody's machine
    r"|--(?:extra-)?index-url|--find-links|files\.pythonhosted|pypi\.org/simple|registry\.npmjs"  # a registry
)


def test_no_tracked_file_names_a_machine_or_a_registry() -> None:
    found = []
    for path in tracked_files():
        if path == Path(__file__) or path.suffix in {".png", ".ico", ".woff2", ".gz"}:
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if MACHINE.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}")
    assert not found, "\n".join(found)


def test_no_module_is_longer_than_600_lines() -> None:
    packages = ("streams", "nodes", "connectors", "millstream")
    long = {
        str(path.relative_to(ROOT)): count
        for path in tracked_files()
        if path.suffix == ".py" and path.relative_to(ROOT).parts[0] in packages
        if (count := len(path.read_text().splitlines())) > 600
    }
    assert not long


def test_each_module_says_first_what_it_is_for() -> None:
    silent = [
        str(path.relative_to(ROOT))
        for path in tracked_files()
        if path.suffix == ".py" and not path.read_text().lstrip().startswith('"""')
    ]
    assert not silent


@pytest.mark.parametrize("package", ["streams", "nodes", "connectors", "millstream"])
def test_a_package_is_typed_for_its_users(package: str) -> None:
    assert (ROOT / package / "py.typed").is_file()


@pytest.mark.parametrize("document", ["README.md", "ARCHITECTURE.md"])
def test_each_make_command_that_a_document_names_exists(document: str) -> None:
    named = set(re.findall(r"(?:`|^)make ([a-z][a-z-]*)", (ROOT / document).read_text(), re.MULTILINE))
    assert named <= TARGETS
    assert document != "README.md" or {"run", "test", "test-fast"} <= named


def test_each_variable_that_the_readme_sets_is_one_of_the_makefile() -> None:
    named = set(re.findall(r"\b([A-Z]+)=\d", (ROOT / "README.md").read_text()))
    assert named == {"RATE", "LIMIT", "EXIT", "PORT"}
    assert all(re.search(rf"^{name}\s+\?=", MAKEFILE, re.MULTILINE) for name in named)


def test_make_lists_every_command() -> None:
    done = subprocess.run(["make", "--no-print-directory"], cwd=ROOT, check=True, capture_output=True, text=True)
    assert set(re.findall(r"make ([a-z-]+)", done.stdout)) == TARGETS


def test_links_between_documents_lead_somewhere() -> None:
    broken: list[str] = []
    for path in tracked_files():
        if path.suffix == ".md":
            targets = re.findall(r"\]\((?!https?:|#)([^)#\s]+)", path.read_text())
            broken += [f"{path.name}: {target}" for target in targets if not (path.parent / target).exists()]
    assert not broken


def test_the_readme_shows_the_node_that_init_writes() -> None:
    program = (ROOT / "millstream/examples/leads/score.py").read_text()
    assert program.partition('"""\n\n')[2] in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_has_all_that_pyproject_asks_for(name: str) -> None:
    """When this fails, run: make lock."""
    assert wanted(name) <= set(locked(name))


@pytest.mark.parametrize(("smaller", "larger"), [("runtime", "examples"), ("examples", "dev")])
def test_a_larger_lock_holds_the_same_versions(smaller: str, larger: str) -> None:
    """What is tested is what runs."""
    assert locked(smaller).items() <= locked(larger).items()


@pytest.mark.parametrize("name", LOCKS)
def test_every_locked_package_has_hashes(name: str) -> None:
    entries = re.split(r"^(?=[a-z0-9-]+==)", (ROOT / "requirements" / f"{name}.txt").read_text(), flags=re.MULTILINE)
    assert all("--hash=sha256:" in entry for entry in entries[1:])


def test_decisions_are_numbered_without_a_gap_and_say_their_status() -> None:
    pages = sorted((ROOT / "docs" / "decisions").glob("*.md"))
    assert [int(page.name[:4]) for page in pages] == list(range(1, len(pages) + 1))
    assert all("**Status**:" in page.read_text() for page in pages)


def test_processes_of_ours_do_not_import_from_the_folder_they_start_in() -> None:
    """It may be a project's, whose node files have the names of library modules: every `-m` comes after a `-P`."""
    for package in ("streams", "nodes", "connectors", "millstream"):
        for file in (ROOT / package).rglob("*.py"):
            assert 'sys.executable, "-m"' not in file.read_text(), file
