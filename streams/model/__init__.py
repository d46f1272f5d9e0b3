"""The values that everything is said in: records, places, versions, ledger entries, runs."""
