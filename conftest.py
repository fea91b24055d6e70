"""Of all tests."""

from hypothesis import settings

# Tests check what is computed; how fast, on a machine that others use too, is bench's to measure.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
