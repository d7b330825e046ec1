"""Small models with seeded weights, for tests that need a CLIP but not a trained one."""

import importlib.util
import re
import zlib

import numpy as np

from vtd_jax.clip.config import CLIPConfig
from vtd_jax.clip.weights.tensor_names import tensor_shapes

SMALL = CLIPConfig(32, 32, 2, 64, 16, 64, text_layers=2)


def random_state(config: CLIPConfig, seed: int = 0) -> dict[str, np.ndarray]:
    """Seeded float32 tensors for every OpenAI name of `config`, scaled so that activations stay
    near 1.
    """
    state = {}
    for name, shape in tensor_shapes(config).items():
        x = np.random.default_rng([seed, zlib.crc32(name.encode())]).standard_normal(
            shape, dtype=np.float32
        )
        if name == "logit_scale":
            x = np.float32(np.log(100))
        elif "running_var" in name:
            x = 1 + 0.1 * np.abs(x)
        elif name.endswith("weight") and len(shape) == 1:
            x = 1 + 0.1 * x
        elif (
            name.endswith("bias") or len(shape) < 2 or "embedding" in name or "running_mean" in name
        ):
            x = 0.1 * x
        else:
            x = x / np.sqrt(np.prod(shape[1:]) if not name.endswith("proj") else shape[0])
        state[name] = np.asarray(x, np.float32)
    return state


def openai_order(state: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The tensors in the order in which OpenAI's class lists them: of a block attention before its
    norm.
    """
    parts, first = ("attn", "ln_1", "mlp", "ln_2"), {}

    def place(name: str) -> tuple[int, int]:
        block = re.match(r"(.*resblocks\.\d+)\.(\w+)\.", name)
        at = first.setdefault(block[1] if block else name, len(first))
        return at, parts.index(block[2]) if block else 0

    return {name: state[name] for name in sorted(state, key=place)}


def assert_same_state(found, expected):
    """The same names, float32 arrays, equal bit for bit."""
    assert set(found) == set(expected)
    for name, array in expected.items():
        assert found[name].dtype == np.float32
        np.testing.assert_array_equal(found[name], array, err_msg=name)


def served_example(folder):
    """The module that lies in a served folder."""
    spec = importlib.util.spec_from_file_location("predict", folder / "predict.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
