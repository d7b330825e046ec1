"""Measurements in processes of their own: time to the first step, peak memory, several devices.

  python -m experiments.benchmark.child first_step OPTIONS VARIANT STARTED
  python -m experiments.benchmark.child devices OPTIONS DTYPE

Prints one line of JSON. The caller starts these before it uses a device itself, because some
devices serve one process at a time.
"""

import contextlib
import dataclasses
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

# taken before the imports below, which count as part of the start
_BEGUN = time.time()

from experiments.benchmark import bare  # noqa: E402, F401

ROOT = Path(__file__).resolve().parents[2]
DEVICES = (1, 2, 4, 8)


def first_steps(options: Any, variants: list[Any]) -> list[dict[str, Any]]:
    """Seconds to the first training step and peak memory, each variant in a process of its own.

    Ours run twice: with an empty compilation cache, and with what the first run left there.
    """
    # not at the top: what children import is part of their start
    from vtd_jax.terminal import log

    rows = []
    for variant in variants:
        log(f"time to the first step: {variant.name}")
        with tempfile.TemporaryDirectory() as cache:
            for state in ("cold", "warm") if variant.framework == "JAX" else ("",):
                arguments = (options.to_json(), json.dumps(variant), repr(time.time()))
                measured = _child("first_step", *arguments, cache=cache)
                rows.append({"variant": variant.name, "cache": state} | measured)
    return rows


def over_devices(options: Any, dtype: str) -> dict[str, Any]:
    """A training step over 1, 2, 4 and 8 devices at one global batch; a CPU is split into eight
    simulated ones.
    """
    with tempfile.TemporaryDirectory() as cache:
        return _child("devices", options.to_json(), dtype, cache=cache, split_cpu=True)


def _child(*arguments: str, cache: str, split_cpu: bool = False) -> dict[str, Any]:
    environment = os.environ | {
        "JAX_COMPILATION_CACHE_DIR": cache,
        # keep every program: by default the small ones are compiled again in a warm start
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    flags = environment.get("XLA_FLAGS", "").split()
    flags = [flag for flag in flags if "host_platform_device_count" not in flag]
    # accelerators ignore this count
    count = max(DEVICES) if split_cpu else 1
    # where `experiments` lies, which `vtd` finds by itself
    paths = [str(ROOT), *filter(None, [environment.get("PYTHONPATH")])]
    environment["PYTHONPATH"] = os.pathsep.join(paths)
    environment["XLA_FLAGS"] = " ".join([*flags, f"--xla_force_host_platform_device_count={count}"])
    call = [sys.executable, "-m", "experiments.benchmark.child", *arguments]
    done = subprocess.run(call, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        return {"failed": f"ended with status {done.returncode}: {reason}"}
    return json.loads(done.stdout.splitlines()[-1])


def _first_step(options: Any, variant: Any, started: float) -> dict[str, float | None]:
    """In the child: everything up to the first step, part by part."""
    make = _torch_step if variant.framework == "PyTorch" else _our_step
    parts, run, device_bytes = make(options, variant, started)
    start = time.time()
    run()
    parts["first step"] = time.time() - start
    return {
        **{f"{name} seconds": seconds for name, seconds in parts.items()},
        "seconds": sum(parts.values()),
        "peak process bytes": _peak_bytes(),
        "peak device bytes": device_bytes(),
    }


def _our_step(options: Any, variant: Any, started: float) -> tuple[dict[str, float], Any, Any]:
    import jax

    from experiments.benchmark.tasks import STEP, Programs, random_model

    start = time.time()
    model = random_model(options.setting(), variant.dtype)
    programs = Programs(options.setting(), model, "", tasks=(STEP,))
    compiling = programs.compiling[STEP]
    parts = {
        "importing": start - started,
        "building": time.time() - start - compiling,
        "compiling": compiling,
    }
    stats = jax.local_devices()[0].memory_stats
    return parts, programs.jobs[0].run, lambda: (stats() or {}).get("peak_bytes_in_use")


def _torch_step(options: Any, variant: Any, started: float) -> tuple[dict[str, float], Any, Any]:
    # imports of this package and of JAX must not count as PyTorch's
    importing = _BEGUN - started
    from experiments.benchmark.tasks import STEP

    start = time.time()
    from experiments.benchmark import torch_side as bench

    importing, start = importing + time.time() - start, time.time()
    device = bench.best_device()
    model = bench.random_model(options.setting(), variant.dtype)
    (job,) = bench.jobs(options.setting(), model, "", device=device, tasks=(STEP,))
    parts = {"importing": importing, "building": time.time() - start, "compiling": 0.0}
    return parts, job.run, lambda: bench.peak_bytes(device)


def _peak_bytes() -> int:
    """Peak memory of this process, from the kernel's own count where it can be read."""
    # ru_maxrss may include the parent's peak from before exec
    with contextlib.suppress(OSError):
        if found := re.search(r"^VmHWM:\s*(\d+)", Path("/proc/self/status").read_text(), re.M):
            return 1024 * int(found[1])
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _devices(options: Any, dtype: str) -> dict[str, Any]:
    """In the child: the step over 1, 2, 4, … devices, as many as exist."""
    import jax

    from experiments.benchmark.scaling import step_over
    from experiments.benchmark.timing import interleaved

    options = dataclasses.replace(options, batch=-(-options.batch // max(DEVICES)) * max(DEVICES))
    counts = [count for count in DEVICES if count <= jax.device_count()]
    jobs = [step_over(options.setting(), dtype, jax.devices()[:count]) for count in counts]
    timings = interleaved(jobs, options.rounds)
    return {
        "platform": jax.devices()[0].platform,
        "batch": options.batch,
        "timings": [timing.to_dict() for timing in timings],
    }


if __name__ == "__main__":
    from experiments.benchmark.setting import Options, Variant

    what, settings, *rest = sys.argv[1:]
    chosen = Options(**json.loads(settings))
    if what == "first_step":
        print(json.dumps(_first_step(chosen, Variant(*json.loads(rest[0])), float(rest[1]))))
    else:
        print(json.dumps(_devices(chosen, rest[0])))
