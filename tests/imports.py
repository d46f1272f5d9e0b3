"""Files, and how tests bring them into a DataNode's table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from millstream.status.shapes import WrittenShape
from millstream.tables.data_node_import import DataNodeImport
from millstream.tables.file_rows import RowFile
from nodes.data_node.catalogue import Catalogue
from nodes.data_node.workplace import Workplace
from tests.data_nodes import Config, Prices, giving


def run(node: Prices, frame: pd.DataFrame) -> None:
    """One run in which `update()` returns the frame."""
    assert isinstance(node.config, Config)
    with giving(**{node.config.part or node.config.name: frame}):
        node.run()


def brought(node: Prices, file: Path, place: Workplace, **options: Any) -> WrittenShape:
    """A file brought into the node's table."""
    with place.store.read() as tx:
        table = Catalogue(tx).table(node.storage_hash)
    assert table is not None
    rows = RowFile(file)
    importer = DataNodeImport(place.store, table, rows, ambient=place.ambient, **options)
    for batch in rows.batches():
        importer.take(batch)
    return importer.commit()


def parquet(file: Path, frame: pd.DataFrame, **options: Any) -> Path:
    frame.reset_index().to_parquet(file, **options)
    return file


def csv(file: Path, *lines: str) -> Path:
    file.write_text("".join(f"{line}\n" for line in lines))
    return file
