"""Pairs two streams, record by record."""

import streams
from streams import Table

leads, marks, paired = Table("leads"), Table("marks"), Table("paired", "w")
for lead, mark in streams.zip(leads.as_stream(), marks.as_stream()):
    print("given")
    paired.append({"n": lead["n"], "mark": mark["n"]})
