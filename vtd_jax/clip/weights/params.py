"""Values between OpenAI's tensors and the Flax modules, and what of them is checked on the way."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Float

from vtd_jax.clip.config import CLIPConfig
from vtd_jax.clip.layers import Frozen
from vtd_jax.clip.model import CLIP
from vtd_jax.clip.weights.tensor_names import tensor_shapes, tensors
from vtd_jax.errors import UserError
from vtd_jax.printable import listed

# a scale of 1100: a larger value is the scale itself, which CLIPs begin at 14
MOST_LOGIT_SCALE = 7.0
# cosines times less than 5e-5 are the same in a softmax; and SigLIP's bias is about -17
LEAST_LOGIT_SCALE, MOST_LOGIT_BIAS = -10.0, 1000.0
# its exp overflows float32 from here on
LOGIT_SCALE_OVERFLOW = 88.0


def clip_from_state(
    config: CLIPConfig,
    state: Mapping[str, np.ndarray],
    *,
    dtype: str = "float32",
    layers: str = "auto",
) -> CLIP:
    """A CLIP filled from OpenAI-named tensors.

    Args:
      config: the sizes.
      state: every name of `tensor_shapes(config)` with an array of that shape, any float dtype;
        kept as float32.
      dtype: compute dtype of the towers, "float32" or "bfloat16".
      layers: how blocks are laid out, "auto", "list" or "scan", see `stack.layout`.

    Raises:
      UserError: missing, surplus or misshapen tensors, by name.
    """
    check_state(config, state)
    # shapes only: zeros would be allocated just to be replaced
    clip = nnx.eval_shape(lambda: CLIP(config, dtype=dtype, layers=layers))
    fill_clip(clip, state)
    return clip


def fill_clip(clip: CLIP, state: Mapping[str, np.ndarray]) -> None:
    """Puts OpenAI-named tensors, of the names and shapes that `check_state` asks for, into a CLIP,
    in place.
    """
    stacks: dict[tuple[str | int, ...], list[np.ndarray]] = {}
    for tensor in tensors(clip.config):
        array = _to_flax(np.asarray(state[tensor.name]).astype(np.float32, copy=False), tensor.kind)
        variable, layer = _variable(clip, tensor.path)
        if layer is None:
            variable.set_value(jnp.asarray(array))
            continue
        path = tuple(part for part in tensor.path if not isinstance(part, int))
        stacks.setdefault(path, []).append(array)
        if len(stacks[path]) == variable.shape[0]:
            variable.set_value(jnp.asarray(np.stack(stacks.pop(path))))


def state_from_clip(clip: CLIP) -> dict[str, np.ndarray]:
    """The inverse of `clip_from_state`: float32 arrays by OpenAI's names in PyTorch's layouts."""
    state = {}
    for tensor in tensors(clip.config):
        variable, layer = _variable(clip, tensor.path)
        array = np.asarray(variable[...] if layer is None else variable[layer])
        state[tensor.name] = _to_torch(array, tensor.kind, tensor.shape)
    return state


def check_state(
    config: CLIPConfig, state: Mapping[str, np.ndarray], where: str = "checkpoint"
) -> None:
    """Raises a `UserError` that names tensors that are missing, surplus or of another shape."""
    check_shapes(config, {name: np.shape(array) for name, array in state.items()}, where)


def check_shapes(config: CLIPConfig, found: Mapping[str, tuple[int, ...]], where: str) -> None:
    """`check_state` before any tensor is read, by shapes alone."""
    shapes = tensor_shapes(config)
    wrong = [
        f"{name} is {tuple(found[name])}, expected {shape}"
        for name, shape in shapes.items()
        if name in found and tuple(found[name]) != shape
    ]
    problems = {
        "missing": [name for name in shapes if name not in found],
        "surplus": [name for name in found if name not in shapes],
        "misshapen": wrong,
    }
    if any(problems.values()):
        lists = "; ".join(f"{kind}: {listed(names)}" for kind, names in problems.items() if names)
        raise UserError(f"{where}: not the tensors of a CLIP {config.architecture}; {lists}")


def check_logit_scale(
    value: Float[np.ndarray, ""], where: str, most: float = MOST_LOGIT_SCALE
) -> None:
    """Raises a `UserError` for a logit scale that is the scale itself, or of no use: one that makes
    scores overflow, or all alike.
    """
    if value < LEAST_LOGIT_SCALE:
        raise UserError(
            f"{where}: tensor logit_scale is {value:g}, expected the logarithm of the scale, in "
            "CLIPs about ln 100 = 4.6: its exp multiplies scores, which would all be the same"
        )
    if value > most:
        with np.errstate(over="ignore"):
            scale = np.exp(np.float32(value))
        raise UserError(
            f"{where}: tensor logit_scale is {value:g}, expected the logarithm of the scale, in "
            f"CLIPs at most ln 100 = 4.6: its exp, {scale:.2g}, multiplies scores; where "
            f"{value:g} is the scale itself, store its logarithm"
        )


def check_logit_bias(value: Float[np.ndarray, ""], where: str) -> None:
    """Raises a `UserError` for a bias that no sigmoid of a cosine can undo."""
    if abs(value) > MOST_LOGIT_BIAS:
        raise UserError(
            f"{where}: tensor logit_bias is {value:g}, expected within ±{MOST_LOGIT_BIAS:g}, in "
            "SigLIPs about -17"
        )


def _variable(clip: CLIP, path: tuple[str | int, ...]) -> tuple[Frozen, int | None]:
    """A variable, and the layer of it that is meant where blocks are stacked."""
    node: Any = clip
    layer = None
    for part in path:
        if isinstance(part, str):
            node = getattr(node, part)
        elif isinstance(node, nnx.List):
            node = node[part]
        else:
            # a block whose arrays hold all layers
            layer = part
    return node, layer


def _to_flax(array: np.ndarray, kind: str) -> np.ndarray:
    if kind == "linear":
        return array.T
    if kind in ("conv", "patch"):
        array = array.transpose(2, 3, 1, 0)
        return array.reshape(-1, array.shape[-1]) if kind == "patch" else array
    return array


def _to_torch(array: np.ndarray, kind: str, shape: tuple[int, ...]) -> np.ndarray:
    if kind == "linear":
        return np.ascontiguousarray(array.T)
    if kind in ("conv", "patch"):
        out, channels, height, width = shape
        return np.ascontiguousarray(
            array.reshape(height, width, channels, out).transpose(3, 2, 0, 1)
        )
    return array
