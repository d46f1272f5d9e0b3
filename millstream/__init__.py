"""The entry point: command line, service assembly and HTTP API."""
