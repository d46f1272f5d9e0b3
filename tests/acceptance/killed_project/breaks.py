"""Leaves its loop early: what it was not given must come again."""

from streams import Table

leads, broken = Table("leads"), Table("broken", "w")
taken = 0
for lead in leads.as_stream():
    print("given")
    broken.append({"n": lead["n"]})
    taken += 1  # noqa: SIM113 - as users write it
    if taken == 4:
        break
