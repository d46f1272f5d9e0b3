"""Peak memory of a program that reads a table from end to end, in a process of its own: `python -m bench.memory`."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from bench.figure import Figure, Scale
from bench.peak import own_peak_mb
from bench.programs import BY_FRAME, BY_RECORD, project, run_to_end
from bench.stores import embedded_store, fill_table
from streams.backends import open_store

AIM_MB = 300
FORMS = (("by_record", "a record at a time", BY_RECORD), ("by_frame", "by frame", BY_FRAME))


def peak(scale: Scale) -> Iterator[Figure]:
    """One figure for each number of records and form."""
    for count in scale.memory_records:
        with project(**{name: text.format(output=name) for name, _, text in FORMS}) as folder:
            with embedded_store(folder) as store:
                fill_table(store, "events", count)
            for name, title, _ in FORMS:
                megabytes = _measured(folder, name, count)
                yield Figure(
                    f"memory_{name}_{count}", f"peak memory, {count:,} records, {title}", megabytes, "MB", aim=AIM_MB
                )


def _measured(folder: Path, name: str, count: int) -> float:
    words = [str(folder), f"{name}.py", str(count)]
    said = subprocess.run([sys.executable, "-m", "bench.memory", *words], check=True, capture_output=True, text=True)
    return float(said.stdout)


def main(folder: Path, node_file: str, count: int) -> None:
    """Print the process's peak in MB."""
    store = open_store(f"sqlite:///{folder / '.millstream' / 'store.db'}")
    taken = run_to_end(store, folder, node_file)
    store.close()
    if taken != count:
        raise RuntimeError(f"{taken} records were taken of {count}")
    print(own_peak_mb())


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
