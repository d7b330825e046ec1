"""Attention's kernels compiled for TPUs that are not there: needs libtpu (`make aot`)."""

from aot.child import printed
from aot.compiled_attention import JOBS


def test_the_kernels_compile_for_every_chip_and_tower():
    # a row too large for a chip's memory would end the process
    both = ["attention_forward", "attention_backward"]
    assert printed("compiled_attention.py", seconds=900) == [[*job, both] for job in JOBS]
