"""What the outside of a store, a log and a sender look like to the engine: one folder each."""
