"""The checkpoint: the one transaction, what it does to tables, and the versions it makes."""
