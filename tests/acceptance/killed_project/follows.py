"""Reads a table whose versions are swapped under it: each version whole, in order."""

from streams import Table

recent, followed = Table("recent"), Table("followed", "w")
for row in recent.as_stream():
    print("given")
    followed.append({"n": row["n"]})
