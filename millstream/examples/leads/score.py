"""Score each new lead. A run reads the leads that came since the last one, each exactly once."""

from streams import Table

leads, scores = Table("leads"), Table("scores", "w")

for lead in leads.as_stream():
    company = lead.get("company") or ""
    scores.append({"email": lead["email"], "score": 10 * bool(company) + len(lead["name"])})
