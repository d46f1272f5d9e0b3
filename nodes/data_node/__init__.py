"""DataNodes: time-indexed tables, each kept by a class with `update()`, its identity hashed from its configuration."""
