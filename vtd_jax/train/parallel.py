"""One program for one device, mapped over many: `jit` + `shard_map` over a mesh, or `pmap`."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from vtd_jax.errors import UserError

AXIS = "data"


def local_devices(count: int = 0) -> list[jax.Device]:
    """The first `count` devices of this host, all of them for 0.

    Raises:
      UserError: fewer devices than asked for.
    """
    devices = jax.local_devices()
    if count > len(devices):
        raise UserError(f"devices: {count}, but this machine has {len(devices)} {devices[0].platform} device(s)")
    return devices[: count or None]


class Mapped:
    """A per-device function over a batch that is split along its first axis.

    `function(split, *same, axis_name)` sees its device's share of `split`, a tree of arrays `[B, …]`, and all of
    `same`; it may use collectives over `axis_name`. It returns a pair `(per_example, common)`: arrays `[B, …]` that are
    put together again, and values that are equal on every device. Both spellings compute the same numbers.
    """

    def __init__(
        self,
        function: Callable[..., tuple[Any, Any]],
        devices: Sequence[jax.Device],
        spelling: str = "shard_map",
    ):
        self.devices, self.spelling = tuple(devices), spelling
        self._mesh = Mesh(np.asarray(self.devices), (AXIS,))
        self._function = functools.partial(function, axis_name=AXIS)
        self._calls: dict[int, Callable[..., tuple[Any, Any]]] = {}

    def __call__(self, split: Any, *same: Any) -> tuple[Any, Any]:
        """Runs a global batch; its first axis must be a multiple of the device count (`pad_batch`)."""
        return self._mapped(len(same))(split, *same)

    def _mapped(self, count: int) -> Callable[..., tuple[Any, Any]]:
        if count not in self._calls:
            make = self._shard_map if self.spelling == "shard_map" else self._pmap
            self._calls[count] = make(count)
        return self._calls[count]

    def _shard_map(self, count: int) -> Callable[..., tuple[Any, Any]]:
        shared, parts = PartitionSpec(), PartitionSpec(AXIS)
        # check_vma=False: gradients are summed by the function itself, exactly as under pmap
        mapped = jax.shard_map(
            self._function,
            mesh=self._mesh,
            in_specs=(parts, *[shared] * count),
            out_specs=(parts, shared),
            check_vma=False,
        )
        return jax.jit(mapped)

    def _pmap(self, count: int) -> Callable[..., tuple[Any, Any]]:
        mapped = jax.pmap(
            self._function,
            AXIS,
            devices=self.devices,
            in_axes=(0, *[None] * count),
            out_axes=(0, None),
        )

        def call(split: Any, *same: Any) -> tuple[Any, Any]:
            size = len(self.devices)
            split = jax.tree.map(lambda x: x.reshape(size, x.shape[0] // size, *x.shape[1:]), split)
            per_example, common = mapped(split, *same)
            return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), per_example), common

        return call

    def replicate(self, tree: Any) -> Any:
        """Puts a copy of every array on every device, once, so that calls need not."""
        if self.spelling == "pmap":
            return jax.device_put(tree, self.devices[0])
        return jax.device_put(tree, NamedSharding(self._mesh, PartitionSpec()))


def pad_batch(batch: Mapping[str, np.ndarray], size: int) -> dict[str, np.ndarray]:
    """Pads every array of a batch along its first axis to `size` videos; padding has `weight` 0.

    The last video is repeated, so that padding is ordinary numbers to every kernel.
    """
    missing = size - len(batch["weight"])
    if missing < 0:
        raise ValueError(f"a batch of {len(batch['weight'])} videos cannot be padded to {size}")
    padded = {key: np.concatenate([x, np.repeat(x[-1:], missing, 0)]) if missing else x for key, x in batch.items()}
    padded["weight"] = np.where(np.arange(size) < size - missing, padded["weight"], 0).astype(np.float32)
    return padded


def round_up(count: int, multiple: int) -> int:
    """The smallest multiple of `multiple` that is `count` or more."""
    return -(-count // multiple) * multiple
