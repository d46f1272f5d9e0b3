"""Files brought into a DataNode's table, on every store: held to the rules of `update()`'s frame, all rows or none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from millstream.data_node_removal import remove_table
from millstream.tables import row_pile
from millstream.tables.file_rows import RowFile
from millstream.tables.table_files import write_file
from millstream.tables.table_import import TableImport
from millstream.tables.table_rows import read_rows
from nodes.data_node.catalogue import Catalogue
from nodes.data_node.errors import KeyConflict
from nodes.data_node.table_progress import importer_of
from nodes.data_node.workplace import Workplace, using_store
from streams.checkpoint.effect import Write
from streams.checkpoint.manual_write import commit_manually
from streams.checkpoint.tables import active_version
from streams.errors import UsageError
from streams.history.verify import verify
from streams.model.table_version import TableOptions
from streams.rows.rows import Rows
from streams.store import Store
from streams.testing.manual_ambient import ManualAmbient
from tests.data_nodes import Apart, Keeping, Refusing, by_asset, daily, prices, published
from tests.imports import brought, csv, parquet, run

equal = pd.testing.assert_frame_equal


@pytest.fixture(autouse=True)
def place(store: Store, ambient: ManualAmbient) -> Iterator[Workplace]:
    with using_store(store, ambient) as here:
        yield here


def test_a_file_becomes_rows_of_the_table_and_moves_the_tables_statistics_alone(
    place: Workplace, tmp_path: Path
) -> None:
    node = prices()
    run(node, by_asset([(3, "a", 3.0)]))
    file = parquet(tmp_path / "old.parquet", by_asset([(1, "a", 1.0), (1, "b", 2.0), (3, "a", 4.0)]))
    done = brought(node, file, place)
    assert (done["inserted"], done["moved"]) == (2, 1)
    equal(node.get_df_between_dates(), by_asset([(1, "a", 1.0), (1, "b", 2.0), (3, "a", 4.0)]))
    table, own = node.table_statistics, node.update_statistics
    assert (table.row_count, own.row_count) == (3, 1)
    assert (str(table.min_time_index_value)[:10], str(own.min_time_index_value)[:10]) == ("2024-05-01", "2024-05-03")
    assert set(table.max_time_by_identifier) == {"a", "b"}
    assert set(own.max_time_by_identifier) == {"a"}
    assert verify(place.store).ok


def test_what_is_brought_in_an_updaters_name_is_its_own_progress(place: Workplace, tmp_path: Path) -> None:
    node = prices()
    run(node, daily({1: 1.0}))
    brought(node, parquet(tmp_path / "x.parquet", daily({2: 2.0, 9: 9.0})), place, updater=node.update_hash)
    statistics = node.update_statistics
    assert (statistics.row_count, str(statistics.max_time_index_value)[:10]) == (3, "2024-05-09")
    run(node, daily({10: 10.0}))
    assert len(node.get_df_between_dates()) == 4
    assert verify(place.store).ok


def test_a_published_table_shows_its_new_column(place: Workplace, tmp_path: Path) -> None:
    node = prices(node_metadata=published("prices"))
    run(node, daily({1: 1.0}))
    brought(node, parquet(tmp_path / "x.parquet", daily({2: 2.0}, column="volume")), place)
    with place.store.read() as tx:
        held = Catalogue(tx).identifier("prices")
        version = tx.tables.version(node.storage_hash, 1)
    assert held is not None
    assert version is not None
    assert (held.shown, "volume" in version.schema.names) == (version.schema_number, True)


def test_memory_holds_a_part_of_the_rows_and_the_checkpoint_all(
    place: Workplace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_pile, "PILE_BYTES", 1)
    monkeypatch.setattr("millstream.tables.file_rows.BATCH_ROWS", 2)
    node = prices()
    run(node, daily({1: 1.0}))
    frame = daily({day: float(day) for day in range(2, 10)})
    brought(node, parquet(tmp_path / "x.parquet", frame, row_group_size=3), place)
    assert node.table_statistics.row_count == 9
    with place.store.read() as tx:
        build = tx.agents.live_build(importer_of(node.storage_hash))
        assert build is not None
        assert len(list(tx.ledger.entries(build))) == 1
    assert verify(place.store).ok


def test_imported_keys_count_as_somebody_elses(place: Workplace, tmp_path: Path) -> None:
    file = parquet(tmp_path / "x.parquet", daily({1: 1.0}))
    keeping, refusing = prices(cls=Keeping), prices(cls=Refusing)
    run(keeping, daily({2: 2.0}))
    brought(keeping, file, place)
    run(keeping, daily({1: 7.0, 3: 3.0}))
    assert keeping.get_df_between_dates()["price"].tolist() == [1.0, 2.0, 3.0]
    run(refusing, daily({2: 2.0}))
    brought(refusing, file, place)
    with pytest.raises(KeyConflict):
        run(refusing, daily({1: 7.0}))


def test_rows_that_are_kept_apart_need_an_updater(place: Workplace, tmp_path: Path) -> None:
    one, two = (prices(part=part, cls=Apart) for part in "ab")
    run(one, daily({1: 1.0}))
    run(two, daily({1: 2.0}))
    file = parquet(tmp_path / "x.parquet", daily({1: 5.0, 2: 6.0}))
    with pytest.raises(UsageError, match="somebody's"):
        brought(one, file, place)
    assert brought(one, file, place, updater=two.update_hash)["inserted"] == 1
    assert sorted(one.get_df_between_dates()["price"]) == [1.0, 5.0, 6.0]
    assert (one.update_statistics.row_count, two.update_statistics.row_count) == (1, 2)


def test_a_table_that_is_deleted_takes_the_imports_progress_with_it(place: Workplace, tmp_path: Path) -> None:
    node = prices()
    run(node, daily({1: 1.0}))
    file = parquet(tmp_path / "x.parquet", daily({5: 5.0}))
    brought(node, file, place)
    remove_table(place.store, node.storage_hash)
    run(node, daily({2: 2.0}))
    assert str(node.table_statistics.max_time_index_value)[:10] == "2024-05-02"
    brought(node, file, place)
    assert node.table_statistics.row_count == 2
    assert verify(place.store).ok


def test_an_ordinary_table_takes_a_long_file_in_one_checkpoint_and_a_later_row_of_a_key_wins(
    store: Store, ambient: ManualAmbient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_pile, "PILE_BYTES", 1)
    monkeypatch.setattr("millstream.tables.file_rows.BATCH_ROWS", 2)
    options = TableOptions(unique_on=("n",))
    first = Rows(unique_on=("n",))
    first.append({"n": 0, "v": "stood"})
    commit_manually(store, [Write("t", first, [None], upsert=True, options=options)], ambient=ambient)
    file = RowFile(csv(tmp_path / "x.csv", "n,v,w", "1,a,", "2,b,", "1,c,", "3,d,late"))
    importer = TableImport(store, "t", ambient=ambient, from_text=True)
    told: list[int] = []
    for batch in file.batches():
        importer.take(batch)
    done = importer.commit(advance=told.append)
    assert (done["inserted"], sum(told)) == (3, 4)
    with store.read() as tx:
        _, rows = tx.rows.query("select n, v, w from t order by n", {})
    if rows:  # the memory store runs no SQL
        assert rows == [(0, "stood", None), (1, "c", None), (2, "b", None), (3, "d", "late")]
    assert verify(store).ok


def exported(store: Store, table: str, file: Path) -> Path:
    with store.read() as tx:
        version = active_version(tx, table)
        assert version is not None
        write_file(tx, version, file, advance=lambda _: None)
    return file


TEXTS: list[Any] = ["x", None, "", 'a ""quoted"", one', "two\nlines", '"', " ", None, ""]


def test_an_export_of_a_data_nodes_table_is_imported_with_every_value_as_it_was(
    place: Workplace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("millstream.tables.file_rows.BATCH_ROWS", 2)
    node = prices()
    numbers = {day: float(day) for day in range(1, len(TEXTS) + 1)} | {3: float("nan")}
    run(node, daily(numbers).assign(note=TEXTS))
    before = node.get_df_between_dates()
    file = exported(place.store, node.storage_hash, tmp_path / "x.csv")
    remove_table(place.store, node.storage_hash)
    run(node, daily({1: 1.0}).assign(note=None))
    brought(node, file, place)
    equal(node.get_df_between_dates(), before)
    assert node.get_df_between_dates()["note"].isna().sum() == 2


def test_an_export_of_an_ordinary_table_is_imported_with_every_value_as_it_was(
    store: Store, ambient: ManualAmbient, tmp_path: Path
) -> None:
    rows = Rows()
    for number, text in enumerate(TEXTS):
        rows.append({"n": number, "text": text, "raw": text.encode() if text is not None else None})
    commit_manually(store, [Write("one", rows, [None] * len(rows))], ambient=ambient)
    file = RowFile(exported(store, "one", tmp_path / "x.csv"))
    types = {"n": "Integer", "raw": "Binary"}
    importer = TableImport(store, "two", ambient=ambient, from_text=True, types=types)
    for batch in file.batches():
        importer.take(batch)
    importer.commit()
    with store.read() as tx:
        found = [list(read_rows(tx, version)) for t in ("one", "two") if (version := active_version(tx, t)) is not None]
    one, two = ([(row.fields["n"], row.fields["text"], row.fields["raw"]) for row in each] for each in found)
    assert one == two
