"""The HTTP API: one module a group of routes, listed in `millstream.api.routes`."""
