"""Python nodes: their processes, and how the user's code runs in them."""
