"""When a run evaluates, saves and ends."""

import dataclasses

from vtd_jax.train.run.plan import Plan

# three micro-batches an epoch, six epochs
PLAN = Plan(3, 6, evaluate_epochs=2, checkpoint_epochs=0, checkpoint_steps=0, evaluated=True)


def _evaluated(plan):
    return [step for step in range(1, plan.total + 1) if plan.evaluates(step)]


def _saved(plan):
    return [step for step in range(1, plan.total + 1) if plan.saves(step)]


def test_evaluations_come_after_epochs_and_at_the_end():
    assert _evaluated(PLAN) == [6, 12, 18]
    assert _evaluated(dataclasses.replace(PLAN, evaluate_epochs=4)) == [12, 18]
    assert _evaluated(dataclasses.replace(PLAN, evaluate_epochs=0)) == [18]
    assert _evaluated(dataclasses.replace(PLAN, evaluated=False)) == []


def test_checkpoints_come_with_evaluations_after_epochs_and_after_steps():
    assert _saved(PLAN) == [6, 12, 18]
    assert _saved(dataclasses.replace(PLAN, evaluated=False)) == [18]
    by_epochs = dataclasses.replace(PLAN, evaluated=False, checkpoint_epochs=3)
    assert _saved(by_epochs) == [9, 18]
    assert _saved(dataclasses.replace(by_epochs, checkpoint_steps=7)) == [7, 9, 14, 18]


def test_epochs_that_are_left():
    assert list(PLAN.epochs_from(0)) == [0, 1, 2, 3, 4, 5]
    assert list(PLAN.epochs_from(14)) == [4, 5]
    assert list(PLAN.epochs_from(PLAN.total)) == []
