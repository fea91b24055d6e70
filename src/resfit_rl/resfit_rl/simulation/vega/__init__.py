"""A twin of Dexmate's Vega in MuJoCo, and its tasks' scenes."""

from resfit_rl.simulation.vega.twin import VegaTwin

__all__ = ["VegaTwin"]
