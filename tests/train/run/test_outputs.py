"""Only the first process of a run writes."""

import numpy as np

from vtd_jax.train.logging import Window
from vtd_jax.train.run.outputs import Outputs
from vtd_jax.train.run.plan import Plan
from vtd_jax.train.run.start import Start
from vtd_jax.train.trainer import TrainState


def test_a_process_without_checkpoints_writes_nothing(tmp_path, capfd):
    plan = Plan(1, 2, evaluate_epochs=1, checkpoint_epochs=1, checkpoint_steps=0, evaluated=True)
    start = Start(TrainState(0, {}, {}, np.zeros(2, np.uint32)))
    outputs = Outputs(tmp_path / "gone", None, start, plan, ("val",), (1, 2))
    outputs.line("a line")
    outputs.start_timing()
    outputs.before_step(1)
    outputs.step_begun(1)
    outputs.after_step(1, None)
    outputs.row(1, 1.0, Window(1, 4.0, 0.1, 0.5, 1.0, 1e-3, 0), 0.0)
    outputs.evaluation(1, 1.0, {"val_top1": 0.5}, None)
    outputs.save(1, {}, {}, {}, 0.5)
    outputs.add_metric(1, 0.5)
    outputs.wait()
    outputs.check(1)
    outputs.close()
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")
