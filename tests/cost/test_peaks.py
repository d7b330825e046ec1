"""Vendors' peaks: which devices are known, and what their numbers mean."""

import pytest

from vtd_jax.cost.peaks import DEVICES, DTYPES, Peak, float32_note, known_device

TPUS = ("v4", "v5e", "v5p", "v6e", "TPU7x")
GPUS = ("V100", "A100", "H100", "H200", "L4", "B100", "B200", "GB200")


@pytest.mark.parametrize(
    "kind, known",
    [
        ("NVIDIA B200", "B200"),
        ("NVIDIA B100", "B100"),
        ("NVIDIA GB200", "GB200"),
        ("NVIDIA GH200 480GB", None),
        ("NVIDIA H200", "H200"),
        ("NVIDIA H200 NVL", None),
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("NVIDIA H100 PCIe", None),
        ("NVIDIA A100-PCIE-40GB", None),
        ("NVIDIA A100-SXM4-80GB", "A100"),
        ("Tesla V100-SXM2-16GB", "V100"),
        ("NVIDIA L4", "L4"),
        ("NVIDIA L40S", None),
        ("TPU v4", "v4"),
        ("TPU v5 lite", "v5e"),
        ("TPU v5", "v5p"),
        ("TPU v6 lite", "v6e"),
        ("TPU7x", "TPU7x"),
        ("TPU v3", None),
        ("cpu", None),
    ],
)
def test_devices_are_known_by_their_kind(kind, known):
    assert known_device(kind) == known
    assert known is None or known in DEVICES


def test_every_device_has_all_numbers():
    assert tuple(DEVICES) == TPUS + GPUS
    assert set(DTYPES) < set(Peak._fields)
    for peak in DEVICES.values():
        assert 10e12 < peak.float32 < peak.bfloat16 < 3e15
        assert 3e11 <= peak.bandwidth <= 8e12


def test_float32_on_a_tpu_is_six_products_of_bfloat16():
    for device in TPUS:
        assert DEVICES[device].float32 == pytest.approx(DEVICES[device].bfloat16 / 6)
        assert "six bfloat16 passes" in float32_note(device)
    assert all("outside the tensor cores" in float32_note(device) for device in GPUS)


def test_a_tpu7x_chip_is_two_devices():
    chip = DEVICES["TPU7x"]
    assert (2 * chip.bfloat16, 2 * chip.bandwidth) == (2307e12, 7380e9)
