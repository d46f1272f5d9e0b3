"""dlt: a pipeline that merges each file by its key, in the format that its destination loads fastest.

Prints the seconds, and those of its own processor time, of each file, in the order given, as JSON.
"""

import json
import os
import sys
import tempfile
import time

os.environ["RUNTIME__DLTHUB_TELEMETRY"] = "false"
os.environ["RUNTIME__LOG_LEVEL"] = "CRITICAL"

import dlt
import pyarrow.parquet as pq

KEY = ("time_index", "unique_identifier")


def main(url: str, *files: str) -> None:
    is_sqlite = url.startswith("sqlite")
    destination = dlt.destinations.sqlalchemy(url) if is_sqlite else dlt.destinations.postgres(url)
    tables = [pq.read_table(file) for file in files]
    took_s = []
    with tempfile.TemporaryDirectory() as folder:
        pipeline = dlt.pipeline("bench", destination=destination, dataset_name="bench", pipelines_dir=folder)
        for table in tables:
            began_s, cpu_began_s = time.perf_counter(), time.process_time()
            info = pipeline.run(
                table,
                table_name="prices",
                write_disposition={"disposition": "merge", "strategy": "delete-insert" if is_sqlite else "upsert"},
                primary_key=list(KEY),
                loader_file_format="parquet" if is_sqlite else "csv",
            )
            info.raise_on_failed_jobs()
            took_s.append((time.perf_counter() - began_s, time.process_time() - cpu_began_s))
    print(json.dumps(took_s))


if __name__ == "__main__":
    main(*sys.argv[1:])
