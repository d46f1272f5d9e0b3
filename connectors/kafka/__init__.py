"""Kafka: source topics, their records read ahead and appended, and the groups that divide them among workers."""
