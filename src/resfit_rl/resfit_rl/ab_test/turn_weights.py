"""Weights of the policy whose turn it is, under a name that does not tell which one it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from resfit_rl.ab_test.blind_test import Policy, Turn
from resfit_rl.agent import AgentConfig, AgentSpec, Normaliser, ResidualPolicy, load_policy
from resfit_rl.learning.publication import Publication, publish
from resfit_rl.tasks import Task


def turn_version(turn: Turn) -> int:
    """Version of a turn's weights: it counts turns."""
    return 2 * turn.number - (turn.which == "first")


class TurnWeights:
    """Files that a running graph's policy node can take over, one for each turn.

    The base policy alone is a residual of exactly 0 on top of it, so that the node does the same
    work, and says the same, whichever of the two acts.

    Args:
        folder: of the files.
        base_policy: identity of the base policy below both.
        residuals: weights file of each policy, None for the base policy alone.
        config: of the residual that is 0.

    Raises:
        PolicyFileError: a file that is not one of this task, spec and base policy.
    """

    def __init__(
        self,
        folder: Path,
        task: Task,
        spec: AgentSpec,
        base_policy: str,
        residuals: Mapping[Policy, str | None],
        config: AgentConfig,
    ) -> None:
        self._folder, self._task, self._base_policy = folder, task, base_policy
        self._policies: dict[Policy, ResidualPolicy] = {}
        for policy, file in residuals.items():
            if file is None:
                alone = replace(
                    config, algorithm="residual_td3", base_policy=True, zero_init_residual=True
                )
                normaliser = Normaliser.from_spec(spec)
                self._policies[policy] = ResidualPolicy.initial(alone, spec, normaliser)
            else:
                self._policies[policy], _ = load_policy(
                    file,
                    task.name,
                    spec,
                    expected_implementation=task.implementation,
                    expected_base_policy=base_policy,
                )

    def publish(self, turn: Turn, policy: Policy) -> Publication:
        """Write the file of a turn.

        Raises:
            OSError: it could not be written.
        """
        return publish(
            self._folder,
            turn_version(turn),
            self._policies[policy],
            self._task,
            self._base_policy,
        )
