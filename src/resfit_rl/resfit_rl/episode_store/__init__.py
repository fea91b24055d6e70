"""Episodes in memory and on disk."""
