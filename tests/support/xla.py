"""XLA's flags for the processes that tests start."""

import os


def flags(devices: int = 1) -> str:
    """Those of this session, with a number of simulated devices of its own."""
    count = "--xla_force_host_platform_device_count"
    others = [flag for flag in os.environ.get("XLA_FLAGS", "").split() if count not in flag]
    return " ".join([*others, f"{count}={devices}"])
