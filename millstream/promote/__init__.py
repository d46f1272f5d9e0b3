"""Moving a project to another store and log while it is stopped: between any two that keep the protocols."""
