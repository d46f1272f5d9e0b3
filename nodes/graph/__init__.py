"""The graph: what a project declares and opens, read from its text, and what is due."""
