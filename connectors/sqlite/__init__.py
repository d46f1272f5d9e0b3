"""The embedded store: two SQLite files, one for tables and positions, one for source topics."""
