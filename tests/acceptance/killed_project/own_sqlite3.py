"""Opens the store beside Millstream, with what Python calls sqlite3, and closes it again."""

import os
import sqlite3
from contextlib import closing

from streams import Table

leads, counted = Table("leads"), Table("counted", "w")
path = os.environ.get("STORE_FILE")
for lead in leads.as_stream():
    print("given")
    if path is not None:
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute("select count(*) from leads").fetchone()[0] > lead["n"]
    counted.append({"n": lead["n"]})
