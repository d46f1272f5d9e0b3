"""Table: a dataset of the store as a node's code sees it, opened for reading or for writing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from streams.checkpoint.tables import active_version
from streams.errors import UsageError
from streams.model.record import Kind, Record
from streams.model.table_version import TableOptions, VersionInfo, VersionState
from streams.programs.program import ProgramRun
from streams.rows.schema import Schema, Type
from streams.store import Transaction
from streams.user.access import Access, OutsideAccess, RunAccess
from streams.user.current import current_scope
from streams.user.stream import Stream
from streams.user.table_reading import count_rows, quoted, read_frame, read_records, run_sql, stored_rows

if TYPE_CHECKING:
    import pandas as pd

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class TableVersion:
    """One version of a table. `is_active`: the table's name means it."""

    table: str
    version: int
    is_active: bool
    record_count: int
    created_at: datetime
    made_by: str
    schema: Schema


class Table:
    """A table by its port or name. `mode` "w" is needed to write; a table opened so can be read too.

    In a program's run, what is written is pending until the run commits; what is read is the version that was active
    when the run began, together with the run's own pending rows.
    """

    def __init__(self, name: str, mode: Literal["r", "w"] = "r") -> None:
        if mode not in ("r", "w"):
            raise UsageError(f'the mode of table {name!r} is {mode!r}; give "r" or "w"')
        scope = current_scope(f'Table("{name}")')
        dataset = scope.names.get((name, Kind.TABLE), name)
        if scope.run is not None:
            scope.run.pin(dataset)
            self._join(RunAccess(scope.run), name, dataset, mode)
        elif mode == "w":
            raise UsageError(
                f'Table("{name}", "w") beside @agent functions: what they write is what they return',
                hint="name the table as the output in @agent, or write a program in a file of its own",
            )
        else:
            self._join(OutsideAccess(scope.store, scope.ambient, ""), name, dataset, mode)

    @classmethod
    def of(cls, access: Access, name: str, *, mode: Literal["r", "w"] = "w") -> Table:
        """A table reached in another way than by the current run."""
        table = cls.__new__(cls)
        table._join(access, name, name, mode)
        return table

    def _join(self, access: Access, port: str, name: str, mode: str) -> None:
        self._access = access
        self._port = port
        self._name = name
        self._mode = mode
        self._add: Callable[[Row], None] | None = None  # set once it is known that rows may be written

    # What it is

    @property
    def name(self) -> str:
        """The table's name in the store."""
        return self._name

    @property
    def port_name(self) -> str:
        """What the program calls it."""
        return self._port

    @property
    def is_connected(self) -> bool:
        """Whether there is a table behind the name: it exists, or the graph connects the port to one."""
        with self._access.reading() as tx:
            return self._name != self._port or tx.tables.table(self._name) is not None

    @property
    def schema(self) -> Schema | None:
        """The columns of the version that the name means; None where it has none."""
        with self._access.reading() as tx:
            version = self._access.version(tx, self._name)
        return version.schema if version is not None else None

    @property
    def record_count(self) -> int:
        """How many rows it holds, those that this run has pending included."""
        with self._access.reading() as tx:
            version = self._access.version(tx, self._name)
            return count_rows(tx, version) if version is not None else 0

    @property
    def versions(self) -> list[TableVersion]:
        """Every version whose data is kept, oldest first."""
        with self._access.reading() as tx:
            return [self._shown(tx, v) for v in tx.tables.versions(self._name) if v.state is not VersionState.DROPPED]

    def get_active_version(self) -> TableVersion | None:
        """The version that readers see; None where there is none."""
        with self._access.reading() as tx:
            version = active_version(tx, self._name)
            return self._shown(tx, version) if version is not None else None

    def _shown(self, tx: Transaction, version: VersionInfo) -> TableVersion:
        return TableVersion(
            table=version.table,
            version=version.version,
            is_active=version.state is VersionState.ACTIVE,
            record_count=count_rows(tx, version),
            created_at=version.created_at,
            made_by=version.made_by,
            schema=version.schema,
        )

    def __str__(self) -> str:
        """The quoted SQL table of the version that the name means, for `read_sql`."""
        with self._access.reading() as tx:
            version = self._access.version(tx, self._name)
        return quoted(version.sql_name if version is not None else self._name)

    def __repr__(self) -> str:
        return f'Table("{self._port}", "{self._mode}")'

    # Reading

    def read(self) -> list[Record]:
        """All rows in order of writing, as records."""
        with self._access.reading() as tx:
            version = self._access.version(tx, self._name)
            return read_records(tx, version) if version is not None else []

    def read_dataframe(self) -> pd.DataFrame:
        """All rows in order of writing, as a frame; empty, without columns, where there is no table yet."""
        from streams.rows.frames import frame_of

        with self._access.reading() as tx:
            version = self._access.version(tx, self._name)
            return read_frame(tx, version) if version is not None else frame_of(Schema.empty(), [])

    def read_sql(
        self, sql: str, *, as_format: Literal["records", "dataframe"] = "records", **parameters: object
    ) -> Any:
        """The rows of a query: `{{ port }}` and `{{ Table("x") }}` mean tables, `:name` a parameter.

        A list of dicts, or a frame with `as_format="dataframe"`. Raises UsageError with the database's own words.
        """
        with self._access.reading() as tx:
            version = self._access.version(tx, self._name)
            known = {} if version is None else {self._port: version, self._name: version}
            names, rows = run_sql(tx, sql, parameters, known)
        if as_format == "dataframe":
            import pandas as pd

            return pd.DataFrame(rows, columns=pd.Index(names, dtype=object))
        return [dict(zip(names, row, strict=True)) for row in rows]

    def as_stream(
        self,
        *,
        order_by: str | None = None,
        starting_value: object = None,
        on_new_version: str = "read",
    ) -> Stream:
        """The rows that this node has not consumed yet, in the order written or by a field.

        `starting_value` is the offset, time or value of `order_by` at which a node begins that has never read the
        table. Raises UsageError outside a node's run.
        """
        run = self._access.streaming(f'Table("{self._port}").as_stream()')
        return Stream.of(
            run,
            (self._name, Kind.TABLE),
            order_by=order_by,
            starting_value=starting_value,
            on_new_version=on_new_version,
        )

    # Writing

    def init(
        self,
        schema: Mapping[str, str | Type] | None = None,
        schema_hints: Mapping[str, str | Type] | None = None,
        unique_on: str | Sequence[str] | None = None,
        *,
        time_index: str | None = None,
        lateness_s: float = 0.0,
        retention_days: float = 7.0,
    ) -> None:
        """Say what the table shall be, before writing to it.

        `schema` declares fields by type (`"Integer NotNull"`): rows that do not fit are refused. `schema_hints` does so
        for some fields of a table whose others are inferred. Raises UsageError for another key than the table has.
        """
        declared = {**(schema or {}), **(schema_hints or {})}
        keys = (unique_on,) if isinstance(unique_on, str) else tuple(unique_on or ())
        options = TableOptions(
            unique_on=keys,
            time_index=time_index,
            lateness_s=lateness_s,
            retention_days=retention_days,
            declared=Schema.declared(declared) if declared else None,
        )
        with self._writing("init") as run:
            run.outputs.set_options(self._name, options)

    def append(self, records: Any) -> None:
        """Add rows: one mapping or model, an iterable of them, or a frame. Raises RowRejected at the row at fault."""
        if self._add is not None and isinstance(records, dict):
            self._add(records)
            return
        with self._writing("append") as run:
            pending = run.outputs.table(self._name)
            self._add = pending.append if self._access.is_lasting else None
            if isinstance(records, dict):
                pending.append(records)
            elif _is_frame(records):
                pending.append_frame(records, upserting=False)
            else:
                for row in _rows(records):
                    pending.append(row)

    def upsert(self, records: Any) -> None:
        """Add rows, or change those of the same key: absent fields keep, a null erases.

        Raises AssertionError where the table has no unique key, RowRejected at the row at fault.
        """
        with self._writing("upsert") as run:
            pending = run.outputs.table(self._name)
            if _is_frame(records):
                pending.append_frame(records, upserting=True)
            else:
                for row in _rows(records):
                    pending.upsert(row)

    def write(self, records: Any, replace: bool = False) -> None:
        """`append`, or `replace`."""
        if replace:
            self.replace(records)
        else:
            self.append(records)

    def replace(self, records: Any) -> None:
        """A new version that holds these rows and no others, active when the run succeeds."""
        with self._writing("replace") as run:
            run.outputs.begin_version(self._name)
            Table.of(RunAccess(run), self._name).append(records)

    def reset(self) -> None:
        """Begin a new version, empty, active when the run succeeds. The old one is kept for its retention."""
        with self._writing("reset") as run:
            run.outputs.begin_version(self._name)

    def create_new_version(self) -> TableVersion | None:
        """`reset`, and the version that was begun; None where the table has none yet and the first is being written."""
        with self._writing("create_new_version") as run:
            version = run.outputs.begin_version(self._name)
        if version is None:
            return None
        with self._access.reading() as tx:
            return self._shown(tx, version)

    def set_active_version(self, version: int | TableVersion) -> None:
        """Make the table hold what an older version holds, as a new version, active when the run succeeds."""
        number = version.version if isinstance(version, TableVersion) else version
        with self._writing("set_active_version") as run, run.store.read() as tx:
            old = tx.tables.version(self._name, number)
            if old is None or old.state is VersionState.DROPPED:
                raise UsageError(
                    f"version {number} of table {self._name!r} does not exist",
                    hint=f"`millstream tables versions {self._name}` lists those that do",
                )
            if old.state is VersionState.ACTIVE:
                return
            run.outputs.begin_version(self._name, schema=old.schema)
            pending = run.outputs.table(self._name)
            for _, rows in stored_rows(tx, old):
                pending.copy(rows)

    def truncate(self) -> None:
        """Take all rows away, those this run has pending included; what follows is added to the empty table."""
        with self._writing("truncate") as run:
            run.outputs.table(self._name).truncate()

    def flush(self) -> None:
        """Nothing is left to do for the run to read its own rows: every read shows what is pending."""
        with self._writing("flush") as run:
            run.outputs.table(self._name)

    def _writing(self, method: str) -> AbstractContextManager[ProgramRun]:
        if self._mode != "w":
            raise UsageError(
                f"{method}() on table {self._port!r}, which is opened for reading",
                hint=f'open it with Table("{self._port}", "w")',
            )
        return self._access.writing()


def _is_frame(records: object) -> bool:
    return type(records).__module__.partition(".")[0] == "pandas" and hasattr(records, "columns")


def _rows(records: Any) -> Iterable[Row]:
    if isinstance(records, Mapping) or hasattr(records, "model_dump") or hasattr(records, "__dataclass_fields__"):
        return (records,)
    if isinstance(records, str | bytes) or not isinstance(records, Iterable):
        raise UsageError(
            f"a table was given a {type(records).__name__}",
            hint="give a dict, a list of dicts, a generator of them, or a DataFrame",
        )
    return records
