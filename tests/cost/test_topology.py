"""Devices that are not there: what XLA's refusals say, and one line where there is no libtpu."""

import jax
import pytest

from vtd_jax.cost import topology
from vtd_jax.cost.topology import GIB, cuda_target, first_line, refused, tpu_target
from vtd_jax.errors import UserError

# as libtpu 0.0.52 writes it
TEMPORARIES = """RESOURCE_EXHAUSTED: E1000: CompileTimeHbmOom: Ran out of memory on HBM, the total \
memory required for HLO temporaries (51.02G) exceeds available HBM (15.75G). HLO module: jit__step.
See https://openxla.org/xla/errors/error_1000 for more details."""


@pytest.mark.parametrize(
    "text, expected",
    [
        (TEMPORARIES, (51.02 * GIB, 15.75 * GIB)),
        (
            (
                "RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 950.5M of 7.48G "
                "hbm. Exceeded"
            ),
            (950.5 * 2**20, 7.48 * GIB),
        ),
        ("RESOURCE_EXHAUSTED: Ran out of memory in memory space vmem.", None),
        ("INTERNAL: (51.02G) exceeds available HBM (15.75G)", None),
    ],
)
def test_what_a_refusal_says(text, expected):
    found = refused(RuntimeError(text))
    assert found == (None if expected is None else tuple(map(round, expected)))


def test_first_line():
    assert first_line(ValueError("one.\ntwo")) == "one"
    assert first_line(ValueError()) == "ValueError"


@pytest.fixture(autouse=True)
def settings_stay():
    """Leaves JAX as it was for other tests of this process."""
    before = {
        name: getattr(jax.config, name)
        for name in ("jax_platforms", "jax_enable_compilation_cache")
    }
    yield
    for name, value in before.items():
        jax.config.update(name, value)


def test_without_libtpu_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(topology.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        UserError,
        match=r"`topology=v5e:2x4`: libtpu is not installed; .*pip install -e '\.\[aot\]'",
    ):
        tpu_target("v5e:2x4")


@pytest.mark.mesh
def test_as_many_simulated_gpus_as_there_are():
    target = cuda_target(8)
    assert (target.name, target.platform, target.memory) == ("8 × cuda", "cuda", None)
    assert target.devices == tuple(jax.devices("cpu")[:8])
    assert cuda_target(2).devices == target.devices[:2]
    with pytest.raises(UserError, match=r"`devices=9`: this process simulates 8 only"):
        cuda_target(9)
