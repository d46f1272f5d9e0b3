"""The example projects that `millstream init` writes, and the client that replays the flights."""
