"""Who sent a webhook: one signature scheme a file, each a pure check of the raw bytes."""
