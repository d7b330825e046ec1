"""GPUs that are not there: what is known of each, reports, and one line for what is wrong."""

import dataclasses
import re

import pytest

from experiments.configs import base_to_novel
from vtd_jax.cost import cuda
from vtd_jax.cost.examine import Report, complaint
from vtd_jax.cost.gpus import GPUS
from vtd_jax.cost.peaks import DEVICES, known_device
from vtd_jax.cost.tables import report_table
from vtd_jax.cost.timed import ROOFLINE
from vtd_jax.cost.topology import GIB
from vtd_jax.errors import UserError
from vtd_jax.train.config import RunConfig


@pytest.fixture
def no_modules(monkeypatch):
    """Nothing is installed but what a test says: {module: folder}."""
    installed = {}

    def find(name):
        if name.partition(".")[0] not in {module.partition(".")[0] for module in installed}:
            raise ModuleNotFoundError(name)
        if name not in installed:
            return None
        return type("Spec", (), {"submodule_search_locations": [installed[name]]})

    monkeypatch.setattr(cuda.importlib.util, "find_spec", find)
    monkeypatch.setattr(cuda.shutil, "which", lambda name: None)
    return installed


@pytest.mark.parametrize("piece", ["JAX's CUDA plugin", "ptxas"])
def test_without_the_compiler_it_says_what_to_make(no_modules, tmp_path, piece):
    if piece == "ptxas":
        no_modules["jax_plugins.xla_cuda13"] = str(tmp_path)
    assert cuda.missing() == piece
    with pytest.raises(
        UserError,
        match=f"^`topology=H100:8`: {piece} is not installed; `make aot-cuda` makes an environment",
    ):
        cuda.gpu_target("H100:8")


def test_one_gpu_without_the_compiler(no_modules):
    assert (cuda.one_gpu("H100"), cuda.one_gpu("v5e")) == (None, None)


def test_ptxas_of_a_wheel_or_of_the_system(no_modules, tmp_path, monkeypatch):
    no_modules["jax_plugins.xla_cuda13"] = str(tmp_path)
    no_modules["nvidia.cu13"] = str(tmp_path)
    assert cuda.missing() == "ptxas"
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "ptxas").touch()
    assert cuda.missing() is None
    del no_modules["nvidia.cu13"]
    monkeypatch.setattr(cuda.shutil, "which", lambda name: f"/usr/local/cuda/bin/{name}")
    assert cuda.missing() is None


@pytest.mark.parametrize(
    "topology",
    ["H100", "H100:", "H100:0", "H100:-1", "H100:²", "H100:12", "H100:1:1", "V100:1", ""],
)
def test_no_such_gpus(topology):
    expected = re.escape(
        "expected KIND:COUNT, as H100:1 or H100:8, of A100, H100, H200, B200, and above 8 GPUs "
        "whole hosts of 8"
    )
    with pytest.raises(UserError, match=f"^`topology={re.escape(topology)}`: {expected}$"):
        cuda.gpu_target(topology)


@pytest.mark.parametrize("kind", GPUS)
def test_gpus_have_a_peak_of_the_same_bandwidth(kind):
    assert GPUS[kind].bandwidth == DEVICES[kind].bandwidth
    # what XLA calls the device
    assert known_device(GPUS[kind].description) == kind
    shared = {"A100": 164, "H100": 228, "H200": 228, "B200": 228}[kind] * 1024
    config = GPUS[kind].target_config()
    for line in (
        f"shared_memory_per_core: {shared}",
        f"shared_memory_per_block_optin: {shared - 1024}",
        f"memory_bandwidth: {DEVICES[kind].bandwidth:.0f}",
        f"device_memory_size: {GPUS[kind].memory_bytes}",
    ):
        assert f"  {line}\n" in config
    assert 0.98 < GPUS[kind].memory_bytes / (GPUS[kind].memory * 2**30) < 1


@pytest.mark.parametrize(
    "name, text, share",
    [
        ("", "", 0.75),
        ("XLA_CLIENT_MEM_FRACTION", "", 0.75),
        ("XLA_CLIENT_MEM_FRACTION", ".95", 0.95),
        ("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.5", 0.5),
    ],
)
def test_memory_is_what_jax_would_allocate(monkeypatch, name, text, share):
    for variable in cuda.FRACTIONS:
        monkeypatch.delenv(variable, raising=False)
    if name:
        monkeypatch.setenv(name, text)
    assert cuda.allocated("H100") == int(share * GPUS["H100"].memory_bytes)


@pytest.mark.parametrize("text", ["0", "1.1", "all", "nan", "95%"])
def test_no_share_of_the_memory(monkeypatch, text):
    monkeypatch.setenv("XLA_CLIENT_MEM_FRACTION", text)
    with pytest.raises(
        UserError,
        match=f"^XLA_CLIENT_MEM_FRACTION={text}: expected a share of the memory, above 0, up to 1$",
    ):
        cuda.allocated("A100")


H100 = Report(
    run="run", kind="training", target="H100:8", devices=8, videos=64, frames=32, views=1,
    classes=200, tokens=26, fits=True, memory=3 * GIB, available=round(59.1 * GIB), parts={},
    flops=2 * 10**13, traffic=10**11, collectives={}, xla_flops=None, text=None, seconds=9.0,
    seconds_estimated=0.0625, share=0.32, kernels=2213, estimated_by=ROOFLINE,
)  # fmt: skip


def test_a_table_says_that_times_are_the_least():
    text = report_table([H100], {}).to_markdown()
    assert "| GiB a device | TFLOP | ms | of peak | kernels | traffic, GB | sent, MB |" in text
    assert "| 3.00 | 20 | ≥ 62.5 | ≤ 32 % | 2213 | 100.0 | nothing |" in text
    assert "- ms: of one call, by roofline of the compiled program, not run" in text


@pytest.mark.parametrize(
    "memory, remedy",
    [
        (70, "set XLA_CLIENT_MEM_FRACTION=0.95 in the environment, "),
        (76, ""),
    ],
)
def test_a_program_too_large_for_a_gpu(memory, remedy):
    config = RunConfig.from_dict(base_to_novel.get_config("kinetics400").to_dict())
    misfit = dataclasses.replace(H100, fits=False, memory=memory * GIB, remat="block")
    assert complaint(misfit, config) == (
        f"run on H100:8: training needs {memory}.0 GiB a device, of its memory JAX allocates "
        f"59.10; {remedy}lower `data.batch_size=32` and raise "
        "`optimizer.gradient_accumulation_steps=2` by as much or use more GPUs"
    )
