"""What a user writes: programs, agents and the graph they form."""
