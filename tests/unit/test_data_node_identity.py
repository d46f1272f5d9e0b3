"""What goes into a DataNode's hashes, and what does not. The golden values may never change."""

from __future__ import annotations

import enum
import hashlib
import os
import subprocess
import sys
import uuid
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, Field, ValidationError

import nodes
from nodes import APIDataNode, DataNode, DataNodeConfiguration, DataNodeMetaData, hash_namespace
from nodes.data_node.identity import differences, identify
from streams.errors import UsageError
from tests.data_nodes import Config, Prices, prices, published, record

ROOT = Path(__file__).resolve().parents[2]
GOLDEN_WIDE = ("prices_d6a6b1f2e6b1d0906e6b8cdf03c05919", "prices_d6a6b1f2e6b1d0906e6b8cdf03c05919")
GOLDEN_FULL = (
    "prices_14eddef59d01f18e50a62376d9a3ca4b",
    "prices_bb22b94b038ff53864dd347f86356b4f",
)


class Colour(enum.Enum):
    RED = "red"


class Inner(BaseModel):
    kept: float = 0
    shown: str = Field(default="", json_schema_extra={"runtime_only": True})
    mine: int = Field(default=0, json_schema_extra={"update_only": True})


class Other(BaseModel):
    kept: float = 0


class Wide(DataNodeConfiguration):
    inner: Inner = Inner()
    many: list[Inner] = Field(default_factory=list)
    pair: tuple[Inner, int] | None = None
    named: dict[str, Inner] = Field(default_factory=dict)
    deep: dict[str, list[tuple[Inner]]] = Field(default_factory=dict)
    either: Inner | Other | None = None
    number: float = 0
    anything: Any = None


def hashes(config: DataNodeConfiguration, *, name: str = "Prices", **options: Any) -> tuple[str, str]:
    found = identify(config, name=name, version=options.get("version", 1), namespace=options.get("namespace"))
    return found.update_hash, found.storage_hash


def of(**fields: Any) -> tuple[str, str]:
    return hashes(Wide(**fields))


def test_the_golden_hashes_stand() -> None:
    assert hashes(Wide()) == GOLDEN_WIDE
    assert hashes(Wide(inner=Inner(kept=1.5, mine=2), anything=[1, "a"]), namespace="n", version=2) == GOLDEN_FULL


def test_a_hash_is_the_lower_case_name_cropped_to_30_and_32_hex_and_fits_63_characters() -> None:
    update, _ = hashes(Wide(), name="A" * 80)
    assert update[:31] == "a" * 30 + "_"
    assert len(update) == 63
    assert set(update[31:]) <= set("0123456789abcdef")


def test_a_field_at_its_default_changes_nothing_whether_given_or_not() -> None:
    assert of(number=0.0, many=[], inner=Inner()) == of()


def test_an_update_only_field_moves_the_update_hash_alone() -> None:
    update, storage = of(offset_start=datetime(2024, 1, 1, tzinfo=UTC), asset_list=["a"])
    assert storage == of()[1]
    assert update != of()[0]


@pytest.mark.parametrize("place", ["inner", "many", "pair", "named", "deep"])
def test_flags_are_found_in_nested_models_lists_tuples_and_dicts(place: str) -> None:
    def holding(inner: Inner) -> tuple[str, str]:
        held = {"inner": inner, "many": [inner], "pair": (inner, 1), "named": {"a": inner}, "deep": {"a": [(inner,)]}}
        return of(**{place: held[place]})

    base = holding(Inner(kept=1))
    assert holding(Inner(kept=1, shown="x")) == base
    assert holding(Inner(kept=1, mine=3))[1] == base[1]
    assert holding(Inner(kept=1, mine=3))[0] != base[0]
    assert holding(Inner(kept=2))[1] != base[1]


def test_runtime_only_fields_of_the_base_move_no_hash() -> None:
    assert of(node_metadata=published("x"), open_to_public=True) == of()


def test_records_count_but_for_label_and_description() -> None:
    plain = of(records=[record("a", "float64")])
    assert of(records=[record("a", "float64", "A label")]) == plain
    assert of(records=[record("b", "float64")])[1] != plain[1]


def test_both_flags_on_one_field_are_refused() -> None:
    class Both(DataNodeConfiguration):
        a: int = Field(default=0, json_schema_extra={"update_only": True, "runtime_only": True})

    with pytest.raises(ValueError, match="cannot be both update_only and runtime_only"):
        hashes(Both())


def test_a_flag_that_is_no_bool_is_refused() -> None:
    class Loose(DataNodeConfiguration):
        a: int = Field(default=0, json_schema_extra={"update_only": "yes"})

    with pytest.raises(ValueError, match="must be bool"):
        hashes(Loose())


def test_flags_of_an_overridden_field_are_inherited() -> None:
    class Narrow(DataNodeConfiguration):
        asset_list: list[str] = Field(default_factory=list)

    assert hashes(Narrow(asset_list=["a"]))[1] == hashes(Narrow())[1]


UTC_PLUS_2 = timezone(timedelta(hours=2))


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (Colour.RED, "red"),
        (datetime(2024, 1, 1, 2, tzinfo=UTC_PLUS_2), datetime(2024, 1, 1, tzinfo=UTC)),
        (Decimal("1.50"), Decimal("1.5")),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        ({3, 1, 2}, {2, 3, 1}),
        ((1, 2), [1, 2]),
        (0, 0.0),
        (7, 7.0),
    ],
)
def test_values_that_are_one_have_one_form(a: object, b: object) -> None:
    assert of(anything=[a]) == of(anything=[b])


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ([1, 2], [2, 1]),
        ("1", 1),
        (True, 1),
        (Decimal("1.5"), 1.5),
        (date(2024, 1, 1), datetime(2024, 1, 1, tzinfo=UTC)),
        (b"a", "a"),
        ({1}, [1]),
        (float("inf"), float("-inf")),
        (uuid.UUID(int=1), str(uuid.UUID(int=1))),
        (timedelta(seconds=1), 1),
        ({"a": None}, {}),
        (Inner(kept=1), Other(kept=1)),
    ],
)
def test_values_that_differ_have_forms_that_differ(a: object, b: object) -> None:
    assert of(anything=[a])[1] != of(anything=[b])[1]


@pytest.mark.parametrize("value", [float("nan"), object(), lambda: 0, Decimal("nan")])
def test_what_has_no_form_is_a_type_error_that_names_the_field(value: object) -> None:
    with pytest.raises(TypeError, match=r"anything\[0\]"):
        of(anything=[value])


def test_zero_and_zero_point_zero_are_equal_in_a_float_field() -> None:
    assert of(number=0) == of(number=0.0)
    assert of(number=2) == of(number=2.0)


def test_a_node_inside_a_config_brings_its_own_hashes() -> None:
    def holding(node: Prices | APIDataNode) -> tuple[str, str]:
        return of(anything=node)

    one, two = prices(part="a"), prices(part="b")
    assert holding(one)[1] == holding(two)[1]
    assert holding(one)[0] != holding(two)[0]
    assert holding(prices("other"))[1] != holding(one)[1]


def test_the_name_and_the_version_are_class_attributes() -> None:
    class Renamed(Prices):
        hash_name = "Prices"

    class Second(Prices):
        hash_name = "Prices"
        hash_version = 2

    assert Renamed(Config()).update_hash == prices().update_hash
    assert Second(Config()).storage_hash != prices().storage_hash


def test_a_name_that_no_table_can_begin_with_is_refused() -> None:
    with pytest.raises(UsageError, match="cannot be named"):
        identify(Config(), name="a-b", version=1, namespace=None)


def test_an_unknown_field_is_forbidden_and_a_config_is_frozen() -> None:
    with pytest.raises(ValidationError):
        Config(unknown=1)  # type: ignore[call-arg]
    config = Config()
    with pytest.raises(ValidationError):
        config.name = "other"


def test_a_change_inside_the_config_after_the_node_was_built_is_noticed() -> None:
    inner = Inner(kept=1)
    config = Wide(inner=inner)

    class Node(Prices):
        def __init__(self, config: Wide) -> None:
            DataNode.__init__(self, config)

    node = Node(config)
    config.inner.kept = 2
    with pytest.raises(UsageError, match="changed after the node was built"):
        node.check_unchanged()


def test_a_hash_is_of_the_canonical_json_of_name_version_namespace_and_config() -> None:
    said = '{"config":{"number":1.5},"name":"Prices","namespace":"n","version":3}'
    expected = f"prices_{hashlib.sha256(said.encode()).hexdigest()[:32]}"
    assert hashes(Wide(number=1.5), version=3, namespace="n") == (expected, expected)


def test_neither_the_constructor_nor_the_environment_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Other(DataNode):
        hash_name = "Prices"

        def __init__(self, config: Config, colour: str = "red", *, hash_namespace: str | None = None) -> None:
            super().__init__(config, hash_namespace=hash_namespace)

        def update(self) -> Any: ...

        def dependencies(self) -> dict[str, DataNode]:
            return {}

    monkeypatch.setenv("MILLSTREAM_PROJECT", "shop")
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    monkeypatch.chdir(tmp_path)
    assert Other(Config(), "blue").update_hash == prices().update_hash


def test_text_that_is_no_text_is_a_type_error_that_names_the_field() -> None:
    with pytest.raises(TypeError, match=r"'anything'.*surrogate"):
        of(anything="\ud800")


def test_every_name_that_a_user_needs_is_imported_from_nodes() -> None:
    for name in nodes.__all__:
        assert getattr(nodes, name).__name__ == name
    assert set(nodes.__all__) >= {
        "APIDataNode",
        "DataNode",
        "DataNodeConfiguration",
        "DataNodeMetaData",
        "RecordDefinition",
        "TableMetaData",
        "UpdateStatistics",
        "hash_namespace",
    }
    with pytest.raises(AttributeError, match="nothing"):
        _ = nodes.nothing


# Namespaces


def test_an_explicit_namespace_wins_over_test_node_over_the_block_over_none() -> None:
    with hash_namespace("block"):
        assert Prices(Config(), hash_namespace="own", test_node=True).hash_namespace == "own"
        assert Prices(Config(), test_node=True).hash_namespace == "test"
        assert Prices(Config()).hash_namespace == "block"
        assert Prices(Config(), hash_namespace="").hash_namespace is None
    assert Prices(Config()).hash_namespace is None


def test_a_namespace_is_trimmed_and_counts_for_both_hashes() -> None:
    node = Prices(Config(), hash_namespace=" n ")
    assert node.hash_namespace == "n"
    assert node.storage_hash != prices().storage_hash
    assert node.update_hash == Prices(Config(), hash_namespace="n").update_hash


def test_dependencies_built_in_init_inherit_the_namespace() -> None:
    parent = Prices(Config(needs=[Config(name="below")]), hash_namespace="n")
    assert parent.held["below"].hash_namespace == "n"
    with hash_namespace("block"):
        assert Prices(Config(needs=[Config(name="below")]), hash_namespace="").held["below"].hash_namespace is None


def test_a_namespaced_table_never_takes_the_production_identifier() -> None:
    config = Config(node_metadata=published("prices_x"))
    assert Prices(config).identifier == "prices_x"
    assert Prices(config, hash_namespace="n").identifier == "n/prices_x"


# Everywhere the same

PROGRAM = """
import sys
from nodes import DataNode, DataNodeConfiguration
class Config(DataNodeConfiguration):
    names: dict[str, int] = {}
    some: set[str] = set()
class Node(DataNode):
    def update(self): ...
    def dependencies(self): return {}
print(Node(Config(names={"b": 1, "a": 2}, some={"x", "y", "z"})).update_hash)
"""


def test_hashes_are_equal_across_processes_seeds_files_and_main(tmp_path: Path) -> None:
    found = set()
    (tmp_path / "one.py").write_text(PROGRAM)
    (tmp_path / "two.py").write_text(PROGRAM)
    for seed, arguments in (("0", ["one.py"]), ("1", ["two.py"]), ("2", ["-m", "one"]), ("3", ["-c", "import two"])):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            [sys.executable, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
        )
        found.add(done.stdout.strip())
    assert len(found) == 1, found


# Explaining


def test_two_nodes_are_told_apart_by_the_fields_that_differ() -> None:
    one = prices(part="a").identity.update_input
    two = prices("other", part="b").identity.update_input
    assert differences(one, two) == [("config.name", "", '"other"'), ("config.part", '"a"', '"b"')]


def test_a_constructor_that_does_not_build_the_node_says_so() -> None:
    class Broken(Prices):
        def __init__(self, config: Config) -> None:
            self.config = config

    with pytest.raises(UsageError, match="does not call super"):
        Broken(Config())


def test_the_metadata_of_the_config_is_the_table_metadata() -> None:
    node = prices(node_metadata=DataNodeMetaData(identifier="i", description="d"))
    metadata = node.get_table_metadata()
    assert metadata is not None
    assert (metadata.identifier, metadata.description) == ("i", "d")
