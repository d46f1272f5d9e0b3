"""Alembic's entry: run the revisions on the connection and in the transaction that the store hands over."""

from __future__ import annotations

from alembic import context

attributes = context.config.attributes
context.configure(
    connection=attributes["connection"],
    version_table=attributes["version_table"],
    transactional_ddl=False,
)
context.run_migrations()
