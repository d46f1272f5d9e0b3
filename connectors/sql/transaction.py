"""One database transaction as the engine sees it: a facet for each kind of row, over one session."""

from __future__ import annotations

from connectors.sql.agents import SqlAgents
from connectors.sql.dead_letters import SqlDeadLetters
from connectors.sql.leases import SqlLeases
from connectors.sql.ledger import SqlLedger
from connectors.sql.meta import SqlMeta
from connectors.sql.runs import SqlRuns
from connectors.sql.seen_ids import SqlSeenIds
from connectors.sql.session import Session
from connectors.sql.states import SqlStates
from connectors.sql.tables import SqlTables, VersionDDL
from streams.store import Rows


class SqlTransaction:
    """The protocol `streams.store.Transaction`; rows and DDL are the backend's own."""

    def __init__(self, session: Session, *, rows: Rows, ddl: VersionDDL) -> None:
        self.session = session
        self.rows: Rows = rows
        self.agents = SqlAgents(session)
        self.tables = SqlTables(session, ddl=ddl)
        self.ledger = SqlLedger(session)
        self.dead_letters = SqlDeadLetters(session)
        self.states = SqlStates(session)
        self.seen = SqlSeenIds(session)
        self.runs = SqlRuns(session)
        self.leases = SqlLeases(session)
        self.meta = SqlMeta(session)
