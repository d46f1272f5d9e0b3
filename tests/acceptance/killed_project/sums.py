"""Keeps a running sum in its state, with new types as it goes: state, rows and positions commit together."""

from streams import State, Table

leads, summed = Table("leads"), Table("summed", "w")
state = State()
total = state.get_value("total", 0)
for lead in leads.as_stream():
    print("given")
    total += lead["n"]
    summed.append({"n": lead["n"], "total": total, f"of_{lead['n'] // 6 * 6}": lead["n"] % 6})
    state.set_value("total", total)
