"""What XLA must know of GPUs that are not present, from NVIDIA's documents."""

from collections.abc import Mapping
from typing import NamedTuple

# of GB as data sheets count memory, 2**30 bytes, the share that the driver and error correction
# leave (an H100 reports 79.1 of 80)
_LEFT = 0.985
# CUDA Programming Guide, "Technical Specifications per Compute Capability": KB of shared memory of
# a multiprocessor; one block may have 1 KB less
_SHARED = {8: 164, 9: 228, 10: 228}


class Gpu(NamedTuple):
    """One GPU.

    Attributes:
      cores: multiprocessors.
      clock: GHz, the boost clock.
      bandwidth: bytes/s of its memory.
      memory: of its data sheet, in units of 2**30 bytes.
      cache: bytes of the second level.
      capability: compute capability, the part before the point; that after it is 0.
      description: as the driver names it.
    """

    cores: int
    clock: float
    bandwidth: float
    memory: int
    cache: int
    capability: int
    description: str

    @property
    def memory_bytes(self) -> int:
        """Bytes that the driver reports, about."""
        return int(_LEFT * self.memory * 2**30)

    def target_config(self) -> str:
        """XLA's `GpuTargetConfigProto` as text."""
        shared = _SHARED[self.capability] * 1024
        # limits of a block and of a multiprocessor: the same table, equal for 8.0, 9.0 and 10.0
        return f"""
gpu_device_info {{
  threads_per_block_limit: 1024
  threads_per_warp: 32
  shared_memory_per_block: {48 * 1024}
  shared_memory_per_block_optin: {shared - 1024}
  shared_memory_per_core: {shared}
  threads_per_core_limit: 2048
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
  block_dim_limit_x: {2**31 - 1}
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  core_count: {self.cores}
  fpus_per_core: {64 if self.capability == 8 else 128}
  clock_rate_ghz: {self.clock}
  memory_bandwidth: {self.bandwidth:.0f}
  l2_cache_size: {self.cache}
  device_memory_size: {self.memory_bytes}
  cuda_compute_capability {{ major: {self.capability} }}
}}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 15 }}
runtime_version {{ major: 13 }}
device_description_str: "{self.description}"
"""


# SXM variants. Memory and its bandwidth: the data sheets ("A100 80GB", "H100", "H200", "DGX B200",
# of which an eighth). Multiprocessors, clocks and caches of A100 and H100: the white papers of
# Ampere and Hopper, and an H200 has the chip of an H100; of B200: the Blackwell Tuning Guide
# (cache), and what `nvidia-smi` and `deviceQuery` print on it.
GPUS: Mapping[str, Gpu] = {
    "A100": Gpu(108, 1.41, 2039e9, 80, 40 * 2**20, 8, "NVIDIA A100-SXM4-80GB"),
    "H100": Gpu(132, 1.98, 3350e9, 80, 50 * 2**20, 9, "NVIDIA H100 80GB HBM3"),
    "H200": Gpu(132, 1.98, 4800e9, 141, 50 * 2**20, 9, "NVIDIA H200"),
    "B200": Gpu(148, 1.965, 8000e9, 180, 126 * 2**20, 10, "NVIDIA B200"),
}
