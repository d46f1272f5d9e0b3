"""A backend that cannot be loaded: what is said of the module that is missing."""

from __future__ import annotations

from importlib.metadata import EntryPoint

import pytest

from streams import backends
from streams.errors import UsageError


def missing(monkeypatch: pytest.MonkeyPatch, scheme: str, module: str) -> None:
    """The backend of this scheme fails as its code does where the module is not there."""

    def load(_: EntryPoint) -> object:
        raise ModuleNotFoundError(f"No module named {module!r}", name=module)

    monkeypatch.setattr(backends, "entry_points", lambda **_: [EntryPoint(scheme, "absent:open", backends.STORES)])
    monkeypatch.setattr(EntryPoint, "load", load)


@pytest.mark.parametrize(
    ("scheme", "module", "hint"),
    [
        ("postgresql", "psycopg", "pip install 'millstream[postgres]'"),
        ("kafka", "aiokafka.errors", "pip install 'millstream[kafka]'"),
        ("other", "sqlalchemy", ""),
    ],
)
def test_a_package_that_is_not_installed_is_named_with_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, scheme: str, module: str, hint: str
) -> None:
    missing(monkeypatch, scheme, module)
    with pytest.raises(UsageError, match="needs a package that is not installed") as refused:
        backends.open_store(f"{scheme}:///x")
    assert module in refused.value.message
    assert refused.value.hint == hint


@pytest.mark.parametrize("module", ["streams.nothing", "connectors", "nodes.x", "millstream.y"])
def test_a_module_of_ours_that_is_missing_is_not_told_as_a_package(
    monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    missing(monkeypatch, "sqlite", module)
    with pytest.raises(ModuleNotFoundError, match=module):
        backends.open_store("sqlite:///x")
