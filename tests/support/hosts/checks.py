"""What several processes can do jointly, checked from inside: run by
tests/parallel/test_processes.py in each.
"""

import warnings
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from vtd_jax.errors import UserError
from vtd_jax.parallel import joining
from vtd_jax.parallel import mesh as mesh_module
from vtd_jax.parallel import processes as d
from vtd_jax.parallel.mesh import DeviceMesh, Mapped, Over


def raised(kind, function, *args):
    """The exception of this very kind that a call raises."""
    with pytest.raises(kind) as caught:
        function(*args)
    assert type(caught.value) is kind
    return caught.value


def fail(error):
    raise error


def check_collectives(me, mesh):
    """A sum over all devices, by jit + shard_map and by pmap; what is the same for all may be NumPy
    or a key.
    """
    parts, same = NamedSharding(mesh, P("data")), NamedSharding(mesh, P())

    def sums(x, w, key):
        noise = jax.random.uniform(jax.random.fold_in(key, jax.lax.axis_index("data")))
        return x * w.sum(), (jax.lax.psum((x * w.sum()).sum(), "data"), jax.lax.psum(noise, "data"))

    mapped = jax.shard_map(
        sums, mesh=mesh, in_specs=(P("data"), P(), P()), out_specs=(P("data"), P()), check_vma=False
    )
    x = jax.make_array_from_process_local_data(parts, np.arange(8, dtype=np.float32) + 8 * me)
    w = np.ones(3, np.float32)
    assert x.shape == (16,)
    split, (total, noise) = jax.jit(mapped)(x, w, jax.random.key(3))
    expected = sum(
        float(jax.random.uniform(jax.random.fold_in(jax.random.key(3), i))) for i in range(8)
    )
    assert (float(total), total.is_fully_replicated) == (360, True)
    np.testing.assert_allclose(float(noise), expected, rtol=1e-6)
    # a split result can be read only where it lies
    assert "non-addressable" in str(raised(RuntimeError, np.asarray, split))
    np.testing.assert_array_equal(
        np.concatenate([shard.data for shard in split.addressable_shards]),
        3 * (np.arange(8) + 8 * me),
    )
    # an array that was put on one device is refused, a NumPy array put on all devices is not
    raised(
        ValueError, jax.jit(mapped), x, jax.device_put(w, jax.local_devices()[0]), jax.random.key(3)
    )
    assert float(jax.jit(mapped)(x, jax.device_put(w, same), jax.random.key(3))[1][0]) == 360
    # a key cannot be put on all devices
    raised(ValueError, jax.device_put, jax.random.key(3), same)

    pmapped = jax.pmap(sums, "data", in_axes=(0, None, None), out_axes=(0, None))
    local, (total, again) = pmapped(
        np.arange(8, dtype=np.float32).reshape(4, 2) + 8 * me, w, jax.random.key(3)
    )
    assert (float(total), float(again)) == (360, float(noise))
    np.testing.assert_array_equal(np.asarray(local).reshape(8), 3 * (np.arange(8) + 8 * me))


def check_donation(mesh):
    """Global arrays are given away; their memory is gone."""
    x = jax.device_put(np.arange(16, dtype=np.float32), NamedSharding(mesh, P("data")))
    w = jax.device_put(np.ones(3, np.float32), NamedSharding(mesh, P()))
    step = jax.jit(lambda x, w: (x + 1, w * 2), donate_argnums=(0, 1))
    _, doubled = step(x, w)
    assert x.is_deleted()
    assert w.is_deleted()
    np.testing.assert_array_equal(doubled, [2, 2, 2])


def check_any_order(me):
    """A mesh that passes through both hosts twice, as a ring over a slice of TPUs may: rows stay
    with their host, in order, and both spellings compute what one device does.
    """
    devices = jax.devices()
    order = [0, 4, 5, 1, 2, 6, 7, 3]
    rows = np.arange(32, dtype=np.float32).reshape(16, 2)
    same = np.arange(1, 3, dtype=np.float32)
    whole = np.arange(8, dtype=np.float32)

    def shift(x, same, part):
        total = jax.lax.psum((x * same).sum(), "data")
        return x * same, total, jax.lax.all_gather(part, "data", tiled=True)

    split = (Over.VIDEOS, Over.SAME, Over.CLASSES)
    with mock.patch.object(
        mesh_module, "arrange", lambda d, s: np.reshape([d[i] for i in order], (8, 1))
    ):
        mesh = DeviceMesh(devices)
    assert [device.process_index for device in mesh.mesh.devices.flat] == [0, 1, 1, 0, 0, 1, 1, 0]
    assert [device.process_index for device in mesh.devices] == [0] * 4 + [1] * 4
    assert [device.id for device in mesh.devices[:4]] == [devices[i].id for i in (0, 1, 2, 3)]
    for spelling in ("shard_map", "pmap"):
        mapped = Mapped(shift, mesh, split, (Over.VIDEOS, Over.SAME, Over.SAME), spelling)
        own = rows[8 * me : 8 * me + 8]
        placed = [mapped.place(n, x) for n, x in enumerate((own, same, whole))]
        products, total, classes = mapped(*placed)
        np.testing.assert_array_equal(mesh.local_rows(products), own * same)
        assert float(total) == (rows * same).sum()
        np.testing.assert_array_equal(classes, whole)
        # a result is an argument of the next call
        again = mapped(placed[0], mapped.place(1, same), placed[2])
        assert float(again[1]) == float(total)


def check_failures(me):
    """A result of process 0, and failures of one process, reach all."""
    called = []
    assert d.on_first(lambda a, b: called.append(me) or {"sum": a + b, "text": "é"}, 1, 2) == {
        "sum": 3,
        "text": "é",
    }
    assert called == ([0] if me == 0 else [])
    error = raised(UserError, d.on_first, fail, UserError("a.txt: no such file"))
    assert str(error) == "a.txt: no such file"
    assert d.raised_everywhere(error)
    assert d.reported_elsewhere(error) == (me != 0)
    kind, text = (OSError, "disk") if me == 0 else (RuntimeError, "process 0: OSError: disk")
    assert str(raised(kind, d.on_first, fail, OSError("disk"))) == text

    assert d.on_all(lambda: me + 5) == me + 5
    work = (lambda: fail(UserError("shard 1 is damaged"))) if me == 1 else (lambda: "fine")
    error = raised(UserError, d.on_all, work)
    assert str(error) == "shard 1 is damaged"
    assert d.reported_elsewhere(error) == (me != 1)
    kind, text = (KeyError, "'x'") if me == 1 else (RuntimeError, "process 1: KeyError: 'x'")
    assert str(raised(kind, d.on_all, (lambda: {}["x"]) if me == 1 else (lambda: 0))) == text


def check_arrays(me):
    """Arrays of any dtype reach the others bit for bit; rows are gathered in the order of the
    processes.
    """
    rng = np.random.default_rng(0)
    tree = {
        "float": rng.standard_normal((300, 7)).astype(np.float32),
        "special": np.array([np.nan, -0.0, np.inf, 1e-45], np.float32),
        "double": rng.standard_normal(5),
        "long": np.array([2**62, -1]),
        "brain": rng.standard_normal((2, 3)).astype(jnp.bfloat16),
        "bytes": rng.integers(0, 256, (4, 4), np.uint8),
        "flags": np.array([True, False]),
        "scalar": np.float32(0.1).reshape(()),
        "empty": np.zeros((0, 3), np.float32),
    }
    got = d.on_first(lambda: tree)
    assert list(got) == list(tree)
    for name, x in tree.items():
        assert (got[name].dtype, got[name].shape) == (x.dtype, x.shape), name
        assert got[name].tobytes() == x.tobytes(), name

    for dtype in (np.float32, np.float64, np.int64, jnp.bfloat16, bool):
        everything = rng.integers(0, 9, (5, 2, 3)).astype(dtype)
        for cut in (3, 0, 5):
            gathered = d.gather_rows(everything[:cut] if me == 0 else everything[cut:])
            assert gathered.dtype == dtype
            np.testing.assert_array_equal(gathered, everything)
    assert d.gather_rows(np.zeros((0, 4), np.float32)).shape == (0, 4)
    assert d.gather_rows(np.arange(2 + me)).tolist() == [0, 1, 0, 1, 2]
    raised(ValueError, d.gather_rows, np.zeros((1, 2 + me), np.float32))


def check_sameness(me):
    """What differs between processes is named, on all of them, and reported by the first."""
    d.check_same(config="1", weights="2")
    error = raised(
        UserError, lambda: d.check_same(config="1", weights=f"of {me}", **{"class names": f"{me}"})
    )
    assert str(error).startswith(
        "process 1: its weights and class names differ from those of process 0; "
    )
    assert d.raised_everywhere(error)
    assert d.reported_elsewhere(error) == (me != 0)


def main():
    warnings.simplefilter("error")
    assert jax.config.jax_cpu_collectives_implementation == "gloo"
    joining.initialize()
    joining.initialize()
    joining.quiet_unless_first()
    me = d.process_index()
    assert (
        d.process_count(),
        jax.process_count(),
        jax.device_count(),
        jax.local_device_count(),
    ) == (2, 2, 8, 4)
    assert d.is_first() == (me == 0)
    mesh = Mesh(np.array(jax.devices()), ("data",))
    joining.meet()
    joining.meet(Mesh(np.array(jax.devices()).reshape(4, 2), ("data", "codebook")))
    check_collectives(me, mesh)
    check_donation(mesh)
    check_any_order(me)
    check_failures(me)
    check_sameness(me)
    check_arrays(me)
    print(f"process {me} is done")


if __name__ == "__main__":
    main()
