"""A checkpoint that finds no space: one line, whatever orbax and TensorStore would say of it."""

import asyncio
import gc
import os
import textwrap

import pytest

from support import warm
from vtd_jax.train.checkpoints.orbax_manager import quiet

pytestmark = pytest.mark.slow

CODE = """
    import resource, sys
    from pathlib import Path
    import numpy as np
    from absl import logging
    from vtd_jax.errors import UserError
    from vtd_jax.train.checkpoints.checkpoint import Checkpoints
    logging.set_verbosity(logging.ERROR)
    noise = np.random.default_rng(0).normal(size=(20, 5000)).astype(np.float32)
    arrays = {str(number): row for number, row in enumerate(noise)}
    small = {"0": noise[0]}
    # a file that would be larger fails as on a full disk
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, -1))
    for number in range(4):
        checkpoints = Checkpoints(Path(sys.argv[1]) / str(number))
        checkpoints.save(1, small, small, {})
        try:
            checkpoints.save(2, *((arrays, small), (small, arrays))[number % 2], {})
            checkpoints.close()
        except UserError as error:
            print(error, file=sys.stderr, flush=True)
        checkpoints.close()
        assert Checkpoints(checkpoints.workdir).last_intact() == (1, {})
"""


def test_a_full_disk_is_one_line(tmp_path):
    done = warm.run(
        ["-c", textwrap.dedent(CODE), str(tmp_path)], dict(os.environ, JAX_PLATFORMS="cpu")
    )
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == 4, done.stderr
    for number, line in enumerate(lines):
        assert f"{tmp_path}/{number}/checkpoints/2: " in line
        assert "(File too large); the last one is of step 1" in line


@pytest.mark.parametrize("folder, said", [("orbax", False), ("ours", True)])
def test_a_second_array_that_fails_says_nothing(folder, said, caplog):
    """Whether asyncio finds a failure that nobody awaited depends on when Python collects it."""
    quiet()
    defined = {}
    code = "async def write(): raise ValueError('no space')"
    exec(compile(code, f"/site-packages/{folder}/handlers.py", "exec"), defined)
    loop = asyncio.new_event_loop()
    failing = loop.create_task(defined["write"]())
    loop.run_until_complete(asyncio.wait([failing]))
    del failing
    gc.collect()
    loop.close()
    assert ("never retrieved" in caplog.text) == said
