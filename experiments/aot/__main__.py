"""Compiles a run's programs for devices that this machine lacks; prints memory, FLOPs, time.

    python -m experiments.aot --topology=v5e:4x4 \\
        --config=experiments/configs/base_to_novel.py:kinetics400
    python -m experiments.aot --config=experiments/configs/fully_supervised.py:kinetics400 \\
        --config.clip.dtype=bfloat16 --config.data.batch_size=128
    python -m experiments.aot --out=aot.md
    python -m experiments.aot --platform=cuda --topology=H100:1,H100:8
    python -m experiments.aot --platform=cuda --devices=8,64 --out=aot_cuda.json

The programs are compiled as they would run, for TPUs (libtpu, `make aot`) or GPUs (the CUDA
compiler, `make aot-cuda`); no TPU or GPU is needed. With --platform=cuda and no --topology they are
only lowered. Times are the compiler's estimates, for GPUs the least times; nothing is run. Without
--config every benchmark config is compiled at the release's effective batch. A program that does
not fit ends the command with exit status 2 and one line that says what to change. Class names come
from the records in data.data_dir if that is a folder, else from a table of the benchmarks (or
--classes, --tokens).
"""

import dataclasses
import sys
from pathlib import Path

from absl import flags

from experiments.aot import names
from experiments.common import cli, config_flag, download_flag
from experiments.common.number_lists import whole_numbers
from vtd_jax.cost.cuda import gpu_target
from vtd_jax.cost.examine import Report, complaint, examine
from vtd_jax.cost.gpus import GPUS
from vtd_jax.cost.programs import Names, Step
from vtd_jax.cost.tables import markdown, run_steps, save
from vtd_jax.cost.topology import Target, cuda_target, tpu_target
from vtd_jax.errors import UserError
from vtd_jax.output_checks import Output, check_outputs
from vtd_jax.outputs import check_suffix
from vtd_jax.terminal import say
from vtd_jax.train.config import RunConfig

CONFIG = config_flag.define()
flags.adopt_module_key_flags(config_flag)
flags.adopt_module_key_flags(download_flag)
_PLATFORM = flags.DEFINE_enum(
    "platform", "tpu", ["tpu", "cuda"], "devices to compile for: TPUs, or GPUs"
)
_TOPOLOGY = flags.DEFINE_list(
    "topology",
    "v5e:1x1,v5e:2x4,v5e:8x8,v5e:16x16",
    "TPUs to compile for, GENERATION:SHAPE each; with --platform=cuda GPUs, KIND:COUNT each",
)
_DEVICES = flags.DEFINE_list(
    "devices", "1,8,64,256", "numbers of GPUs to lower for, with --platform=cuda"
)
_CLASSES = flags.DEFINE_integer("classes", None, "class names in the codebook", lower_bound=1)
_TOKENS = flags.DEFINE_integer(
    "tokens", None, "positions of the longest class prompt", lower_bound=3, upper_bound=77
)
_OUT = flags.DEFINE_string("out", None, "also write the table, FILE.md, or all numbers, FILE.json")


def targets() -> list[Target]:
    """The devices of the flags. The largest GPU count is made first: it fixes how many devices
    this process simulates.
    """
    if not any(_TOPOLOGY.value):
        raise UserError("--topology=: empty; expected some, as v5e:2x4 or H100:8")
    if _PLATFORM.value == "tpu":
        for topology in _TOPOLOGY.value:
            if topology.partition(":")[0] in GPUS:
                raise UserError(f"--topology={topology}: GPUs need --platform=cuda too")
        return [tpu_target(topology) for topology in _TOPOLOGY.value]
    if _TOPOLOGY.present:
        if _DEVICES.present:
            raise UserError(
                "--devices: to lower only; leave it out where --topology names the GPUs"
            )
        return [gpu_target(topology) for topology in _TOPOLOGY.value]
    expected = "numbers of GPUs, as 1,8,64"
    counts = whole_numbers("devices", _DEVICES.value, expected, least=1, repeats=True)
    found = {count: cuda_target(count) for count in sorted(counts, reverse=True)}
    return [found[count] for count in counts]


def names_of(config: RunConfig) -> tuple[Names | None, Names]:
    """Class names of training and evaluation: from flags, records, or the benchmark's table."""
    if _CLASSES.value is not None:
        given = Names(_CLASSES.value, _TOKENS.value or names.POSITIONS, len(config.model.templates))
        return given if config.data.train else None, given
    if _TOKENS.value is not None:
        raise UserError(f"--tokens={_TOKENS.value}: needs --classes=K too")
    here = CONFIG.value is not None and Path(config.data.data_dir).is_dir()
    return names.recorded_names(config) if here else names.known_names(config)


def main() -> str:
    """Compiles program after program, prints the table, and fails if one does not fit."""
    out = Path(_OUT.value) if _OUT.value else None
    if out is not None:
        check_suffix(out, ".md", ".json", where=f"--out={out}")
    own = CONFIG.value is not None
    configs = [RunConfig.from_dict(CONFIG.value.to_dict())] if own else names.benchmark_configs()
    if out is not None:
        check_outputs([Output("--out", out)], [config_flag.given_file()])
    jobs = []
    for target in targets():
        for config in configs:
            config = config if own else names.in_one_step(config, len(target.devices))
            jobs += [
                (config, target, step) for step in run_steps(config, target, *names_of(config))
            ]
    known: dict[tuple, Report] = {}
    settings = (
        {"config": config_flag.filename(), **config_flag.overrides()} if own else names.SETTINGS
    )
    reports: list[Report] = []
    for number, job in enumerate(jobs, 1):
        reports.append(_examined(known, number, len(jobs), *job))
        # after each program, so that an interruption loses none
        save(out, reports, settings)
    print(markdown(reports, settings))
    # `fits` is None for programs that are only lowered
    failed = [
        complaint(report, job[0]) for report, job in zip(reports, jobs) if report.fits is False
    ]
    if failed:
        more = f" (and {len(failed) - 1} more programs that do not fit)" if len(failed) > 1 else ""
        raise UserError(failed[0] + more)
    lowered = all(report.fits is None for report in reports)
    outcome = f"{len(known)} programs, {'lowered' if lowered else 'all fit'}"
    wrote = f"wrote {out}" if out else "nothing was written (--out=FILE.md or .json)"
    return f"{outcome}; {wrote}"


def _examined(
    known: dict, number: int, count: int, config: RunConfig, target: Target, step: Step
) -> Report:
    """A report; a program that two runs share is compiled once."""
    key = names.signature(step, target, config)
    if key not in known:
        known[key] = examine(step, target, config.name)
        program = f"{config.name} on {target.name}, {step.kind}"
        say(f"[{number}/{count}] {program}: {known[key].seconds:.0f} s", sys.stderr)
    return dataclasses.replace(known[key], run=config.name)


if __name__ == "__main__":
    # `device` stays False: the targets decide which devices JAX simulates
    cli.run(main, __doc__)
