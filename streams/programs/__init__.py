"""A program's run as a transaction."""
