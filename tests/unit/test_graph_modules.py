"""The project's own modules that a file imports, and `${{ … }}` references."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodes.graph.modules import imported_files
from nodes.graph.references import is_reference, reference_faults, resolve_references, secret_names
from nodes.graph.watch import Changes, Fingerprint, compare, reload_is_due, take_fingerprints
from streams.errors import UsageError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("import lib", ["nodes/lib.py"]),  # beside the node, before the project's root
        ("import top", ["top.py"]),
        ("from . import lib", ["nodes/lib.py"]),
        ("from .lib import x", ["nodes/lib.py"]),
        ("from .. import top", ["top.py"]),
        ("import pkg", ["pkg/__init__.py"]),
        ("import pkg.mod", ["pkg/__init__.py", "pkg/mod.py"]),
        ("from pkg import mod", ["pkg/__init__.py", "pkg/mod.py"]),
        ("from pkg.mod import name", ["pkg/__init__.py", "pkg/mod.py"]),
        ("from pkg import *", ["pkg/__init__.py"]),
        ("import space.inner", ["space/inner.py"]),  # a package without __init__
        ("import chain", ["chain.py", "link.py", "top.py"]),
        ("import json, pandas", []),
        ("def f():\n    import top", ["top.py"]),
        ("import a_cycle", ["a_cycle.py", "b_cycle.py"]),
    ],
)
def test_modules_are_found_as_python_finds_them(text: str, expected: list[str]) -> None:
    sources = {
        "nodes/a.py": text,
        "nodes/lib.py": "",
        "lib.py": "",
        "top.py": "",
        "pkg/__init__.py": "",
        "pkg/mod.py": "",
        "space/inner.py": "",
        "chain.py": "import link",
        "link.py": "import top",
        "a_cycle.py": "import b_cycle",
        "b_cycle.py": "import a_cycle",
    }
    assert list(imported_files("nodes/a.py", sources)) == expected


def test_references_are_replaced_wherever_they_stand() -> None:
    value = {"a": "${{ key }}", "b": ["Bearer ${{key}}", 3, None], "c": {"d": "none"}}
    assert secret_names(value) == ("key",)
    assert resolve_references(value, {"key": "s3"}.__getitem__) == {
        "a": "s3",
        "b": ["Bearer s3", 3, None],
        "c": {"d": "none"},
    }


def test_a_secret_cannot_refer_to_another() -> None:
    assert resolve_references("${{ a }}", lambda name: "${{ b }}") == "${{ b }}"


@pytest.mark.parametrize("text", ["${{ }}", "${{ a b }}", "${{ 1a }}", "${{ connection.x }}"])
def test_malformed_references_are_refused(text: str) -> None:
    assert len(reference_faults({"x": [text]})) == 1
    with pytest.raises(UsageError):
        resolve_references(text, lambda name: "secret")
    assert not is_reference(text)


def test_only_a_whole_text_is_a_reference() -> None:
    assert is_reference(" ${{ a }} ")
    assert not is_reference("x${{ a }}")
    assert not is_reference("${{ a }}${{ b }}")


@given(st.recursive(st.none() | st.integers() | st.text(alphabet="ab$ {}", max_size=8), st.lists, max_leaves=8))
def test_values_without_references_come_back_as_they_are(value: object) -> None:
    if not secret_names(value) and not reference_faults(value):
        assert resolve_references(value, lambda name: "x") == value


def _fingerprints(**sizes: int) -> dict[str, Fingerprint]:
    return {name: Fingerprint(1, size, 1) for name, size in sizes.items()}


def test_comparing_names_what_was_added_changed_and_removed() -> None:
    assert compare(_fingerprints(a=1, b=1, c=1), _fingerprints(b=2, c=1, d=1)) == Changes(("d",), ("b",), ("a",))
    assert not compare(_fingerprints(a=1), _fingerprints(a=1))


def test_a_reload_waits_until_the_files_stand_still() -> None:
    old, half, new = _fingerprints(a=1), _fingerprints(a=2), _fingerprints(a=3)
    assert not reload_is_due(old, old, old)
    assert not reload_is_due(old, old, half)
    assert not reload_is_due(old, half, new)
    assert reload_is_due(old, new, new)
    assert not reload_is_due(old, new, old)


def test_a_file_replaced_by_another_of_the_same_size_is_seen(tmp_path: object) -> None:
    from pathlib import Path

    assert isinstance(tmp_path, Path)
    (tmp_path / "graph.yml").write_text("a: 1")
    (tmp_path / "note.txt").write_text("x")
    before = take_fingerprints(tmp_path)
    assert list(before) == ["graph.yml"]
    (tmp_path / "new").write_text("a: 2")
    (tmp_path / "new").rename(tmp_path / "graph.yml")
    assert compare(before, take_fingerprints(tmp_path)).changed == ("graph.yml",)
