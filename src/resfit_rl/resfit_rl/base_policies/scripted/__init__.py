"""Experts that act by the objects' true poses; they stand in for a person's demonstrations."""

from resfit_rl.base_policies.scripted.expert import ScriptedExpert

__all__ = ["ScriptedExpert"]
