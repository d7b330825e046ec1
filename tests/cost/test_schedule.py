"""The time of a program compiled for a TPU, from its text: loops, branches, Pallas kernels, and
what has no estimate.
"""

import re
import subprocess
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from jax.experimental import pallas as pl

from vtd_jax.cost import kernels
from vtd_jax.cost.frames import Frame, Frames
from vtd_jax.cost.hlo import traced_work
from vtd_jax.cost.kernels import Kernel
from vtd_jax.cost.schedule import CORES, Core, core_of, schedule
from vtd_jax.cost.timed import SCHEDULE, Part, Timed

# compiled for a v5e: kernel "one"; three rounds of tanh(x @ w) and kernel "two"; on a condition, a
# sort and a product; kernel "many", which has a loop inside. Bodies of kernels are left out.
TEXT = (Path(__file__).parent / "hlo" / "scan_v5e.txt").read_text()
V5E = CORES["TPU v5 lite"]
SHAPES = ((2, 128, 128), (2, 128, 128))
# lengths as libtpu wrote them
LENGTHS = {"one": 86, "two": 61, "many": 93}
KERNELS = tuple(
    Kernel(name, 2, 1, name == "many", SHAPES, length) for name, length in LENGTHS.items()
)


def timed(text: str = TEXT, cores: int = 1, known=KERNELS) -> Timed:
    found = schedule(text, V5E, cores, known=known)
    assert found is not None
    return found


def test_loops_branches_and_kernels_are_added_up():
    found = timed()
    cycles = {
        "body:12 dot_general": (3 * 4252, 3),
        "one, Pallas": (2 * 86, 1),
        "two, Pallas": (3 * 2 * 61, 3),
        "many, Pallas (loops counted once)": (2 * 93, 1),
    }
    parts = {part.name: part for part in found.parts}
    for name, (count, times) in cycles.items():
        assert parts[name].times == times
        assert parts[name].seconds == pytest.approx(count / 1.5e9)
    # of the branches, the one that sorts
    branch = 24 + 2386 + 2098
    total = branch + sum(count for count, _ in cycles.values())
    assert found.seconds == pytest.approx(total / 1.5e9)
    assert found.seconds == pytest.approx(sum(part.seconds for part in found.parts))
    assert list(found.parts) == sorted(found.parts, key=lambda part: -part.seconds)
    assert (found.kernels, found.source) == (3 + 1 + 3 + 1 + 3, SCHEDULE)
    assert found.missing == ("sort (1 run)",)


def test_it_is_the_sum_of_all_estimates_when_loops_count_once():
    once = TEXT.replace("constant(3)", "constant(1)")
    written = sum(map(int, re.findall(r'"estimated_cycles":"(\d+)"', TEXT)))
    assert timed(once, known=()).seconds == pytest.approx(written / 1.5e9)


def test_a_kernel_without_an_estimate_is_named_and_not_zero():
    one, two, many = KERNELS
    found = timed(known=(one, two._replace(length=None), many))
    assert found.missing == ("no estimate for kernel two (3 runs)", "sort (1 run)")
    assert not any(part.name.startswith("two") for part in found.parts)
    unknown = timed(known=(one, two))
    assert unknown.missing[0] == "no estimate for kernel many (1 run)"


def test_kernels_of_one_name_differ_by_their_shapes():
    other = Kernel("two", 50, 1, False, ((9, 128, 128), (9, 128, 128)), 61)
    assert timed(known=(*KERNELS, other)) == timed()
    # the same shapes, and another grid: which one is unknown
    same = Kernel("two", 50, 1, False, SHAPES, 61)
    assert "kernel two" in timed(known=(*KERNELS, same)).missing[0]


def test_steps_go_to_both_cores_only_where_they_may():
    assert Kernel("k", 12, 1, False, ()).steps_on(2) == 12
    assert Kernel("k", 12, 3, False, ()).steps_on(2) == 8
    assert Kernel("k", 12, 4, False, ()).steps_on(1) == 12


def test_what_takes_time_without_an_estimate():
    text = """ENTRY %main (a: f32[512,1024]) -> f32[1024,512] {
  %a = f32[512,1024]{1,0} parameter(0)
  %r.1 = f32[1024,512]{1,0} reshape(%a)
  %r.2 = f32[2]{0} reshape(%small)
  %sum = f32[1024,512]{1,0} all-reduce(%r.1), replica_groups={{0,1}}, to_apply=%add
  %alone = f32[1024,512]{1,0} all-reduce(%r.1), replica_groups={{0},{1}}, to_apply=%add
  ROOT %f = f32[1024,512]{1,0} negate(%sum), backend_config={"estimated_cycles":"1500"}
}
"""
    found = schedule(text, V5E)
    assert found == Timed(
        1e-6, (Part("f", 1e-6, 1),), 1, SCHEDULE,
        ("all-reduce (1 run)", "reshape (1 run, moving 0.00419 GB)"),
    )  # fmt: skip


def test_text_without_estimates_is_no_estimate():
    assert schedule(re.sub(r'"estimated_cycles":"\d+"', "", TEXT), V5E) is None
    assert schedule("", V5E) is None


def test_devices_that_are_not_known():
    assert core_of(jax.devices()[0]) is None
    assert all(isinstance(core, Core) and 1e9 < core.clock < 3e9 for core in CORES.values())


def test_frames_are_those_of_layers():
    frames = Frames(TEXT)
    # the outermost frame is its own here, so others count from 1 more
    assert frames.layer(8) == Frame("program.py", 12, "f.<locals>.body")
    # a nameless function, and the one around it
    assert frames.layer(3) == Frame("program.py", 14, "f")
    assert frames.layer(99) is None
    assert Frames("").layer(1) is None
    product = TEXT.replace('"kernels.py"', '"vtd_jax/clip/matmul.py"')
    assert Frames(product).layer(11) == Frame("program.py", 12, "f.<locals>.body")


def traced(kernel, **settings):
    spec = pl.BlockSpec((1, 8, 128), lambda i, j: (i, 0, 0))
    call = pl.pallas_call(
        kernel, jax.ShapeDtypeStruct((4, 8, 128), jnp.float32), grid=(4, 2), in_specs=[spec],
        out_specs=spec, name="mine", **settings,
    )  # fmt: skip
    x = jax.ShapeDtypeStruct((4, 8, 128), jnp.float32)
    return jax.jit(lambda x: call(call(x))).trace(x).jaxpr


def looping(unroll):
    def kernel(x, o):
        o[0] = jax.lax.fori_loop(0, 3, lambda _, y: jnp.dot(y, y.T) @ y, x[0], unroll=unroll)

    return kernel


@pytest.mark.parametrize("unroll, loops", [(1, True), (3, False), (True, False)])
def test_kernels_of_a_traced_program(unroll, loops):
    jaxpr = traced(looping(unroll))
    # called twice, and one kernel
    assert kernels.kernels(jaxpr) == (Kernel("mine", 8, 1, loops, ((4, 8, 128), (4, 8, 128))),)
    # two products a round, 3 rounds, 8 steps, 2 calls
    assert traced_work(jaxpr).flops == 2 * (2 * 8 * 8 * 128) * 3 * 8 * 2


def test_lengths_are_those_of_a_process_of_their_own(monkeypatch):
    seen = []

    def run(command, env, **_):
        folder = Path(command[4])
        # nothing in the current folder is imported
        assert command[1:3] == ["-I", "-c"]
        assert "vtd_jax.cost.kernel_lengths" in command[3]
        assert f"--mine=1 --xla_jf_dump_to={folder}/dumped " in env["LIBTPU_INIT_ARGS"]
        assert [path.name for path in folder.glob("*.exported")] == ["0.exported"]
        seen.append((folder, command[5]))
        return subprocess.CompletedProcess(command, 0, "from libtpu: 1\n0: 61\n")

    monkeypatch.setenv("LIBTPU_INIT_ARGS", "--mine=1")
    monkeypatch.setattr(kernels.subprocess, "run", run)
    jaxpr = traced(looping(True))
    (found,) = kernels.kernels(jaxpr, "v5e:1x1")
    assert found.length == 61
    # the same kernel for the same chip is compiled once
    assert kernels.kernels(jaxpr, "v5e:1x1") == (found,)
    ((folder, topology),) = seen
    assert topology == "v5e:1x1"
    assert not folder.exists()


@pytest.mark.parametrize("code, output", [(1, "0: 61"), (0, ""), (0, "0: many")])
def test_lengths_that_are_not_known(monkeypatch, code, output):
    done = subprocess.CompletedProcess([], code, output)
    monkeypatch.setattr(kernels.subprocess, "run", lambda *_, **__: done)
    (found,) = kernels.kernels(traced(looping(1)), f"v5e:{code}{len(output)}")
    assert found.length is None


def test_what_libtpu_wrote(tmp_path):
    name = "17-two.3-00-schedule-analysis_final_bundles.txt"
    (tmp_path / name).write_text("Schedule analysis:\n\ttotal scheduled bundles:    61\n")
    (tmp_path / "17-two.3-01-final_bundles.txt").write_text("…")
    (tmp_path / name.replace("two.3", "bad.1")).write_text("")
    lengths = [kernels.dumped_length(tmp_path, name) for name in ("two.3", "bad.1", "none")]
    assert lengths == [61, None, None]
