"""Stands before Dexmate's SDK where that is installed."""

raise ImportError("No module named 'dexcontrol'")
