"""The reference says what the code does: settings, defaults and bounds."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from millstream.settings import Settings, SettingsError, resolve

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/reference/settings.md").read_text()
ROW = re.compile(r"^\| `(\w+)` \| ([^|]*) \| ([^|]*) ?\| ([^|]*) ?\|", re.MULTILINE)
ROWS = {name: (default, least, most) for name, default, least, most in ROW.findall(PAGE)}
OTHER_FIELDS = {"project_dir", "sources", "warnings"}


def defaults() -> Settings:
    return resolve(flags={}, environment={}, text=None, project_dir=Path("/project"))


def test_every_setting_is_in_the_reference_and_nothing_else() -> None:
    assert list(ROWS) == [field.name for field in dataclasses.fields(Settings) if field.name not in OTHER_FIELDS]


@pytest.mark.parametrize("name", ROWS)
def test_a_default_is_the_one_of_the_reference(name: str) -> None:
    told, value = ROWS[name][0].strip(" `"), getattr(defaults(), name)
    if told == "none":
        assert value in (None, ())
    elif name == "log_format":
        on_terminal = resolve(flags={}, environment={}, text=None, project_dir=Path("/project"), on_terminal=True)
        assert (value, on_terminal.log_format) == ("json", "console")
    elif name == "store":
        assert value == told.replace("sqlite:///", "sqlite:////project/")
    else:
        assert str(value) in (told, f"{told}.0")


@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if row[1].strip()])
def test_bounds_are_those_of_the_reference(name: str) -> None:
    least, most = (float(bound) for bound in ROWS[name][1:])
    whole = not isinstance(getattr(defaults(), name), float)

    def taken(value: float) -> bool:
        text = str(int(value)) if whole else str(value)
        try:
            resolve(flags={name: text}, environment={}, text=None, project_dir=Path("/project"))
        except SettingsError:
            return False
        return True

    step = 1 if whole else 0.001
    assert (taken(least), taken(most)) == (True, True)
    assert (taken(least - step), taken(most + step)) == (False, False)


def test_the_examples_of_the_page_are_right() -> None:
    (example,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    assert resolve(flags={}, environment={}, text=example, project_dir=Path("/project")).checkpoint_records_max == 5000
    variable = {"MILLSTREAM_CHECKPOINT_RECORDS_MAX": "7"}
    assert resolve(flags={}, environment=variable, text=None, project_dir=Path("/project")).checkpoint_records_max == 7
