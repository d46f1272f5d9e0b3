"""Alembic's scripts for the system tables. They travel in the wheel; `connectors.sql.migrate` runs them at start-up."""
