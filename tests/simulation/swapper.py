"""A node owned whole that begins its table anew again and again: a new version each time, by one checkpoint."""

from __future__ import annotations

from collections.abc import Callable

from streams.ambient import Ambient
from streams.checkpoint.checkpoint import Checkpoint, commit
from streams.checkpoint.effect import Activation, Write
from streams.checkpoint.tables import begin_version, ensure_active
from streams.errors import Fenced, TransientError
from streams.model.position import Build
from streams.model.table_version import TableOptions
from streams.rows.rows import Rows
from streams.store import Store
from streams.wait import Task, Wait


class Swapper:
    """Gives `table` a new version every few seconds, until there are enough.

    Each begins with a row that says which checkpoint made it.
    """

    def __init__(self, name: str, table: str, store: Store, ambient: Ambient, *, enough: Callable[[], bool]) -> None:
        self._build = Build(name)
        self._table = table
        self._store = store
        self._ambient = ambient
        self._enough = enough
        self._epoch: int | None = None

    def run(self) -> Task[None]:
        while True:
            yield Wait(0.5 + 3.0 * self._ambient.random())
            if self._enough():
                continue
            try:
                self._swap()
            except TransientError:
                continue

    def _swap(self) -> None:
        with self._store.write() as tx:
            tx.agents.make_build(self._build, live=True, writes=(self._table,))
            owner = tx.agents.owner(self._build)
            if self._epoch is None:
                owner = tx.agents.claim(self._build)
        assert owner is not None
        if self._epoch is not None and owner.epoch != self._epoch:
            raise Fenced(f"{self._build} was taken over", hint="another worker runs it now")
        self._epoch = owner.epoch
        table, _ = ensure_active(
            self._store, self._table, TableOptions(), made_by=self._build.agent, ambient=self._ambient
        )
        version = begin_version(self._store, table, made_by=self._build.agent, ambient=self._ambient)
        rows = Rows()
        rows.append({"swap": owner.checkpoint_number})
        checkpoint = Checkpoint(
            build=self._build,
            epoch=owner.epoch,
            code_hash="code",
            run_id="",
            started_at=self._ambient.now(),
            checkpoint_number=owner.checkpoint_number,
            effects=(
                Write(self._table, rows, [None], version=version.version),
                Activation(self._table, version.version),
            ),
        )
        commit(self._store, checkpoint, ambient=self._ambient)
