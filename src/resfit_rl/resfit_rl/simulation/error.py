"""The error of all simulators."""


class SimulationError(Exception):
    """The simulation cannot be made or cannot step; names the thing, the expected and the found."""
