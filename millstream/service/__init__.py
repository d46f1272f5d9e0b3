"""The supervision tree, the listener, several workers, a second service that stands by."""
