"""How a table reaches the store: inside a program's run, or from outside in transactions of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Protocol

from streams.ambient import Ambient
from streams.checkpoint.tables import active_version
from streams.errors import Fenced, UsageError
from streams.model.run import RunStatus
from streams.model.table_version import VersionInfo
from streams.programs.program import ProgramRun
from streams.programs.program_spec import ProgramSpec
from streams.store import Store, Transaction

NAMES_MAX = 1000  # more writers at once than one name is given for


class Access(Protocol):
    """The one thing that a `Table` knows of where it is used."""

    @property
    def store(self) -> Store: ...

    @property
    def is_lasting(self) -> bool:
        """Whether every `writing` gives the same run."""
        ...

    def writing(self) -> AbstractContextManager[ProgramRun]: ...

    def reading(self) -> AbstractContextManager[Transaction]: ...

    def streaming(self, what: str) -> ProgramRun: ...

    def version(self, tx: Transaction, name: str) -> VersionInfo | None:
        """The version that the name means here."""
        ...


class RunAccess:
    """Inside a run: writes are pending until it commits, reads see them."""

    is_lasting = True

    def __init__(self, run: ProgramRun) -> None:
        self._run = run

    @property
    def store(self) -> Store:
        return self._run.store

    def writing(self) -> AbstractContextManager[ProgramRun]:
        return nullcontext(self._run)

    def reading(self) -> AbstractContextManager[Transaction]:
        return self._run.outputs.view()

    def streaming(self, what: str) -> ProgramRun:
        del what
        return self._run

    def version(self, tx: Transaction, name: str) -> VersionInfo | None:
        number = self._run.version_meant(name)
        return active_version(tx, name) if number is None else tx.tables.version(name, number)


class OutsideAccess:
    """Reads what is active, writes in transactions of its own under the agent's name."""

    is_lasting = False

    def __init__(self, store: Store, ambient: Ambient, agent: str) -> None:
        self.store = store
        self._ambient = ambient
        self._agent = agent
        self._turn = 0

    @contextmanager
    def writing(self) -> Iterator[ProgramRun]:
        """A run that commits when the block ends. Several may go on at once under one name; each commits."""
        spec = ProgramSpec(self._name, "", cut=False)
        run = ProgramRun(spec, self.store, self._ambient, worker=self._agent, replayed=False)
        run.begin()
        try:
            yield run
            self._finish(run)
        except BaseException as error:
            run.abandon(RunStatus.FAILED, str(error))
            raise

    def _finish(self, run: ProgramRun) -> None:
        """Commit; where another run of the name came in between, under a name that is this writer's from here on."""
        while True:
            try:
                run.finish()
            except Fenced:
                if self._turn > NAMES_MAX:
                    raise
                self._turn += 1
                run.claim_as(self._name)
            else:
                return

    @property
    def _name(self) -> str:
        return self._agent if not self._turn else f"{self._agent}.{self._turn + 1}"

    def reading(self) -> AbstractContextManager[Transaction]:
        return self.store.read()

    def streaming(self, what: str) -> ProgramRun:
        raise UsageError(
            f"{what} outside a node: there is nobody whose place in it could be kept",
            hint="read it whole with read() or read_dataframe(), or write a node",
        )

    def version(self, tx: Transaction, name: str) -> VersionInfo | None:
        return active_version(tx, name)
