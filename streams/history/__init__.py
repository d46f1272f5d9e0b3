"""What the ledger proves, explains and rebuilds."""
