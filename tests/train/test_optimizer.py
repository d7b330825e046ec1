"""The release's learning-rate rule: golden rates, hand-made values, accumulation."""

import json

import numpy as np
import pytest

from vtd_jax.train.groups import OptimizerConfig
from vtd_jax.train.optimizer import learning_rate

HAND = {"warmup_epochs": 1, "cosine_epochs": 3, "min_lr_factor": 0.1}


def _rule(lr, **fields):
    config = OptimizerConfig(lr, step_interval_epochs=1, step_factor=0.5, **fields)
    return learning_rate(config, steps_per_epoch=2)


@pytest.mark.shared
def test_golden_rates(shared_dir):
    cases = json.loads((shared_dir / "golden/lr_schedule.json").read_text())
    assert len(cases) == 2
    for case in cases:
        names = (
            "warmup_epochs",
            "cosine_epochs",
            "min_lr_factor",
            "step_interval_epochs",
            "step_factor",
        )
        config = OptimizerConfig(case["lr"], **{name: case[name] for name in names})
        rule = learning_rate(config, case["steps_per_epoch"])
        ours = [float(rule(u)) for u in range(len(case["lrs"]))]
        np.testing.assert_allclose(ours, case["lrs"], rtol=1e-6, atol=1e-12)


def test_hand_made_values():
    rule = _rule(2e-4, **HAND)
    # update 0 at 0; f(0) = 0, f(1) = lr/2 (warm-up over 2); cosine of 6 steps from step 2; then
    # 2e-5, halved every 2
    low, half = 2e-5, 0.5 * (2e-4 - 2e-5)
    expected = [
        0,
        0,
        1e-4,
        *(low + half * (1 + np.cos(np.pi * s / 6)) for s in (2, 3, 4, 5)),
        low,
        low,
        low / 2,
        low / 2,
        low / 4,
    ]
    np.testing.assert_allclose([float(rule(u)) for u in range(12)], expected, rtol=1e-6)


def test_accumulation_counts_micro_batches():
    plain = _rule(1.0, **HAND)
    windows = _rule(1.0, **HAND, gradient_accumulation_steps=3)
    # update u >= 1 runs at the rule of micro-batch 3u - 1, which a run without accumulation applies
    # at update 3u
    np.testing.assert_allclose(
        [float(windows(u)) for u in range(1, 5)], [float(plain(3 * u)) for u in range(1, 5)]
    )
    assert float(windows(0)) == 0


def test_no_warm_up_and_no_cosine():
    rule = _rule(1.0, warmup_epochs=0, cosine_epochs=0, min_lr_factor=0.5)
    np.testing.assert_allclose([float(rule(u)) for u in range(6)], [0, 0.5, 0.5, 0.25, 0.25, 0.125])
