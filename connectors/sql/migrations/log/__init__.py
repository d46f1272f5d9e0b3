"""Revisions of the log's tables, one a module. A released revision is never edited."""
