"""Parts for tests: a store in memory that keeps every promise of the protocol, for as long as the process lives."""
