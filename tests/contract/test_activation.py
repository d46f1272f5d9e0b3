"""An old version's data is active again as a version of its own; the ledger accounts for its rows."""

from __future__ import annotations

import pytest

from streams.checkpoint.activation import activate
from streams.checkpoint.effect import Activation, Write
from streams.checkpoint.manual_write import commit_manually
from streams.checkpoint.tables import begin_version
from streams.errors import UsageError
from streams.history.verify import verify
from streams.model.table_version import TableOptions, VersionState
from streams.rows.rows import Rows
from streams.store import Store
from streams.testing.manual_ambient import ManualAmbient
from tests.contract.engine import Engine


@pytest.fixture
def engine(store: Store, ambient: ManualAmbient) -> Engine:
    return Engine(store, ambient)


KEYED = TableOptions(unique_on=("n",))


def write(engine: Engine, *numbers: int, options: TableOptions | None = None) -> None:
    rows = Rows(unique_on=options.unique_on if options else ())
    rows.extend({"n": number, "twice": 2 * number} for number in numbers)
    effect = Write(
        "t", rows, [None] * len(rows), upsert=options is not None, options=options if options else TableOptions()
    )
    commit_manually(engine.store, [effect], ambient=engine.ambient)


def begin_anew(engine: Engine, *numbers: int) -> None:
    """Version 2, with other rows."""
    with engine.store.read() as tx:
        table = tx.tables.table("t")
    assert table is not None
    version = begin_version(engine.store, table, made_by="cli", ambient=engine.ambient)
    commit_manually(engine.store, [Activation("t", version.version)], ambient=engine.ambient)
    write(engine, *numbers)


def test_the_rows_of_an_old_version_are_the_tables_again_under_a_new_number(engine: Engine) -> None:
    write(engine, 1, 2, 3)
    begin_anew(engine, 9)
    done = activate(engine.store, "t", 1, ambient=engine.ambient)
    assert (done.source_version, done.old_version, done.new_version, done.rows) == (1, 2, 3, 3)
    assert [row["n"] for row in engine.rows("t")] == [1, 2, 3]
    with engine.store.read() as tx:
        assert [version.state for version in tx.tables.versions("t")] == [
            VersionState.SEALED,
            VersionState.SEALED,
            VersionState.ACTIVE,
        ]
    write(engine, 4)
    assert [row["n"] for row in engine.rows("t")] == [1, 2, 3, 4]
    assert verify(engine.store).faults == []


def test_a_key_holds_in_the_version_that_was_activated(engine: Engine) -> None:
    write(engine, 1, 2, options=KEYED)
    begin_anew(engine)
    activate(engine.store, "t", 1, ambient=engine.ambient)
    write(engine, 2, 3, options=KEYED)
    assert sorted(row["n"] for row in engine.rows("t")) == [1, 2, 3]
    assert verify(engine.store).faults == []


def test_what_is_active_absent_or_dropped_is_refused(engine: Engine) -> None:
    write(engine, 1)
    begin_anew(engine, 2)
    with engine.store.write() as tx:
        tx.tables.drop_data("t", 1)
    for number in (1, 2, 7):
        with pytest.raises(UsageError):
            activate(engine.store, "t", number, ambient=engine.ambient)
    assert [row["n"] for row in engine.rows("t")] == [2]
