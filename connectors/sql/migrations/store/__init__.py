"""Revisions of the store's system tables, one a module. A released revision is never edited."""
