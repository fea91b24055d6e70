"""Watching the graph; nothing here is needed by it."""
