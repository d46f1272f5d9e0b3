"""Types, their lattice, and rows encoded as they are appended."""
