"""The parity command: reads the case string only, writes our values, reports bad input."""

import json

import numpy as np
import pytest

from support import warm

pytestmark = pytest.mark.command

CASE = {
    "name": "mine", "seed": 3, "layers": 1, "frames": 2, "batch": 2,
    "classes": ["pour", "shoot_bow"], "prompt_model": True, "zs_eval": False, "n_ctx_text": 2,
    "n_ctx_vision": 1, "depth_text": 1, "depth_vision": 1, "lr": 1e-3, "epochs": 2, "warmup": 1,
    "cos": 2, "interval": 1, "steps": 2,
}  # fmt: skip


def _run(*arguments):
    return warm.run(["-m", "experiments.parity", *arguments])


def test_only_the_case_string_is_read(tmp_path):
    # other arrays of the input are wrong on purpose
    np.savez(
        tmp_path / "in.npz",
        case=json.dumps(CASE),
        tokens=np.zeros((2, 77), np.int32),
        logits=np.zeros((9, 9)),
    )
    out = tmp_path / "out.npz"
    done = _run(f"--case={tmp_path / 'in.npz'}", f"--out={out}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith(f"wrote {out}: ")
    with np.load(out) as values:
        assert json.loads(str(values["case"])) == CASE
        assert values["tokens"].max() == 49407
        assert values["logits"].shape == (2, 2)
        assert values["train_losses"].shape == (2,)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.npz", "out.npz"]


def test_bad_input_is_one_line(tmp_path):
    (tmp_path / "case.json").write_text(json.dumps(CASE | {"seed": None}))
    for arguments, message in (
        ((f"--case={tmp_path / 'none.npz'}", f"--out={tmp_path / 'out.npz'}"), "no such file"),
        (
            (f"--case={tmp_path / 'case.json'}", f"--out={tmp_path / 'out.npz'}"),
            "'seed' is None, expected a whole number",
        ),
        ((f"--out={tmp_path / 'out.npz'}",), "--case"),
    ):
        done = _run(*arguments)
        assert done.returncode == 2
        assert len(done.stderr.strip().splitlines()) == 1, done.stderr
        assert message in done.stderr
    assert not (tmp_path / "out.npz").exists()
