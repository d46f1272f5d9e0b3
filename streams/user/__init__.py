"""What a user imports, and how it finds the run that it is in."""
