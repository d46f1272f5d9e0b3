"""How far each node is, and the JSON shapes in which that and the rest is said."""
