"""The growing batch: every value as it was given, whatever order the types come in."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal

import pydantic
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from streams.errors import RowRejected
from streams.rows.rows import PLAN_AFTER_ROWS, PLANS_MAX, NaiveDatetime, Rows, decode_plan
from streams.rows.schema import COLUMNS_MAX, Schema, Type
from streams.rows.values import json_text, json_value
from tests.unit.value_strategies import anything, integers

fields = st.sampled_from(["a", "b", "A", "", "select", "_offset", "ü" * 40])
records = st.dictionaries(fields, anything, max_size=5)
batches = st.lists(records, max_size=12)


def rows_of(given_records: list[dict[str, object]], schema: Schema | None = None) -> Rows:
    rows = Rows(schema=schema, on_naive=lambda source: None)
    rows.extend(given_records)
    return rows


def all_encoded(rows: Rows, schema: Schema | None = None) -> list[tuple[object, ...]]:
    return [row for chunk in rows.encoded(schema or rows.schema) for row in chunk]


def decoded(rows: Rows, schema: Schema | None = None) -> list[dict[str, object]]:
    schema = schema or rows.schema
    return [decode_plan(schema)(row) for row in all_encoded(rows, schema)]


def expected_type(values: list[object]) -> Type | None:
    """The lattice, told another way: by all the values of a column at once."""
    kinds = {type(value) for value in values}
    names = {bool: "BOOLEAN", float: "FLOAT", str: "TEXT", bytes: "BINARY", date: "DATE", time: "TIME"}
    if not kinds:
        return None
    if kinds <= {int, float, Decimal}:
        whole = [abs(value) for value in values if type(value) is int]
        if Decimal in kinds or any(not -(2**63) <= value < 2**63 for value in values if type(value) is int):
            return Type.DECIMAL
        if float in kinds:
            return Type.DECIMAL if max(whole, default=0) > 2**53 else Type.FLOAT
        return Type.INTEGER
    if kinds <= {dict, list} or len(kinds) > 1:
        return Type.JSON
    (kind,) = kinds
    return Type.DATETIME if kind is datetime else Type.INTERVAL if kind is timedelta else Type[names[kind]]


def same_value(given_value: object, got: object, kind: Type | None) -> bool:
    if given_value is None:
        return got is None
    if kind is Type.JSON and type(given_value) is float and isinstance(got, int):
        return float(got) == given_value  # it was in a Decimal column before
    if kind is Type.JSON:
        return repr(got) == repr(json_value(json_text(given_value))) or got == given_value
    if kind is Type.FLOAT and isinstance(given_value, (int, float)):
        return type(got) is float and repr(got) == repr(float(given_value))
    if kind is Type.DECIMAL and isinstance(given_value, float) and isinstance(got, Decimal):
        return float(got) == given_value
    if kind is Type.DECIMAL:
        return type(got) is Decimal and got == given_value
    return type(got) is type(given_value) and got == given_value


@settings(max_examples=300)
@given(batches)
@example([{"a": 1}, {"a": True}, {"a": 1.0}, {"a": "1"}])
@example([{"a": 2**53}, {"a": 0.5}])
@example([{"a": 2**53 + 1}, {"a": 0.5}])
@example([{"a": 0.5}, {"a": -(2**53) - 1}])
@example([{"a": -0.0}, {"a": 1}])
def test_every_value_comes_back_as_it_was_under_the_narrowest_type_that_holds_its_column(
    batch: list[dict[str, object]],
) -> None:
    rows = rows_of(batch)
    out = decoded(rows)
    assert len(rows) == len(out) == len(batch)
    for field in rows.schema.fields:
        assert field.type is expected_type([r[field.source] for r in batch if r.get(field.source) is not None])
        for record, back in zip(batch, out, strict=True):
            assert same_value(record.get(field.source), back[field.source], field.type)
    assert {field.source for field in rows.schema.fields} == {key for record in batch for key in record}


@given(batches, batches)
def test_rows_fit_any_schema_that_is_at_least_as_wide(
    batch: list[dict[str, object]], other: list[dict[str, object]]
) -> None:
    rows, others = rows_of(batch), rows_of(other)
    both = others.schema.join(rows.schema)
    direct = rows_of([*other, *batch])
    out = decoded(rows, both)
    for record, back in zip(batch, out, strict=True):
        for field in both.fields:
            assert same_value(record.get(field.source), back[field.source], field.type)
    kinds = {field.source: field.type for field in direct.schema.fields}
    assert {field.source: field.type for field in both.fields} == kinds


@given(batches, st.integers(0, 12), batches)
def test_truncated_rows_are_as_if_the_rest_had_never_been(
    batch: list[dict[str, object]], n: int, later: list[dict[str, object]]
) -> None:
    rows = rows_of(batch)
    rows.truncate(n)
    rows.extend(later)
    fresh = rows_of([*batch[:n], *later])
    assert rows.schema == fresh.schema
    assert repr(all_encoded(rows)) == repr(all_encoded(fresh))


@settings(max_examples=200)
@given(records, st.lists(records, max_size=3))
def test_a_shape_seen_often_is_encoded_as_one_seen_once(
    record: dict[str, object], other: list[dict[str, object]]
) -> None:
    again = PLAN_AFTER_ROWS + 2
    rows = rows_of([*other, *[record] * again, *other, *[record] * again])
    out = all_encoded(rows)[len(other) :][:again]
    assert len({repr(row) for row in out}) == 1


USUAL: dict[str, object] = {
    "Boolean": True,
    "Integer": 5,
    "Float": 0.5,
    "Decimal": Decimal("1.5"),
    "Date": date(2024, 1, 1),
    "Time": time(1),
    "DateTime": datetime(2024, 1, 1, tzinfo=UTC),
    "Interval": timedelta(1),
    "Binary": b"x",
    "Text": "x",
    "Json": {"x": [1]},
}
ODD: list[object] = [
    *USUAL.values(),
    *(None, False, 0, 1, 1.0, -0.0, math.nan, math.inf, "", "\u00fc", b"", (1,), [], {}),
    *(2**53, 2**53 + 1, -(2**53) - 1, 2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 2**70),
    *(Decimal("NaN"), Decimal("-0.0"), Decimal("1E+2"), Decimal("-Infinity")),
    datetime(2024, 1, 1, tzinfo=timezone(timedelta(hours=2))),
    datetime(2024, 1, 1),  # noqa: DTZ001 - a naive one
    time(1, fold=1),
]


@pytest.mark.parametrize("kind", sorted(USUAL))
@pytest.mark.parametrize("odd", ODD, ids=repr)
@pytest.mark.parametrize("required", [False, True])
def test_the_fast_path_agrees_with_the_careful_one(
    kind: str, odd: object, required: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = {"a": USUAL[kind], "b": "x"}
    batch = [usual] * (PLAN_AFTER_ROWS + 1) + [{"a": odd, "b": "y"}, usual, {"a": 0.5, "b": "z"}]

    def encode() -> tuple[object, ...]:
        told: list[str] = []
        rows = Rows(unique_on=("a",) if required else (), on_naive=told.append)
        refused = []
        for record in batch:
            try:
                rows.append(record)
            except RowRejected as rejected:
                refused.append((record, str(rejected)))
        return repr(all_encoded(rows)), rows.schema, told, repr(refused)

    planned = encode()
    monkeypatch.setattr("streams.rows.rows.PLAN_AFTER_ROWS", 10**9)
    assert planned == encode()


@pytest.mark.parametrize("seen", [0, PLAN_AFTER_ROWS + 1], ids=["careful", "planned"])
@pytest.mark.parametrize(
    ("bad", "field", "why"),
    [
        ({"a": "x\0", "b": 1}, "a", "0000"),
        ({"a": "\udc00", "b": 1}, "a", "surrogate"),
        ({"a": "ok", "b": {1, 2}}, "b", "order"),
        ({"a": "ok", "b": 1, "c\0": 1}, "c\0", "0000"),
        ({"a": "ok", "b": 1, 5: 1}, "5", "name"),
        ({"a": "ok", "new": 1, "b": [object()]}, "b", "object"),
    ],
)
def test_a_rejected_row_names_its_field_and_changes_nothing(
    seen: int, bad: dict[str, object], field: str, why: str
) -> None:
    rows = rows_of([{"a": "x", "b": 1}] * seen)
    before, size = rows.schema, rows.bytes_estimate
    with pytest.raises(RowRejected, match=why) as raised:
        rows.append(bad)
    assert raised.value.field == field
    assert (rows.schema, len(rows), rows.bytes_estimate) == (before, seen, size)
    rows.append({"a": "y", "b": 2})
    assert decoded(rows)[-1] == {"a": "y", "b": 2}


def test_what_is_no_mapping_is_rejected_and_models_are_rows() -> None:
    class Order(pydantic.BaseModel):
        id: int
        at: datetime

    rows = Rows()
    rows.append(Order(id=1, at=datetime(2024, 1, 1, tzinfo=UTC)))  # type: ignore[arg-type]
    assert all_encoded(rows) == [(1, datetime(2024, 1, 1, tzinfo=UTC))]
    with pytest.raises(RowRejected, match="mapping"):
        rows.append([1, 2])  # type: ignore[arg-type]


def test_a_field_that_first_appears_in_record_10_000_is_null_in_those_before() -> None:
    rows = Rows()
    rows.extend({"id": number} for number in range(10_000))
    rows.append({"id": 10_000, "late": "x"})
    out = all_encoded(rows)
    assert out[0] == (0, None)
    assert out[-1] == (10_000, "x")
    assert len(out) == 10_001


def test_rows_with_optional_fields_stay_in_one_chunk() -> None:
    rows = Rows()
    for number in range(3000):
        rows.append({"id": number, "a": 1, "b": 2} if number % 3 else {"b": 2, "id": number})
    assert len(list(rows.encoded(rows.schema))) == 1


def test_more_shapes_than_there_are_plans_are_still_encoded() -> None:
    rows = Rows()
    names = [f"f{number}" for number in range(12)]
    sparse = [
        {name: number for bit, name in enumerate(names) if number >> bit & 1} for number in range(2 * PLANS_MAX)
    ] * (PLAN_AFTER_ROWS + 2)
    rows.extend(sparse)
    assert [{k: v for k, v in row.items() if v is not None} for row in decoded(rows)] == sparse


def test_a_null_has_no_type_until_a_value_comes() -> None:
    rows = Rows()
    rows.extend([{"a": None}, {"a": math.nan}])
    assert rows.schema.fields[0].type is None
    rows.append({"a": b"x"})
    assert rows.schema.fields[0].type is Type.BINARY
    assert all_encoded(rows) == [(None,), (None,), (b"x",)]


def test_a_json_null_inside_stays_inside() -> None:
    rows = rows_of([{"a": [None]}, {"a": None}])
    assert all_encoded(rows) == [("[null]",), (None,)]


def test_a_naive_datetime_is_utc_with_one_warning_a_field() -> None:
    rows = Rows()
    naive = datetime(2024, 1, 1)  # noqa: DTZ001 - what is tested
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(10):
            rows.append({"at": naive, "b": 1})
        rows.append({"at": naive.replace(tzinfo=UTC), "b": naive})
    assert [warning.category for warning in caught] == [NaiveDatetime, NaiveDatetime]
    assert {row[0] for row in all_encoded(rows)} == {datetime(2024, 1, 1, tzinfo=UTC)}


DECLARED = Schema.declared(
    {"id": "Integer NotNull", "price": "Decimal", "at": "DateTime", "tags": "Array", "x": "Float"}
)


@pytest.mark.parametrize("seen", [0, PLAN_AFTER_ROWS + 1], ids=["careful", "planned"])
@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"id": None}, "id"),
        ({"id": "1"}, "id"),
        ({"id": 1.0}, "id"),
        ({"id": True}, "id"),
        ({"id": 2**63}, "id"),
        ({"price": "cheap"}, "price"),
        ({"at": "yesterday"}, "at"),
        ({"tags": "a"}, "tags"),
        ({"x": 2**60}, "x"),
    ],
)
def test_against_a_declared_schema_a_value_that_does_not_fit_is_rejected(
    seen: int, change: dict[str, object], field: str
) -> None:
    good = {"id": 1, "price": Decimal("1.5"), "at": "2024-01-01T00:00:00Z", "tags": ["a"], "x": 1}
    rows = Rows(schema=DECLARED)
    rows.extend([good] * seen)
    with pytest.raises(RowRejected) as raised:
        rows.append({**good, **change})
    assert raised.value.field == field
    rows.append(good)
    assert all_encoded(rows)[-1] == (1, Decimal("1.5"), datetime(2024, 1, 1, tzinfo=UTC), '["a"]', 1.0)
    assert rows.schema == DECLARED


def test_a_required_field_that_is_absent_is_rejected_and_a_new_field_adds_a_column() -> None:
    rows = Rows(schema=DECLARED)
    with pytest.raises(RowRejected, match="absent") as raised:
        rows.append({"price": 1})
    assert raised.value.field == "id"
    rows.append({"id": 1, "extra": "x"})
    rows.append({"id": 1, "extra": 5})
    assert rows.schema.names[-1] == "extra"
    assert rows.schema.fields[-1].type is Type.JSON


def test_declared_true_binds_all_fields_of_a_schema() -> None:
    schema = rows_of([{"a": 1}]).schema
    with pytest.raises(RowRejected, match="Integer"):
        Rows(schema=schema, declared=True).append({"a": "x"})


def test_fields_beyond_the_500th_are_in_the_overflow_column_and_come_back() -> None:
    wide: dict[str, object] = {f"f{number}": number for number in range(COLUMNS_MAX + 3)}
    rows = rows_of([{"f0": 1}, wide, {"f0": 2, "more": [1, None], "later": None}])
    assert rows.schema.overflow
    assert len(rows.schema.names) == COLUMNS_MAX + 1
    out = decoded(rows)
    assert out[1] == wide
    assert {key: value for key, value in out[2].items() if value is not None} == {"f0": 2, "more": [1, None]}
    assert all_encoded(rows)[2][-1] == '{"more":[1,null],"later":null}'


def test_a_field_that_finds_no_column_in_a_full_table_moves_into_its_overflow_column() -> None:
    full = rows_of([{f"f{number}": number for number in range(COLUMNS_MAX)}]).schema
    rows = rows_of([{"f1": 5, "at": datetime(2024, 1, 1, tzinfo=UTC), "tags": ["a"]}])
    joined = full.join(rows.schema)
    assert joined.overflow
    (back,) = decoded(rows, joined)
    assert {key: value for key, value in back.items() if value is not None} == {
        "f1": 5,
        "at": "2024-01-01T00:00:00Z",
        "tags": ["a"],
    }


@pytest.mark.parametrize("keep_schema", [True, False])
def test_a_cleared_batch_goes_on_from_its_schema_or_the_one_given(keep_schema: bool) -> None:
    rows = rows_of([{"a": 1, "b": "x"}] * 10)
    table = Schema.empty().with_field("b", Type.TEXT).join(rows.schema)
    rows.clear(schema=None if keep_schema else table)
    assert (len(rows), rows.bytes_estimate, all_encoded(rows)) == (0, 0, [])
    rows.append({"a": 2, "b": "y"})
    assert all_encoded(rows) == [(2, "y") if keep_schema else ("y", 2)]
    rows.truncate(0)
    assert rows.schema == (rows_of([{"a": 1, "b": "x"}]).schema if keep_schema else table)


def test_the_size_estimate_grows_with_what_is_held() -> None:
    small, large = rows_of([{"a": "x", "j": [1]}] * 100), rows_of([{"a": "x" * 10_000, "j": ["y" * 10_000]}] * 100)
    assert small.bytes_estimate < 100_000
    assert 2_000_000 <= large.bytes_estimate < 3_000_000
    large.truncate(50)
    assert 1_000_000 <= large.bytes_estimate < 1_500_000


# Upserts


keyed = st.dictionaries(
    st.sampled_from(["k", "a", "b", "j"]), st.none() | st.integers(0, 2) | st.lists(st.integers(0, 1), max_size=1)
).map(lambda record: {**record, "k": record["k"] if isinstance(record.get("k"), int) else 0})


def naive_merge(batch: list[dict[str, object]]) -> dict[object, dict[str, object]]:
    merged: dict[object, dict[str, object]] = {}
    for record in batch:
        merged[record["k"]] = {**merged.pop(record["k"], {}), **record}
    return merged


@settings(max_examples=300)
@given(st.lists(keyed, max_size=15))
def test_rows_of_one_key_merge_as_dicts_do(batch: list[dict[str, object]]) -> None:
    rows = Rows(unique_on=("k",))
    rows.extend(batch)
    if not batch:
        return
    merged = rows.upserts(rows.schema)
    expected = naive_merge(batch)
    decode = decode_plan(rows.schema)
    sources = [field.source for field in rows.schema.fields]
    assert [row[sources.index("k")] for row in merged.rows] == list(expected)
    for row, present, last, (key, record) in zip(
        merged.rows, merged.present, merged.last, expected.items(), strict=True
    ):
        assert {sources[place] for place in present} == set(record)
        assert {source: decode(row)[source] for source in record} == record
        assert batch[last]["k"] == key
        assert all(later["k"] != key for later in batch[last + 1 :])
    assert merged.superseded == len(batch) - len(expected)


def test_the_overflow_of_rows_of_one_key_is_merged_field_by_field() -> None:
    base: dict[str, object] = {f"f{number}": number for number in range(COLUMNS_MAX)}
    rows = Rows(unique_on=("f0",))
    rows.extend([{**base, "x": 1, "y": 2}, {"f0": 0, "y": None, "z": 3}])
    merged = rows.upserts(rows.schema)
    assert len(merged.rows) == 1
    assert merged.rows[0][-1] == '{"x":1,"y":null,"z":3}'
    assert merged.rows[0][1] == 1


@pytest.mark.parametrize("seen", [0, PLAN_AFTER_ROWS + 1], ids=["careful", "planned"])
@pytest.mark.parametrize("bad", [{"a": 1}, {"k": None, "a": 1}, {"k": math.nan, "a": 1}, {"k": [1], "a": 1}])
def test_a_key_that_is_absent_null_or_no_plain_value_is_rejected(seen: int, bad: Mapping[str, object]) -> None:
    rows = Rows(unique_on=("k",))
    rows.extend([{"k": 0.5, "a": 1}] * seen)
    with pytest.raises(RowRejected) as raised:
        rows.append(bad)
    assert raised.value.field == "k"
    assert len(rows) == seen


@given(st.lists(integers | st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=6))
def test_keys_that_widen_stay_the_keys_they_were(keys: list[object]) -> None:
    rows = Rows(unique_on=("k",))
    rows.extend([{"k": key, "n": number} for number, key in enumerate(keys)])
    merged = rows.upserts(rows.schema)
    last: dict[object, int] = {}
    for number, key in enumerate(keys):
        form = Decimal(repr(key))
        last.pop(form, None)
        last[form] = number
    assert [row[1] for row in merged.rows] == list(last.values())
