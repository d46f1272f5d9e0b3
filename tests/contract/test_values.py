"""Values: what was put into a row is what comes out of it, on every store."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal

import pytest

from streams.checkpoint.effect import Write
from streams.errors import RowRejected
from streams.ids import RecordIds
from streams.model.table_version import TableOptions
from streams.rows.frames import frame_of, frame_of_records
from streams.rows.rows import Rows
from streams.rows.schema import NAME_BYTES_MAX, Type
from streams.store import Store
from streams.testing.manual_ambient import ManualAmbient
from tests.contract.making import Agent, active, records_of, stored, write

LONG = 2_200  # enough rows to be kept by column, and more than are written at once
FAR = timezone(timedelta(hours=5, minutes=45))

VALUES: dict[str, list[object]] = {
    "integers": [0, -1, 2**31, 2**53 + 1, -(2**53) - 1, 2**63 - 1, -(2**63)],
    "floats": [0.1, 1 / 3, 5e-324, 1.7976931348623157e308, -2.5e-308, math.pi, 1e22, 123456789.123456789],
    "zeros": [0.0, -0.0],
    "infinities": [math.inf, -math.inf],
    "decimals": [
        Decimal("0.1"),
        Decimal("-12345678901234567890.123456789012345678901234567890"),
        Decimal("1e-30"),
        Decimal(10) ** 40,
        Decimal("0"),
    ],
    "trailing zeros": [Decimal("1.50"), Decimal("2.000")],
    "wide integers": [2**63, -(2**70), 10**40],
    "datetimes": [
        datetime(2024, 2, 29, 23, 59, 59, 999_999, tzinfo=UTC),
        datetime(2024, 3, 31, 2, 30, tzinfo=FAR),
        datetime(1, 1, 1, tzinfo=UTC),
        datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
        datetime(1969, 12, 31, 23, 59, 59, 1, tzinfo=UTC),
    ],
    "dates": [date(2024, 2, 29), date(1, 1, 1), date(9999, 12, 31)],
    "times": [time(0), time(23, 59, 59, 999_999), time(12, 0, 0, 1)],
    "intervals": [
        timedelta(0),
        timedelta(microseconds=1),
        timedelta(microseconds=-1),
        timedelta(days=-3, hours=2),
        timedelta(days=400_000, seconds=1),
    ],
    "bytes": [b"", b"\x00\xff\x00", bytes(range(256)), b"text"],
    "booleans": [True, False],
    "text": ["", " ", "null", "'; drop table x; --", 'a"b\\c', "line\r\nline\ttab", "0", "1.0", "true", "2024-01-01"],
    "unicode": ["\u00e9", "e\u0301", "🙂👩‍👩‍👧", "日本語", "\u202eright", "\ufeffbom", "￿", "\U0010ffff", "\x01\x7f"],
    "long text": ["x" * 1_000_000, "🙂" * 100_000],
    "lists": [[], [1, 2.5, "x", None, True], [[["deep"]]], [{"a": [1]}]],
    "objects": [{}, {"a": {"b": {"c": [1, {"d": None}]}}}, {"": 1, 'k"q': "v", "é": "🙂"}, {"n": 2**63 - 1, "f": 0.1}],
}


@pytest.mark.parametrize("kind", VALUES)
def test_a_value_comes_back_as_it_was(store: Store, ambient: ManualAmbient, kind: str) -> None:
    values = [None, *VALUES[kind], None]
    Agent(store, ambient).land(write("table", [{"n": n, "v": value} for n, value in enumerate(values)]))
    found = [record["v"] for record in records_of(stored(store, "table"))]
    assert [shape(value) for value in found] == [shape(canonical(value)) for value in values]


@pytest.mark.parametrize("kind", VALUES)
def test_a_long_frame_keeps_its_values(store: Store, ambient: ManualAmbient, kind: str) -> None:
    """Rows that come by column, with nulls among them and without, with ids made together and ids made elsewhere."""
    values = VALUES[kind] if kind != "long text" else ["x" * 5_000]
    full = (values * LONG)[: LONG + 7]
    sparse = [None, *values, *[None] * LONG]
    agent = Agent(store, ambient, partitions=2)
    made = RecordIds("agent", "place").many(ambient.now(), 3, 0, len(full))
    given = ["first", None, *(f"id {number}" for number in range(2, len(sparse)))]
    agent.land(long_frame(full, made, partition=0))
    agent.land(long_frame(sparse, given, partition=1), partitions=[1])
    for index, (held, ids) in enumerate([(full, made), (sparse, given)]):
        rows = stored(store, "table", partition=index)
        found = records_of(rows)
        assert [record["n"] for record in found] == list(rows.offsets) == list(range(len(held)))
        assert list(map(shape, (record["v"] for record in found))) == [shape(canonical(value)) for value in held]
        assert list(rows.record_ids) == list(ids)
        assert len(set(rows.ats)) == 1


@pytest.mark.parametrize(
    ("kind", "partitions"), [*((kind, 1) for kind in VALUES if kind != "long text"), ("decimals", 3)]
)
def test_a_long_frame_upserts_what_its_rows_upsert(
    store: Store, ambient: ManualAmbient, kind: str, partitions: int
) -> None:
    """One by column, one row by row, of keys of which half stand; a column that the second lacks keeps its values."""
    values = [None, *VALUES[kind]]
    options = TableOptions(unique_on=("at", "name"), partitions=partitions)
    first = [keyed(number, v=values[number % len(values)], kept=number) for number in range(LONG)]
    second = [keyed(number, v=values[number % 3]) for number in range(LONG // 2, LONG + LONG // 2)]
    agent = Agent(store, ambient, partitions=2)
    for records in (first, second):
        ids = [f"id {number}" for number in range(len(records))]
        by_column = Rows(unique_on=options.unique_on)
        by_column.append_frame(frame_of_records([records]))
        by_row = Rows(unique_on=options.unique_on)
        by_row.extend(records)
        effects = [
            Write(name, rows, ids, upsert=True, options=options)
            for name, rows in (("columns", by_column), ("rows", by_row))
        ]
        agent.land(*effects)
    for index in range(partitions):
        one, other = (stored(store, name, partition=index) for name in ("columns", "rows"))
        assert list(one.offsets) == list(other.offsets)
        assert list(one.record_ids) == list(other.record_ids)
        assert [{name: shape(value) for name, value in each.items()} for each in records_of(one)] == [
            {name: shape(value) for name, value in each.items()} for each in records_of(other)
        ]
    held = sum(len(stored(store, "columns", partition=index).offsets) for index in range(partitions))
    assert held == LONG + LONG // 2


def keyed(number: int, **values: object) -> dict[str, object]:
    at = datetime(2024, 1, 1, tzinfo=UTC) + timedelta(hours=number // 7)
    return {"at": at, "name": f"name {number % 7}", **values}


def long_frame(values: Sequence[object], ids: Sequence[str | None], *, partition: int) -> Write:
    """The effect that appends a frame of numbered values, in the dtypes that a user is given them in."""
    plain, rows = Rows(), Rows()
    plain.extend({"n": number, "v": value} for number, value in enumerate(values))
    rows.append_frame(frame_of(plain.schema, (row for chunk in plain.encoded(plain.schema) for row in chunk)))
    return Write("table", rows, ids, partition=partition)


def canonical(value: object) -> object:
    """Instants are kept, their zones are not; integers beyond 64 bits are decimals."""
    if isinstance(value, datetime):
        return value.astimezone(UTC)
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return Decimal(value)
    return value


def shape(value: object) -> object:
    """A value so that equal means the same in every bit that matters, zeros and types included."""
    if isinstance(value, float):
        return "float", struct.pack(">d", value)
    if isinstance(value, Decimal):
        return "Decimal", value
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    if isinstance(value, list):
        return [shape(item) for item in value]
    return type(value).__name__, value


def test_decimals_keep_their_digits(store: Store, ambient: ManualAmbient) -> None:
    """1.50 stays 1.50, as text shows it."""
    values = [Decimal("1.50"), Decimal("0.000"), Decimal("100")]
    Agent(store, ambient).land(write("table", [{"v": value} for value in values]))
    assert [str(record["v"]) for record in records_of(stored(store, "table"))] == ["1.50", "0.000", "100"]


def test_nan_is_null(store: Store, ambient: ManualAmbient) -> None:
    Agent(store, ambient).land(write("table", [{"v": 1.0}, {"v": math.nan}, {"v": Decimal("nan")}]))
    assert [record["v"] for record in records_of(stored(store, "table"))] == [1.0, None, None]


def test_an_empty_string_is_not_null(store: Store, ambient: ManualAmbient) -> None:
    Agent(store, ambient).land(write("table", [{"v": ""}, {"v": None}, {"w": "x"}]))
    assert [record["v"] for record in records_of(stored(store, "table"))] == ["", None, None]


NAMES = [
    "select",
    "order",
    "group",
    "table",
    "User",
    "user",
    "a b",
    "a.b",
    'q"uote',
    "it's",
    "semi;colon",
    "100%",
    ":colon",
    "?",
    "$1",
    "ünï",
    "🙂",
    "",
    "_offset",
    "_partition",
    "_at",
    "record_id",
    "rowid",
    "oid",
    "ctid",
    "xmin",
    "tableoid",
    "x" * NAME_BYTES_MAX,
    "x" * 64,
    "x" * 200,
    "é" * 40,
    "é" * 41,
]


def test_a_field_may_have_any_name(store: Store, ambient: ManualAmbient) -> None:
    record: dict[str, object] = {name: place for place, name in enumerate(NAMES)}
    agent = Agent(store, ambient)
    agent.land(write("table", [record]))
    agent.land(write("table", [{name: place + 100} for place, name in enumerate(NAMES)]), records=2)
    found = records_of(stored(store, "table"))
    assert found[0] == record
    assert [found[1 + place][name] for place, name in enumerate(NAMES)] == [place + 100 for place in range(len(NAMES))]


@pytest.mark.parametrize("name", ["select", "a b", "ünï 🙂", 'q"uote', "x" * 63, "Case", "case"])
def test_a_table_may_have_any_name(store: Store, ambient: ManualAmbient, name: str) -> None:
    agent = Agent(store, ambient)
    agent.land(write(name, [{"v": 1}]))
    agent.land(write("another", [{"v": 2}]))
    assert records_of(stored(store, name)) == [{"v": 1}]


def test_a_key_may_be_named_like_a_keyword(store: Store, ambient: ManualAmbient) -> None:
    agent = Agent(store, ambient)
    agent.land(write("table", [{"select": 1, "from": "a"}], unique_on=("select",)))
    agent.land(write("table", [{"select": 1, "from": "b"}], unique_on=("select",)))
    assert records_of(stored(store, "table")) == [{"select": 1, "from": "b"}]


@pytest.mark.parametrize(
    "keys",
    [
        [1, 2**63 - 1],
        ["", "a", "A", "a ", "\u00e9", "e\u0301", "🙂"],
        [0.1, -1.5, 1e300],
        [Decimal("1.5"), Decimal("1e-20")],
        [b"", b"\x00"],
        [datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 1, 0, 0, 0, 1, tzinfo=UTC)],
        [date(2024, 1, 1), date(2024, 1, 2)],
        [time(1), time(1, 0, 0, 1)],
        [timedelta(days=1), timedelta(hours=25)],
        [True, False],
    ],
    ids=lambda keys: type(keys[0]).__name__,
)
@pytest.mark.parametrize("partitions", [1, 3])
def test_a_key_may_be_of_any_plain_type(
    store: Store, ambient: ManualAmbient, keys: Sequence[object], partitions: int
) -> None:
    agent = Agent(store, ambient)
    options = TableOptions(partitions=partitions)
    for round_ in range(2):
        agent.land(write("table", [{"k": key, "round": round_} for key in keys], unique_on=("k",), options=options))
    found = [record for index in range(partitions) for record in records_of(stored(store, "table", partition=index))]
    assert len(found) == len(keys)
    assert all(record["round"] == 1 for record in found)
    assert {record["k"] for record in found} == set(keys)


def test_a_field_may_appear_in_record_10_000(store: Store, ambient: ManualAmbient) -> None:
    records: list[dict[str, object]] = [{"n": n} for n in range(9_999)]
    records.append({"n": 9_999, "late": "here"})
    agent = Agent(store, ambient)
    agent.land(write("table", records), records=10_000)
    agent.land(write("table", [{"late": "again"}]))
    found = records_of(stored(store, "table"))
    assert [record["n"] for record in found] == [*range(10_000), None]
    assert [record["late"] for record in found] == [None] * 9_999 + ["here", "again"]


def test_a_field_may_appear_in_checkpoint_after_checkpoint(store: Store, ambient: ManualAmbient) -> None:
    agent = Agent(store, ambient)
    for n in range(12):
        agent.land(write("table", [{f"f{n}": n}]))
    found = records_of(stored(store, "table"))
    assert [record[f"f{n}"] for n, record in enumerate(found)] == list(range(12))
    assert sum(value is not None for record in found for value in record.values()) == 12


def test_fields_beyond_the_most_columns_are_kept_together(store: Store, ambient: ManualAmbient) -> None:
    agent = Agent(store, ambient)
    wide: dict[str, object] = {f"f{n}": n for n in range(520)}
    agent.land(write("table", [{"f0": -1}]))
    agent.land(write("table", [wide]))
    agent.land(write("table", [{"f0": 1, "f519": {"deep": [1]}, "new": "x"}]))
    first, second, third = records_of(stored(store, "table"))
    assert first["f0"] == -1
    assert second == wide
    assert {key: value for key, value in third.items() if value is not None} == {
        "f0": 1,
        "f519": {"deep": [1]},
        "new": "x",
    }


@pytest.mark.parametrize(
    ("old", "new"), [(Decimal("1.0"), Decimal("1.00")), (0.0, -0.0), (Decimal("0"), Decimal("0.000"))], ids=str
)
def test_the_same_number_in_other_digits_is_no_change(
    store: Store, ambient: ManualAmbient, old: object, new: object
) -> None:
    agent = Agent(store, ambient)
    agent.land(write("table", [{"k": 1, "v": old}], unique_on=("k",)))
    agent.land(write("table", [{"k": 1, "v": new}], unique_on=("k",)))
    rows = stored(store, "table")
    assert list(rows.offsets) == [0]
    assert [shape(record["v"]) for record in records_of(rows)] == [shape(old)]


@pytest.mark.parametrize(("old", "new"), [(Decimal("1.5"), Decimal("1.50")), (0.0, -0.0)], ids=str)
def test_the_same_number_in_other_digits_is_one_key(
    store: Store, ambient: ManualAmbient, old: object, new: object
) -> None:
    agent = Agent(store, ambient)
    agent.land(write("table", [{"k": old, "v": 1}], unique_on=("k",)))
    agent.land(write("table", [{"k": new, "v": 2}], unique_on=("k",)))
    assert records_of(stored(store, "table")) == [{"k": old, "v": 2}]


A_VALUE: dict[Type, list[object]] = {
    Type.BOOLEAN: [True, False],
    Type.INTEGER: [7, -(2**53), 2**53],
    Type.FLOAT: [0.1, -0.0, 1e300],
    Type.DECIMAL: [Decimal("0.30"), Decimal("123456789012345678901234567890")],
    Type.DATE: [date(2024, 2, 29)],
    Type.TIME: [time(1, 2, 3, 4)],
    Type.DATETIME: [datetime(2024, 2, 29, 1, 2, 3, 4, tzinfo=UTC)],
    Type.INTERVAL: [timedelta(days=1, microseconds=1), timedelta(seconds=-1)],
    Type.BINARY: [b"\x00\xff", b""],
    Type.TEXT: ["text", "", '"quoted"', "null", "1"],
    Type.JSON: [{"a": [1, "x"]}, [1], {"big": 2**63 - 1}],
}
PAIRS = [(a, b) for a in A_VALUE for b in A_VALUE if a is not b]


@pytest.mark.parametrize(("first", "second"), PAIRS, ids=[f"{a}-{b}" for a, b in PAIRS])
def test_a_column_that_widens_is_what_it_would_have_been(
    store: Store, ambient: ManualAmbient, first: Type, second: Type
) -> None:
    """Rows stored before the widening and rows encoded together give the same values."""
    before: list[dict[str, object]] = [{"v": value} for value in (*A_VALUE[first], None)]
    after: list[dict[str, object]] = [{"v": value} for value in A_VALUE[second]]
    agent = Agent(store, ambient)
    agent.land(write("apart", before))
    agent.land(write("apart", after))
    agent.land(write("together", [*before, *after]))
    apart, together = stored(store, "apart"), stored(store, "together")
    assert apart.schema == together.schema
    assert [shape(list(row)) for row in apart.values] == [shape(list(row)) for row in together.values]


def test_large_integers_meeting_floats_become_decimals(store: Store, ambient: ManualAmbient) -> None:
    agent = Agent(store, ambient)
    agent.land(write("table", [{"v": 2**53 + 1}]))
    agent.land(write("table", [{"v": 0.1}]))
    assert [record["v"] for record in records_of(stored(store, "table"))] == [Decimal(2**53 + 1), Decimal("0.1")]
    assert active(store, "table").schema.fields[0].type is Type.DECIMAL


def test_a_key_that_widens_keeps_its_rows_apart(store: Store, ambient: ManualAmbient) -> None:
    agent = Agent(store, ambient)
    agent.land(write("table", [{"k": k, "v": "old"} for k in (1, 2)], unique_on=("k",)))
    agent.land(write("table", [{"k": k, "v": "new"} for k in (2.0, 2.5)], unique_on=("k",)))
    assert records_of(stored(store, "table")) == [
        {"k": 1.0, "v": "old"},
        {"k": 2.0, "v": "new"},
        {"k": 2.5, "v": "new"},
    ]


def test_a_key_that_widens_stays_in_its_partition(store: Store, ambient: ManualAmbient) -> None:
    agent = Agent(store, ambient)
    options = TableOptions(partitions=4)
    keys = list(range(20))
    agent.land(write("table", [{"k": k, "v": "old"} for k in keys], unique_on=("k",), options=options))
    agent.land(write("table", [{"k": k, "v": "new"} for k in [0.5, *keys]], unique_on=("k",), options=options))
    found = [record for index in range(4) for record in records_of(stored(store, "table", partition=index))]
    assert sorted(record["k"] for record in found) == sorted([0.5, *keys])  # type: ignore[type-var]
    assert {record["v"] for record in found} == {"new"}


@pytest.mark.parametrize("value", ["nul\0byte", "\ud800", {"deep": "a\0"}, {1, 2}, object()])
def test_what_no_store_can_keep_is_refused_at_its_own_record(value: object) -> None:
    rows = Rows()
    rows.append({"v": "fine"})
    with pytest.raises(RowRejected) as refused:
        rows.append({"v": value})
    assert refused.value.field == "v"
    assert len(rows) == 1
