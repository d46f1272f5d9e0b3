"""Who runs what: leases, their holders, and the task that keeps them."""
