"""The programs that are measured on a device, the most important first."""

import importlib.util
from typing import NamedTuple

import jax.numpy as jnp

from experiments.benchmark.tasks import FEATURES, GRADIENT, STEP
from vtd_jax.clip.attention.choice import chosen
from vtd_jax.clip.config import WAYS, CLIPConfig
from vtd_jax.clip.stack import layout
from vtd_jax.errors import UserError

TASKS = (GRADIENT, STEP, FEATURES)
OURS, PLAIN, TORCH, COMPILED = "ours", "plain JAX", "PyTorch", "PyTorch, compiled"
# images at once, by device
FRAMES = {"tpu": 128, "gpu": 256, "cpu": 4}
# the first one is compared with the others
_REMATS = ("block", "dots", "none")


class Choice(NamedTuple):
    """A program.

    Attributes:
      task: one of `TASKS`.
      who: `OURS`, `PLAIN` (the image tower as one would write it in JAX), `TORCH`, or `COMPILED`
        (PyTorch through `torch.compile`, on a GPU).
      attention, remat, layers: see `Compute` and `stack.layout`; "" where there is no choice.
    """

    task: str
    who: str
    attention: str = ""
    remat: str = ""
    layers: str = ""

    @property
    def variant(self) -> str:
        """As in tables: "ours, pallas, remat block, scan"."""
        remat = f"remat {self.remat}" if self.remat else ""
        return ", ".join(part for part in (self.who, self.attention, remat, self.layers) if part)

    @property
    def name(self) -> str:
        """With its task."""
        return f"{self.task}, {self.variant}"


class Device(NamedTuple):
    """What a device takes.

    Attributes:
      platform: "cpu", "gpu" or "tpu".
      ways: of attention, that of `memory.attention=auto` first.
      layouts: of blocks, that of `memory.layers=auto` first.
    """

    platform: str
    ways: tuple[str, ...]
    layouts: tuple[str, ...]


def device(config: CLIPConfig, dtype: str, platform: str) -> Device:
    """What a device takes of a ViT.

    Args:
      config: of the CLIP.
      dtype: of the towers.
      platform: "cpu", "gpu" or "tpu".
    """

    def taken(asked: str) -> str | None:
        try:
            return chosen(
                asked,
                platform,
                # with a prompt or padding, even
                tokens=2 + config.grid**2 - config.grid % 2,
                width=config.vision_width,
                head_width=config.vision_head_width,
                dtype=jnp.dtype(dtype),
            )
        except UserError:
            return None

    ways = dict.fromkeys(way for asked in WAYS if (way := taken(asked)))
    first = layout("auto", platform)
    return Device(platform, tuple(ways), (first, "list" if first == "scan" else "scan"))


def choices(found: Device, *, torch: bool) -> list[Choice]:
    """All programs in the order in which they are compiled.

    First those that differ from `auto` in nothing, then those that differ in one setting, and so
    on: where the time ends, the least important are left out.

    Args:
      found: what the device takes.
      torch: whether PyTorch is measured.
    """
    theirs = [COMPILED if found.platform == "gpu" else TORCH] * torch
    ranked: list[tuple[int, Choice]] = []
    for task in TASKS:
        # without a backward pass nothing is computed again
        remats = ("",) if task == FEATURES else _REMATS
        for places, choice in _ours(task, found, remats):
            ranked.append((sum(place > 0 for place in places), choice))
            if len(ranked) == 1 or ranked[-2][1].task != task:
                others = [] if task == STEP else _plain(task, found, remats[0])
                others += [Choice(task, who) for who in theirs]
                ranked += [(0, other) for other in others]
        if task == GRADIENT:
            ranked.append((1, Choice(task, PLAIN, remat="none")))
    # stable: tasks stay in their order
    return [choice for _, choice in sorted(ranked, key=lambda pair: pair[0])]


def _ours(
    task: str, found: Device, remats: tuple[str, ...]
) -> list[tuple[tuple[int, ...], Choice]]:
    return [
        ((i, j, k), Choice(task, OURS, way, remat, kind))
        for i, kind in enumerate(found.layouts)
        for j, way in enumerate(found.ways)
        for k, remat in enumerate(remats)
    ]


def _plain(task: str, found: Device, remat: str) -> list[Choice]:
    # `jax.nn.dot_product_attention` has no kernel for TPUs
    ways = ("", "cudnn") if "cudnn" in found.ways else ("",)
    return [Choice(task, PLAIN, way, remat) for way in ways]


def torch_runs_on(platform: str) -> bool:
    """Whether PyTorch, which is installed, computes on the same kind of device."""
    if platform == "tpu" or importlib.util.find_spec("torch") is None:
        return False
    # imported here: PyTorch is optional
    from experiments.benchmark.torch_side import best_device

    return best_device() == {"gpu": "cuda"}.get(platform, platform)
