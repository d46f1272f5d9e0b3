"""pandas.to_sql: the first frame into a table with a key, the others through a second table and INSERT … ON CONFLICT.

Prints the seconds, and those of its own processor time, of each file, in the order given, as JSON.
"""

import json
import sys
import time

import pandas as pd
from sqlalchemy import create_engine, text

KEY = ("time_index", "unique_identifier")
CHUNK = 10_000


def main(url: str, *files: str) -> None:
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    frames = [pd.read_parquet(file) for file in files]
    columns = [name for name in frames[0].columns if name not in KEY]
    moment, number = ("timestamptz", "float8") if engine.dialect.name == "postgresql" else ("timestamp", "real")
    values = ", ".join(f"{name} {number}" for name in columns)
    with engine.begin() as connection:
        connection.execute(
            text(f"CREATE TABLE prices (time_index {moment}, unique_identifier text, {values}, PRIMARY KEY {_keys()})")
        )
    took_s = []
    for turn, frame in enumerate(frames):
        began_s, cpu_began_s = time.perf_counter(), time.process_time()
        with engine.begin() as connection:
            if not turn:
                frame.to_sql("prices", connection, index=False, if_exists="append", chunksize=CHUNK)
            else:
                frame.to_sql("staged", connection, index=False, if_exists="replace", chunksize=CHUNK)
                sets = ", ".join(f"{name} = excluded.{name}" for name in columns)
                connection.execute(
                    text(
                        f"INSERT INTO prices SELECT * FROM staged WHERE true ON CONFLICT {_keys()} DO UPDATE SET {sets}"
                    )
                )
        took_s.append((time.perf_counter() - began_s, time.process_time() - cpu_began_s))
    print(json.dumps(took_s))


def _keys() -> str:
    return f"({', '.join(KEY)})"


if __name__ == "__main__":
    main(*sys.argv[1:])
