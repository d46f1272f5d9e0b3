"""Types, the lattice and SQL names."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.errors import UsageError
from streams.rows.schema import (
    COLUMNS_MAX,
    NAME_BYTES_MAX,
    SYSTEM_COLUMNS,
    Field,
    Schema,
    Type,
    column_name,
    join_types,
)

types = st.sampled_from(list(Type))
names = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=80) | st.sampled_from(
    ["", "a", "A", "ä", "Ä", "a_2", "_offset", "_OFFSET", "_offset_", "record_id", "_more", "field", "select"]
)


@st.composite
def schemas(draw: st.DrawFn) -> Schema:
    schema = Schema.empty()
    for source in draw(st.lists(names, unique=True, max_size=8)):
        kind = draw(st.none() | types)
        large = kind is Type.INTEGER and draw(st.booleans())
        schema = schema.with_field(source, kind, large=large, not_null=draw(st.booleans()))
    return schema


@given(types, types, types, st.booleans())
def test_the_lattice_is_commutative_idempotent_and_associative(a: Type, b: Type, c: Type, exact: bool) -> None:
    assert join_types(a, a, exact=exact) is a
    assert join_types(a, b, exact=exact) is join_types(b, a, exact=exact)
    left = join_types(join_types(a, b, exact=exact), c, exact=exact)
    assert left is join_types(a, join_types(b, c, exact=exact), exact=exact)


@pytest.mark.parametrize(
    ("a", "b", "exact", "joined"),
    [
        (Type.INTEGER, Type.FLOAT, True, Type.FLOAT),
        (Type.INTEGER, Type.FLOAT, False, Type.DECIMAL),
        (Type.INTEGER, Type.DECIMAL, True, Type.DECIMAL),
        (Type.FLOAT, Type.DECIMAL, True, Type.DECIMAL),
        (Type.BOOLEAN, Type.INTEGER, True, Type.JSON),
        (Type.TEXT, Type.INTEGER, True, Type.JSON),
        (Type.DATE, Type.DATETIME, True, Type.JSON),
        (Type.ARRAY, Type.JSON, True, Type.JSON),
    ],
)
def test_numbers_widen_among_themselves_and_any_other_mix_is_json(a: Type, b: Type, exact: bool, joined: Type) -> None:
    assert join_types(a, b, exact=exact) is joined


@given(schemas(), schemas(), schemas())
def test_joining_schemas_agrees_on_types_in_any_order_and_keeps_the_first_ones_columns(
    a: Schema, b: Schema, c: Schema
) -> None:
    def kinds(schema: Schema) -> dict[str, tuple[Type | None, bool]]:
        return {field.source: (field.type, field.large) for field in schema.fields}

    assert kinds(a.join(b)) == kinds(b.join(a))
    assert kinds(a.join(b).join(c)) == kinds(a.join(b.join(c)))
    assert a.join(b).names[: len(a.names)] == a.names
    assert a.join(a) == a
    assert a.join(b).join(b) == a.join(b)


@given(schemas())
def test_a_schema_survives_its_json(schema: Schema) -> None:
    assert Schema.from_json(schema.to_json()) == schema


@given(st.lists(names, unique=True, max_size=40))
def test_sql_names_are_distinct_but_for_case_fit_63_bytes_and_never_name_a_system_column(sources: list[str]) -> None:
    schema = Schema.empty()
    for source in sources:
        schema = schema.with_field(source, Type.TEXT)
    assert len({name.lower() for name in schema.names}) == len(sources)
    for name in schema.names:
        assert 0 < len(name.encode()) <= NAME_BYTES_MAX
        assert name.lower() not in SYSTEM_COLUMNS
    assert [field.source for field in schema.fields] == sources


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("email", "email"),
        ("select", "select"),
        ('a"b; drop', 'a"b; drop'),
        ("", "field"),
        ("_offset", "_offset_"),
        ("record_id", "record_id_"),
        ("_More", "_More_"),
        ("x" * 63, "x" * 63),
    ],
)
def test_a_name_that_can_be_kept_is_kept(source: str, name: str) -> None:
    assert column_name(source, taken=frozenset()) == name


def test_long_names_are_cut_at_a_character_and_told_apart_by_a_hash() -> None:
    one, two = "ü" * 40 + "a", "ü" * 40 + "b"
    first, second = (column_name(source, taken=frozenset()) for source in (one, two))
    assert first != second
    assert first.startswith("ü" * 20)


def test_names_equal_but_for_case_get_numbers() -> None:
    schema = Schema.empty()
    for source in ("Name", "name", "NAME", "name_2"):
        schema = schema.with_field(source, Type.TEXT)
    assert schema.names == ("Name", "name_2", "NAME_3", "name_2_2")


def test_the_501st_field_goes_into_the_overflow_column() -> None:
    schema = Schema.empty()
    for number in range(COLUMNS_MAX + 2):
        schema = schema.with_field(f"f{number}", Type.INTEGER)
    assert len(schema.fields) == COLUMNS_MAX
    assert schema.overflow
    assert schema.names[-1] == "_more"
    assert Schema.empty().join(schema).overflow


def test_a_declaration_is_read_and_a_wrong_one_names_the_field_and_the_nearest_type() -> None:
    schema = Schema.declared({"id": "Integer NotNull", "at": "datetime", "tags": Type.ARRAY})
    assert schema.field("id") == Field("id", Type.INTEGER, "id", not_null=True, declared=True)
    assert [field.type for field in schema.fields] == [Type.INTEGER, Type.DATETIME, Type.ARRAY]
    with pytest.raises(UsageError, match="'qty'") as raised:
        Schema.declared({"qty": "Integr"})
    assert "Integer" in raised.value.hint
