"""Which way of attention is taken, and what is refused."""

import jax.numpy as jnp
import pytest
from flax import nnx

from vtd_jax.clip.attention import cudnn
from vtd_jax.clip.attention.choice import chosen
from vtd_jax.clip.compute import Compute
from vtd_jax.clip.config import CLIPConfig
from vtd_jax.clip.model import CLIP
from vtd_jax.errors import UserError

AUTO, OR = "`memory.attention=auto`", ", or set `clip.dtype=bfloat16`"
BFLOAT16 = jnp.dtype(jnp.bfloat16)
TOWER = {"tokens": 198, "width": 768, "head_width": 64, "dtype": BFLOAT16}


@pytest.fixture(autouse=True)
def installed(monkeypatch):
    """As on a machine with cuDNN."""
    monkeypatch.setattr(cudnn, "is_installed", lambda: True)


def test_without_cudnn_a_gpu_takes_xlas(monkeypatch):
    monkeypatch.setattr(cudnn, "is_installed", lambda: False)
    assert chosen("auto", "gpu", **TOWER) == "xla"
    with pytest.raises(UserError, match=r"needs cuDNN, which JAX does not find here .*; use `mem"):
        chosen("cudnn", "gpu", **TOWER)


@pytest.mark.parametrize("device, changes, expected", [
    ("cpu", {}, "xla"),
    ("tpu", {}, "pallas"),
    ("gpu", {}, "cudnn"),
    # short rows
    ("tpu", {"tokens": 17}, "xla"),
    ("gpu", {"tokens": 17}, "xla"),
    # heads of H/14, and a width that has no whole tiles
    ("tpu", {"head_width": 80, "width": 1280}, "xla"),
    ("gpu", {"head_width": 80, "width": 1280}, "cudnn"),
    ("tpu", {"width": 192}, "xla"),
    ("gpu", {"dtype": jnp.dtype(jnp.float32)}, "xla"),
    ("tpu", {"dtype": jnp.dtype(jnp.float32)}, "pallas"),
    # L/14@336, and rows that no chip holds
    ("tpu", {"tokens": 577, "width": 1024, "dtype": jnp.dtype(jnp.float32)}, "pallas"),
    ("tpu", {"tokens": 1370, "width": 1024, "dtype": jnp.dtype(jnp.float32)}, "xla"),
    ("tpu", {"tokens": 2305}, "xla"),
    # what cuDNN does not take
    ("gpu", {"tokens": 197}, "xla"),
    ("gpu", {"context": True}, "xla"),
    ("tpu", {"context": True}, "pallas"),
])  # fmt: skip
def test_auto_takes_the_devices_own_where_it_accepts_the_tower(device, changes, expected):
    assert chosen("auto", device, **TOWER | changes) == expected


@pytest.mark.parametrize("changes", [{"tokens": 197}, {"context": True}])
def test_rows_that_cudnn_cannot_take_go_to_xla(changes):
    assert chosen("cudnn", "gpu", **TOWER) == "cudnn"
    assert chosen("cudnn", "gpu", **TOWER | changes) == "xla"


@pytest.mark.parametrize("device", ["cpu", "gpu", "tpu"])
def test_xla_is_taken_everywhere(device):
    assert chosen("xla", device, **TOWER) == "xla"


@pytest.mark.parametrize("asked, device, changes, message", [
    ("pallas", "cpu", {}, "needs a TPU, this is a cpu; use `memory.attention=auto`"),
    ("pallas", "gpu", {}, "needs a TPU, this is a gpu; use `memory.attention=auto`"),
    ("cudnn", "tpu", {}, "needs an NVIDIA GPU, this is a tpu; use `memory.attention=auto`"),
    (
        "pallas", "tpu", {"head_width": 80, "width": 1280},
        "does not take heads of 80 channels, expected a divisor of 128; use " + AUTO,
    ),
    (
        "pallas", "tpu", {"width": 192},
        "does not take a width of 192, expected a multiple of 128; use `memory.attention=auto`",
    ),
    (
        "pallas", "tpu", {"tokens": 2305},
        "does not take rows of 2305 tokens of 768 channels, which the chip's memory cannot hold; "
        "use " + AUTO,
    ),
    (
        "cudnn", "gpu", {"dtype": jnp.dtype(jnp.float32)},
        "does not take arrays of float32, expected bfloat16; use `memory.attention=auto`" + OR,
    ),
    (
        "cudnn", "gpu", {"head_width": 160, "width": 1280},
        "does not take heads of 160 channels, expected a multiple of 8 up to 128; use " + AUTO,
    ),
])  # fmt: skip
def test_what_a_device_cannot_do_is_refused_in_a_line(asked, device, changes, message):
    with pytest.raises(UserError) as found:
        chosen(asked, device, **TOWER | changes)
    assert str(found.value) == f"`memory.attention={asked}`: {message}"


@pytest.mark.parametrize("layers", ["list", "scan"])
@pytest.mark.parametrize("platform, asked, length, prompts, expected", [
    ("gpu", "auto", 40, 16, ("cudnn", "xla")),
    # prompts are a context of texts, and a text of odd length is none that cuDNN takes
    ("gpu", "cudnn", 40, 16, ("cudnn", "xla")),
    ("gpu", "cudnn", 40, 0, ("cudnn", "cudnn")),
    ("gpu", "cudnn", 39, 0, ("cudnn", "xla")),
    ("tpu", "auto", 40, 16, ("pallas", "xla")),
    ("tpu", "pallas", 40, 16, ("pallas", "pallas")),
    ("tpu", "auto", 77, 0, ("pallas", "pallas")),
    ("cpu", "auto", 77, 0, ("xla", "xla")),
])  # fmt: skip
def test_what_a_run_prints(layers, platform, asked, length, prompts, expected):
    config = CLIPConfig.vit_b16()
    clip = nnx.eval_shape(lambda: CLIP(config, dtype="bfloat16", layers=layers))
    compute = Compute(attention=asked, platform=platform, interpret=True)
    frames = clip.visual.attention_implementation(compute, prompts)
    assert (frames, clip.text.attention_implementation(compute, length, prompts)) == expected
    plain = Compute(plain=True, attention=asked, platform=platform)
    assert (
        clip.visual.attention_implementation(plain)
        == clip.text.attention_implementation(plain, 77)
        == "xla"
    )
