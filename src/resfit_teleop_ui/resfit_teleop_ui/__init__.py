"""Labelers: they start episodes and say how each ended."""
