"""The store in memory: the ledger, dead letters and runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime

from streams.model.dead_letter import DeadLetter, DeadLetterState
from streams.model.ledger import LedgerEntry
from streams.model.position import Build
from streams.model.run import Run, RunLogLine, RunStatus
from streams.testing.memory_pages import Pages


class MemoryLedger:
    """`streams.store.Ledger` in memory."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages

    def append(self, entry: LedgerEntry) -> int:
        counters = self._pages.change("counters")
        entry_id: int = counters.get("ledger", 0) + 1
        counters["ledger"] = entry_id
        self._pages.change("ledger")[entry_id] = replace(entry, entry_id=entry_id)
        return entry_id

    def entries(self, build: Build | None = None) -> Iterator[LedgerEntry]:
        page = self._pages.look("ledger")
        return iter([page[entry_id] for entry_id in sorted(page) if build is None or page[entry_id].build == build])

    def writing(self, table: str, version: int, partition: int, offset: int) -> LedgerEntry | None:
        place = (table, version, partition)
        for entry in self.entries():
            for output in entry.outputs:
                held = output.first_offset <= offset < output.end_offset
                if held and (output.table, output.version, output.partition) == place:
                    return entry
        return None

    def writers(self, table: str) -> list[str]:
        return sorted(
            {
                entry.build.agent
                for entry in self._pages.look("ledger").values()
                if any(output.table == table for output in entry.outputs)
            }
        )

    def merge(self, entries: Sequence[LedgerEntry], merged: LedgerEntry) -> bool:
        first, last = entries[0].entry_id, entries[-1].entry_id
        if [each for each in self.entries(entries[0].build) if first <= each.entry_id <= last] != list(entries):
            return False
        page = self._pages.change("ledger")
        for entry in entries:
            del page[entry.entry_id]
        page[last] = replace(merged, entry_id=last)
        return True


class MemoryDeadLetters:
    """`streams.store.DeadLetters` in memory."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages

    def insert(self, letters: Iterable[DeadLetter]) -> None:
        page = self._pages.change("dead_letters")
        for letter in letters:
            page[letter.letter_id] = letter

    def get(self, letter_id: str) -> DeadLetter | None:
        letter: DeadLetter | None = self._pages.look("dead_letters").get(letter_id)
        return letter

    def all(self, *, agent: str | None = None, state: DeadLetterState | None = None) -> list[DeadLetter]:
        return [
            letter
            for letter in self._pages.look("dead_letters").values()
            if agent in (None, letter.build.agent) and state in (None, letter.state)
        ]

    def count(self, agent: str | None = None) -> int:
        return len(self.all(agent=agent, state=DeadLetterState.OPEN))

    def settle(self, letter_id: str, *, old: DeadLetterState, new: DeadLetterState) -> bool:
        letter = self.get(letter_id)
        if letter is None or letter.state is not old:
            return False
        self._pages.change("dead_letters")[letter_id] = replace(letter, state=new)
        return True


class MemoryRuns:
    """`streams.store.Runs` in memory."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages

    def save(self, run: Run) -> None:
        self._pages.change("runs")[run.run_id] = run

    def get(self, run_id: str) -> Run | None:
        run: Run | None = self._pages.look("runs").get(run_id)
        return run

    def last(self, node: str | None = None, *, limit: int = 20) -> list[Run]:
        runs = [run for run in self._pages.look("runs").values() if node in (None, run.node)]
        return sorted(runs, key=lambda run: (run.started_at, run.run_id), reverse=True)[:limit]

    def unfinished(self) -> list[Run]:
        return [run for run in self._pages.look("runs").values() if run.status is RunStatus.RUNNING]

    def log(self, lines: Sequence[RunLogLine]) -> None:
        for line in lines:
            self._pages.change("run_lines", line.run_id)[line.number] = line

    def lines(self, run_id: str, *, after: int = -1) -> list[RunLogLine]:
        page = self._pages.look("run_lines", run_id)
        return [page[number] for number in sorted(page) if number > after]

    def forget(self, before: datetime) -> int:
        runs = self._pages.change("runs")
        old = [run.run_id for run in runs.values() if run.finished_at is not None and run.finished_at < before]
        for run_id in old:
            del runs[run_id]
            self._pages.change("run_lines", run_id).clear()
        return len(old)
