"""XLA's flags for the processes that tests start."""

import os

UNOPTIMIZED = "--xla_backend_optimization_level=0"


def flags(devices: int = 1) -> str:
    """Those of this session, for a number of simulated devices.

    With several devices LLVM optimizes: without it, sums over devices differ by more than their
    tests allow.
    """
    count = "--xla_force_host_platform_device_count"
    others = [flag for flag in os.environ.get("XLA_FLAGS", "").split() if count not in flag]
    if devices > 1:
        others = [flag for flag in others if flag != UNOPTIMIZED]
    return " ".join([*others, f"{count}={devices}"])
