"""Compiles exported Pallas kernels for a TPU and prints how long their programs are.

`kernels` runs `report` in a process, where LIBTPU_INIT_ARGS let libtpu write into FOLDER/dumped.
"""

import sys
from pathlib import Path

import jax
from jax.sharding import SingleDeviceSharding

from vtd_jax.cost.hlo import Program
from vtd_jax.cost.kernels import PALLAS, dumped_length
from vtd_jax.cost.topology import tpu_devices


def length(path: Path, device: jax.Device, dumped: Path) -> int | None:
    """Bundles of the kernel in an exported program; None if there is no kernel in it."""
    exported, on = (
        jax.export.deserialize(bytearray(path.read_bytes())),
        SingleDeviceSharding(device),
    )
    operands = [jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=on) for x in exported.in_avals]
    text = jax.jit(exported.call).lower(*operands).compile().as_text()
    program = Program(text or "")
    names = [
        instruction.name
        for inside in program.computations.values()
        for instruction in inside
        if PALLAS in instruction.attributes
    ]
    found = dumped_length(dumped, names[0]) if names else None
    for file in dumped.iterdir():
        file.unlink()
    return found


def main(folder: Path, topology: str) -> dict[str, int]:
    """Lengths by the number of the program, where known."""
    device = tpu_devices(topology)[0]
    found = {
        path.stem: length(path, device, folder / "dumped")
        for path in folder.glob("*.exported")
        if path.stat().st_size
    }
    return {number: value for number, value in found.items() if value is not None}


def report(folder: str, topology: str) -> None:
    """Prints a line for each program, its number and the bundles of a grid step: "0: 4817".

    Args:
      folder: with the programs, 0.exported and so on.
      topology: of the TPU.
    """
    for number, bundles in main(Path(folder), topology).items():
        sys.stdout.write(f"{number}: {bundles}\n")
