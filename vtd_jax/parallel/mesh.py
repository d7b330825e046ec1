"""Maps a per-device program over the devices of all hosts: `jit` + `shard_map`, or `pmap`.

Since JAX 0.10 `jax.pmap` itself is `jit` + `shard_map`, so both compile to the same program.
"""

import enum
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from vtd_jax.errors import UserError
from vtd_jax.model.axes import Axes
from vtd_jax.parallel.arrangement import AXIS_TYPES, arrange
from vtd_jax.terminal import counted

DATA, CODEBOOK = "data", "codebook"


class Over(enum.Enum):
    """What an array is split over.

    VIDEOS: the first axis over the data axis. FRAMES: also the second axis over the codebook axis.
    CLASSES: the first axis over all devices, in the order of `DeviceMesh.lay_out`. SAME: not split,
    every device has all of it.
    """

    VIDEOS = PartitionSpec(DATA)
    FRAMES = PartitionSpec(DATA, CODEBOOK)
    CLASSES = PartitionSpec((CODEBOOK, DATA))
    SAME = PartitionSpec()


BATCH = {"frames": Over.FRAMES, "label": Over.VIDEOS, "weight": Over.VIDEOS, "index": Over.VIDEOS}
# the same with frame features instead of frames
FEATURES = {"features" if name == "frames" else name: over for name, over in BATCH.items()}


def run_devices(count: int = 0) -> list[jax.Device]:
    """The first `count` devices of every host, in the order of hosts; all of them for 0.

    Raises:
      UserError: this host has fewer devices.
    """
    here = jax.local_devices()
    if count > len(here):
        raise UserError(
            f"devices: {count}, but this machine has "
            f"{counted(len(here), f'{here[0].platform} device')}"
        )
    hosts: dict[int, list[jax.Device]] = {}
    for device in sorted(jax.devices(), key=lambda device: (device.process_index, device.id)):
        hosts.setdefault(device.process_index, []).append(device)
    return [device for devices in hosts.values() for device in devices[: count or None]]


class DeviceMesh:
    """Devices as a grid, data × codebook.

    Attributes:
      devices: all of them, host by host, those of a host in the order of the mesh.
      codebook_shards: S, devices of one host that share one copy of the codebook.
      data_shards: the number of parts of a batch of videos.
      hosts: the number of processes that the devices belong to.
      mesh: JAX's mesh with the axes "data" and "codebook".
    """

    def __init__(self, devices: Sequence[jax.Device], codebook_shards: int = 1):
        self.codebook_shards = codebook_shards
        self.hosts = len({device.process_index for device in devices})
        on_a_host = len(devices) // self.hosts
        if on_a_host % codebook_shards:
            has = counted(on_a_host, "device")
            raise UserError(
                f"codebook_shards={codebook_shards}: does not divide the {has} of a host"
            )
        self.data_shards = len(devices) // codebook_shards
        grid = arrange(devices, codebook_shards)
        self.mesh = Mesh(grid, (DATA, CODEBOOK), axis_types=AXIS_TYPES)
        # the sort keeps the order of a host's devices
        self.devices = tuple(sorted(grid.flat, key=lambda device: device.process_index))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DeviceMesh) and self.mesh == other.mesh

    def __hash__(self) -> int:
        return hash(self.mesh)

    @property
    def check_vma(self) -> bool:
        """Whether programs may be checked for the axes along which their values vary.

        Not on a TPU, whose Pallas kernels have no such types.
        """
        return self.devices[0].platform != "tpu"

    @property
    def local_devices(self) -> tuple[jax.Device, ...]:
        """The devices of this host."""
        here = jax.process_index()
        return tuple(device for device in self.devices if device.process_index == here)

    def spec(self, over: Over) -> PartitionSpec:
        """The axes that a kind of array is split over, without a codebook axis of size 1."""
        whole = self.codebook_shards > 1 or over is Over.SAME
        return over.value if whole else PartitionSpec(DATA)

    def axes(self, classes: int) -> Axes:
        """The axes that a per-device function sees, for a codebook of K classes."""
        return Axes(DATA, CODEBOOK if self.codebook_shards > 1 else None, classes)

    def lay_out(self, tokens: np.ndarray) -> np.ndarray:
        """Class tokens `[K, …]` in the order of the devices: `[rows, …]`, padded by the last class.

        A shard has `ceil(K / S)` classes, which are split again over the data axis to encode them.
        """
        classes = len(tokens)
        shard = -(-classes // self.codebook_shards)
        share = round_up(shard, self.data_shards)
        starts = np.arange(self.codebook_shards)[:, None] * shard
        rows = starts + np.minimum(np.arange(share), shard - 1)
        return tokens[np.minimum(rows, classes - 1)].reshape(-1, *tokens.shape[1:])

    def place(self, tree: Any, over: Any) -> Any:
        """Puts NumPy arrays onto the devices; arrays that are on them already stay.

        Args:
          tree: arrays; those split over videos are this host's share, the others are complete.
          over: an `Over`, or a tree of them that is a prefix of `tree`.
        """
        return _each(self._put, over, tree)

    def _put(self, x: Any, kind: Over) -> jax.Array:
        sharding = NamedSharding(self.mesh, self.spec(kind))
        if self.hosts > 1 and kind in (Over.VIDEOS, Over.FRAMES) and not _is_global(x):
            # this host's rows go to its devices in the order of the mesh, wherever these are in it
            x = np.asarray(x)
            return jax.make_array_from_process_local_data(
                sharding, x, (x.shape[0] * self.hosts, *x.shape[1:])
            )
        return _put_whole(x, sharding)

    def local_rows(self, array: jax.Array) -> np.ndarray:
        """This host's rows of an array that is split over videos, in order."""
        if array.is_fully_addressable:
            return np.asarray(array)
        # with a codebook axis several devices hold the same rows
        rows = {shard.index[0].start or 0: shard.data for shard in array.addressable_shards}
        return np.concatenate([np.asarray(rows[start]) for start in sorted(rows)])


def _put_whole(x: Any, sharding: NamedSharding) -> jax.Array:
    """Puts an array that every process has in full onto devices of all of them."""
    if sharding.is_fully_addressable or _is_global(x):
        return jax.device_put(x, sharding)
    x = np.asarray(x)
    return jax.make_array_from_callback(x.shape, sharding, lambda index: x[index])


def _is_global(x: Any) -> bool:
    """Whether an array is on devices of other hosts too."""
    return isinstance(x, jax.Array) and not x.is_fully_addressable


def _each(function: Callable[[Any, Over], Any], over: Any, tree: Any) -> Any:
    """Calls `function(leaf, Over)` on every leaf of a tree; `over` is a prefix of it."""
    return jax.tree.map(
        lambda kind, part: jax.tree.map(lambda x: function(x, kind), part), over, tree
    )


class Mapped:
    """A per-device function, compiled for a mesh.

    The function sees its device's share of every argument and may use collectives over the axes of
    the mesh. `shard_map` and `pmap` compute the same numbers; `pmap` has the data axis only.

    Attributes:
      jitted: the jitted function of `shard_map`, which can be lowered without running it.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        mesh: DeviceMesh,
        ins: Sequence[Any],
        outs: Any,
        spelling: str = "shard_map",
        donate: Sequence[str] = (),
        check_vma: bool = False,
    ):
        """
        Args:
          function: of one device; takes its arguments by position.
          mesh: the devices.
          ins: for each argument an `Over`, or a prefix of its tree.
          outs: the same for the results; `Over.SAME` for values that are equal on every device.
          spelling: "shard_map" or "pmap".
          donate: names of the donated arguments, which a caller must not use again.
          check_vma: whether `shard_map` checks by types that what `outs` calls the same is so, see
            `DeviceMesh.check_vma`; pmap never does.
        """
        self.mesh, self.ins, self.outs, self.spelling = mesh, tuple(ins), outs, spelling
        if spelling == "pmap":
            # pmap donates by position only
            names = list(inspect.signature(function).parameters)
            self._call = self._pmap(function, tuple(names.index(name) for name in donate))
            return
        specs = jax.tree.map(mesh.spec, (self.ins, outs))
        mapped = jax.shard_map(
            function, mesh=mesh.mesh, in_specs=specs[0], out_specs=specs[1], check_vma=check_vma
        )
        self._call = self.jitted = jax.jit(mapped, donate_argnames=tuple(donate))

    def __call__(self, *args: Any) -> Any:
        """Calls the function with arguments that `place` put on the devices."""
        return self._call(*args)

    def place(self, number: int, argument: Any) -> Any:
        """Puts argument `number` onto the devices; see `pad_batch` for axes that are split."""
        if self.spelling == "shard_map":
            return self.mesh.place(argument, self.ins[number])
        return _each(self._unfold, self.ins[number], argument)

    def abstract(self, *args: Any) -> tuple[Any, ...]:
        """Global arguments, with `shape` and `dtype`, as `jitted.lower` takes them."""

        def shape(x: Any, kind: Over) -> jax.ShapeDtypeStruct:
            sharding = NamedSharding(self.mesh.mesh, self.mesh.spec(kind))
            return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)

        return tuple(_each(shape, over, arg) for over, arg in zip(self.ins, args))

    def _pmap(self, function: Callable[..., Any], donated: tuple[int, ...]) -> Callable[..., Any]:
        if self.mesh.codebook_shards > 1:
            raise UserError("codebook_shards: pmap has the data axis only; use parallel=shard_map")
        ins, outs = jax.tree.map(
            lambda over: None if over is Over.SAME else 0, (self.ins, self.outs)
        )
        mapped = jax.pmap(
            function,
            DATA,
            in_axes=ins,
            out_axes=outs,
            devices=self.mesh.devices,
            donate_argnums=donated,
        )

        def fold(x: jax.Array, kind: Over) -> jax.Array:
            return x if kind is Over.SAME else x.reshape(-1, *x.shape[2:])

        return lambda *args: _each(fold, self.outs, mapped(*args))

    def _unfold(self, x: Any, kind: Over) -> Any:
        """Splits the first axis into one row for each device of this host, as pmap expects."""
        if kind is Over.SAME:
            # pmap has a mesh of its own
            return _put_whole(x, NamedSharding(Mesh(self.mesh.devices, (DATA,)), PartitionSpec()))
        devices, hosts = len(self.mesh.devices), self.mesh.hosts
        if kind is Over.CLASSES:
            x = np.split(x, hosts)[jax.process_index()]
        return x.reshape(devices // hosts, -1, *x.shape[1:])


def pad_batch(batch: Mapping[str, np.ndarray], size: int) -> dict[str, np.ndarray]:
    """Pads every array of a batch along its first axis to `size` videos; padding has `weight` 0.

    It repeats the last video, so that kernels see ordinary numbers.
    """
    missing = size - len(batch["weight"])
    if missing < 0:
        raise ValueError(f"a batch of {len(batch['weight'])} videos cannot be padded to {size}")
    padded = {
        key: np.concatenate([x, np.repeat(x[-1:], missing, 0)]) if missing else x
        for key, x in batch.items()
    }
    real = np.arange(size) < size - missing
    return padded | {"weight": np.where(real, padded["weight"], 0).astype(np.float32)}


def round_up(count: int, multiple: int) -> int:
    """The smallest multiple of `multiple` that is at least `count`."""
    return -(-count // multiple) * multiple
