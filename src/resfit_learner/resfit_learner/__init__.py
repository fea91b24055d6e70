"""Nodes that store episodes and learn from them."""
