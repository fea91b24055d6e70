"""It learns from pixels, and LayerNorm, demonstrations and the base policy each have their part."""

import numpy as np
import pytest

from resfit_rl.lamp_task.__main__ import run
from resfit_rl.lamp_task.task import LampTask, expert
from resfit_rl.lamp_task.training import VARIANTS, evaluate

SEEDS = [0, 1, 2]


def test_the_expert_succeeds_and_the_base_in_40_percent():
    task, pilot, successes = LampTask(), expert(), 0
    for seed in range(200):
        observation, over = task.reset(seed), False
        pilot.reset(seed)
        while not over:
            observation, over = task.step(pilot.predict_chunk(observation)[0])
        successes += task.success
    assert successes >= 190
    assert evaluate(None, 1000) == pytest.approx(0.4, abs=0.05)


def test_a_seed_repeats_its_episode():
    one, other = LampTask(), LampTask()
    for seed in (3, 4):
        images = [task.reset(seed).images["top"] for task in (one, other)]
        np.testing.assert_array_equal(*images)
    assert (one.reset(3).images["top"] != other.reset(5).images["top"]).any()


@pytest.mark.timeout(900)
def test_it_learns_and_each_part_matters():
    results = run(list(VARIANTS), SEEDS, processes=2)
    curves = {
        variant: [r.curve for r in sorted(results, key=lambda r: r.seed) if r.variant == variant]
        for variant in VARIANTS
    }
    # Every seed of the whole agent gets from about 40 % to over 90 % within the budget.
    for curve in curves["full"]:
        assert curve[0][1] < 0.5 and max(success for _, success in curve) > 0.9, curve
    # A policy that still learns wavers: the last three evaluations together, over all seeds.
    late = {
        variant: np.mean([success for curve in own for _, success in curve[-3:]])
        for variant, own in curves.items()
    }
    assert np.mean([curve[-1][1] for curve in curves["full"]]) > 0.9
    assert late["full"] > 0.8
    assert late["no_layer_norm"] < late["full"] - 0.03
    assert late["no_demonstrations"] < late["full"] - 0.15
    assert late["no_base_policy"] < late["full"] - 0.3
