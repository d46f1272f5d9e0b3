"""Takes a checkpoint at each record, and goes back once in every run: what was taken back is given again."""

from streams import Table

leads, rolled = Table("leads"), Table("rolled", "w")
stream = leads.as_stream()
gone_back = False
for lead in stream.consume_with_rollback():
    print("given")
    rolled.append({"n": lead["n"]})
    if not gone_back:
        gone_back = True
        stream.rollback()
