"""The golden numbers: every quantity of every case, gradients and eight updates included."""

import json

import numpy as np
import pytest

from experiments.parity import golden as parity
from vtd_jax.errors import UserError

pytestmark = pytest.mark.slow

CASES = ("base_to_novel", "few_shot", "text_prompts_only", "zero_shot_names")
CASE = {
    "seed": 7, "layers": 2, "frames": 3, "batch": 2, "classes": ["pour", "shoot bow", "draw_sword"],
    "prompt_model": True, "zs_eval": False, "n_ctx_text": 6, "n_ctx_vision": 2, "depth_text": 9,
    "depth_vision": 1, "lr": 1e-3, "epochs": 2, "warmup": 1, "cos": 2, "interval": 1, "steps": 3,
}  # fmt: skip


def worst(golden, ours):
    """Largest error of each array, relative to the golden array's largest entry."""
    scale = max(float(np.abs(golden).max()), 1e-30)
    return float(np.abs(np.asarray(ours, np.float64) - golden).max()) / scale


@pytest.mark.shared
@pytest.mark.parametrize("name", CASES)
def test_golden_case(shared_dir, name):
    path = shared_dir / "golden" / f"{name}.npz"
    ours = parity.run_case(parity.read_case(path))
    with np.load(path) as golden:
        assert set(golden.files) == set(ours)
        for key in set(golden.files) - {"case"}:
            assert golden[key].shape == ours[key].shape, key
            if golden[key].dtype.kind in "iU":
                assert golden[key].tolist() == ours[key].tolist(), key
            elif not golden[key].any():
                assert not ours[key].any(), key
            else:
                # the margin is a small difference of large distances: float32 features leave it
                # 1e-5 of its size
                assert worst(golden[key], ours[key]) < (
                    3e-5 if key == "assignment_margin" else 1e-5
                ), key


def test_any_sizes_and_names_run():
    values = parity.run_case(CASE | {"name": "mine"})
    assert values["tokens"].shape == (3, 77)
    assert values["frame_features"].shape == (2, 3, 512)
    assert values["train_losses"].shape == (3,)
    # prompts are deeper than the tower has layers: one set a layer, as the authors' code makes them
    assert "grad_norm/text_encoder.transformer.resblocks.1.VPT_shallow" in values
    assert "grad_norm/text_encoder.transformer.resblocks.2.VPT_shallow" not in values
    assert all(np.isfinite(x).all() for x in values.values() if x.dtype.kind == "f")


def test_zero_shot_and_one_class():
    values = parity.run_case(
        CASE | {"name": "mine", "prompt_model": False, "zs_eval": True, "classes": ["pour"]}
    )
    assert values["logits"].shape == (2, 1)
    assert float(values["loss"]) == 0
    assert "train_losses" not in values


def test_seed_decides_every_weight():
    a, b = (parity.draw(seed, "visual.proj", (64, 512)) for seed in (1, 2))
    np.testing.assert_array_equal(a, parity.draw(1, "visual.proj", (64, 512)))
    assert not np.array_equal(a, b)
    # fan-in of `visual.proj` is its first axis, of `text_projection` its second
    assert a.std() == pytest.approx(1.2 / 8, rel=0.02)
    assert parity.draw(1, "text_projection", (64, 512)).std() == pytest.approx(
        1.2 / np.sqrt(512), rel=0.02
    )


@pytest.mark.parametrize(
    "change, message",
    [
        ({"seed": "x"}, "'seed' is 'x', expected a whole number from 0"),
        ({"classes": []}, "'classes' is [], expected 1 to"),
        ({"lr": None}, "'lr'"),
    ],
)
def test_bad_cases_name_the_field(tmp_path, change, message):
    path = tmp_path / "case.json"
    path.write_text(json.dumps(CASE | change))
    with pytest.raises(UserError) as caught:
        parity.read_case(path)
    assert message in str(caught.value)
    assert "case.json" in str(caught.value)


def test_bad_files_and_outputs(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        parity.read_case(tmp_path / "none.npz")
    (tmp_path / "bad.npz").write_bytes(b"not a zip")
    with pytest.raises(UserError, match=r"not a golden \.npz"):
        parity.read_case(tmp_path / "bad.npz")
    with pytest.raises(UserError, match=r"must end in \.npz"):
        parity.write_values(tmp_path / "out.txt", {})
    with pytest.raises(UserError, match="there is no folder"):
        parity.write_values(tmp_path / "no" / "out.npz", {})
