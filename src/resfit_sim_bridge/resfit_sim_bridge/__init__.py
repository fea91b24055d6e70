"""The driver of a simulated robot."""
