"""Cameras of the real robot."""
