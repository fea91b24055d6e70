"""Many training runs from one table, and what they say together."""
