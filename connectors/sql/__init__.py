"""What every SQL store shares: the system tables, their migrations, and one facet of a transaction a module."""
