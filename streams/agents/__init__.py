"""An agent's loop: read a batch from a position, apply the function, commit."""
