"""The webhook source: signed HTTP requests in, records on disk before the 2xx."""
