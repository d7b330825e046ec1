"""The hub's client against a real server: what is fetched, from the cache, and every fault."""

import json

import numpy as np
import pytest
from safetensors.numpy import save, save_file

from support.helpers import random_state
from support.hub.server import Fault, serving
from support.small_run import SMALL
from vtd_jax.clip.hub.resolve import held, refreshed, resolve
from vtd_jax.clip.weights.checkpoints import read_checkpoint
from vtd_jax.errors import UserError

NAME = "hf:org/tiny"


def _names(folder):
    return sorted(path.name for path in folder.iterdir())


def _blobs(tmp_path):
    return [path for path in tmp_path.rglob("blobs/*") if path.is_file()]


def test_weights_and_settings_come_and_nothing_else(hub, weights):
    files = {"model.safetensors": weights, "README.md": b"#", "pytorch_model.bin": b"PK"}
    files |= {"preprocessor_config.json": b"{}", "onnx/model.onnx": b"1"}
    commit = hub.add("org/tiny", files)
    found = resolve(NAME)
    assert found.path.name == "model.safetensors"
    assert found.path.parent.name == commit
    assert _names(found.path.parent) == ["model.safetensors", "preprocessor_config.json"]
    assert found.path.read_bytes() == weights


def test_the_cache_is_asked_first_and_no_request_is_made(hub, weights, monkeypatch):
    hub.add("org/tiny", {"model.safetensors": weights})
    first = resolve(NAME)
    hub.requests.clear()
    # another commit does not matter until it is asked for
    hub.add("org/tiny", {"model.safetensors": weights, "vocab.txt": b"a"})
    monkeypatch.setenv("VTD_JAX_DOWNLOAD", "0")
    assert resolve(NAME) == first
    assert held(NAME) == first.path
    assert hub.requests == []
    monkeypatch.setenv("VTD_JAX_DOWNLOAD", "1")
    second = refreshed(NAME)
    assert second.path.parent != first.path.parent
    assert hub.gets("/lfs/") == 0, "the same bytes are not fetched again"
    # the older one is still there by its commit
    assert held(f"{NAME}@{first.path.parent.name}") == first.path


def test_offline_takes_the_cache_and_says_what_lacks(hub, weights, monkeypatch):
    hub.add("org/tiny", {"model.safetensors": weights})
    resolve(NAME)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    hub.requests.clear()
    read_checkpoint(NAME)
    assert refreshed(NAME).path.is_file()
    with pytest.raises(UserError, match=r"hf:org/other: not in .*HF_HUB_OFFLINE"):
        resolve("hf:org/other")
    assert hub.requests == []


def test_a_revision_and_a_file(hub, weights):
    hub.add("org/tiny", {"model.safetensors": weights})
    other = {"sub/a.safetensors": weights, "sub/config.json": b"{}", "config.json": b"{}"}
    commit = hub.add("org/tiny", other, revision="v2")
    found = resolve(f"{NAME}@v2/sub/a.safetensors").path
    assert found.parent.parent.name == commit
    assert _names(found.parent) == ["a.safetensors", "config.json"]
    assert resolve(f"{NAME}@{commit}/sub/a.safetensors").path == found


@pytest.mark.parametrize(
    "names, taken",
    [
        (("pytorch_model.bin", "model.safetensors", "open_clip_model.safetensors"), "model."),
        (("pytorch_model.bin", "open_clip_model.safetensors"), "pytorch_model.bin"),
        (("open_clip_pytorch_model.bin", "open_clip_model.safetensors"), "open_clip_model."),
    ],
)
def test_the_first_of_the_known_names_is_taken(hub, names, taken):
    hub.add("org/tiny", dict.fromkeys(names, b"weights"))
    assert resolve(NAME).path.name.startswith(taken)


def test_of_timm_open_clips_file_is_taken(hub):
    both = {"model.safetensors": b"image tower", "open_clip_model.safetensors": b"whole"}
    hub.add("timm/tiny", both)
    assert resolve("hf:timm/tiny").path.name == "open_clip_model.safetensors"


def _shards(tmp_path, weights, names):
    """The same weights cut into parts of these names, and their index."""
    state = random_state(SMALL)
    parts = np.array_split(sorted(state), len(names))
    where = {}
    files = {}
    for name, tensors in zip(names, parts):
        path = tmp_path / name
        save_file({str(t): np.asarray(state[t]) for t in tensors}, path)
        files[name] = path.read_bytes()
        where |= {str(tensor): name for tensor in tensors}
    files["model.safetensors.index.json"] = json.dumps({"weight_map": where}).encode()
    return files


@pytest.mark.parametrize(
    "names",
    [
        ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"),
        ("text.safetensors", "image.safetensors"),
    ],
)
def test_shards_come_by_their_index(hub, weights, tmp_path, names):
    hub.add("org/tiny", _shards(tmp_path, weights, names) | {"unrelated.safetensors": b"x"})
    folder = resolve(NAME).path.parent
    assert _names(folder) == sorted([*names, "model.safetensors.index.json"])
    _, state = read_checkpoint(NAME, activation="quick_gelu", head_width=64)
    expected = random_state(SMALL)
    assert all(np.array_equal(state[name], expected[name]) for name in expected)
    # without a part the cache is not whole
    (folder / names[0]).unlink()
    assert held(NAME) is None
    assert resolve(NAME).path.parent == folder


def test_open_clips_names_know_what_no_tensor_shows(hub, weights):
    repository = "laion/CLIP-ViT-H-14-laion2B-s32B-b79K"
    hub.add(repository, {"model.safetensors": b"hf", "open_clip_pytorch_model.bin": b"bin"})
    found = resolve("open_clip:ViT-H-14/laion2b_s32b_b79k")
    assert found.path.name == "open_clip_pytorch_model.bin"
    assert (found.activation, found.head_width) == ("gelu", 80)
    # the repository's own file comes first
    hub.add(repository, {"open_clip_model.safetensors": b"st", "open_clip_config.json": b"{}"})
    found = refreshed("open_clip:ViT-H-14/laion2b_s32b_b79k")
    assert found.path.name == "open_clip_model.safetensors"
    assert (found.activation, found.head_width) == (None, None)


FAULTS = {
    "gated": (Fault("api/", "status", status=403, code="GatedRepo"), "gated: accept its terms at"),
    "unauthorized": (Fault("api/", "status", status=401), "or a private one: .*HF_TOKEN"),
    "forbidden": (Fault("api/", "status", status=403), "refuses it .HTTP 403.: set HF_TOKEN"),
    "too many": (Fault("api/", "status", status=429, times=99), "too many requests"),
    "broken": (Fault("api/", "status", status=500), "fails with HTTP 500"),
    "no API": (Fault("api/", "garbage"), "cannot be understood .*is it a hub"),
    "gated file": (Fault("resolve", "status", status=403, code="GatedRepo"), "gated: accept"),
    "vanished": (Fault("resolve", "status", status=404, code="EntryNotFound"), "try again later"),
    "endless": (Fault("GET /lfs", "endless"), "sends more than the [0-9,]+ bytes"),
    "wrong": (Fault("GET /lfs", "wrong"), "has the hash .*was removed"),
    "wrong text": (
        Fault("GET /org/tiny/resolve", "wrong"),
        "config.json: .*has the hash .*was removed",
    ),
    "no storage": (Fault("GET /lfs", "status", status=404), "fails with HTTP 404"),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", FAULTS)
def test_a_fault_is_one_line_and_leaves_nothing_half(hub, weights, tmp_path, case):
    fault, said = FAULTS[case]
    hub.add("org/tiny", {"config.json": b"{}", "model.safetensors": weights})
    hub.faults.append(fault)
    with pytest.raises(UserError, match=said) as caught:
        resolve(NAME)
    assert str(caught.value).startswith("hf:org/tiny: ")
    assert "\n" not in str(caught.value)
    assert held(NAME) is None
    assert all(path.read_bytes() in (b"{}", weights) for path in _blobs(tmp_path))
    # once it is mended, the same call works
    hub.faults.clear()
    assert resolve(NAME).path.read_bytes() == weights


@pytest.mark.slow
def test_aborts_in_the_middle_are_resumed(hub, weights):
    hub.add("org/tiny", {"model.safetensors": weights})
    hub.faults.append(Fault("GET /lfs", "abort", times=1))
    assert resolve(NAME).path.read_bytes() == weights
    assert [bool(asked) for _, path, asked in hub.requests if "/lfs" in path] == [False, True]


def test_what_is_not_there(hub, weights):
    hub.add("org/tiny", {"model.safetensors": weights})
    for name, said in {
        "hf:org/none": "no repository at .*/org/none, or a private one",
        f"{NAME}@v9": "has no revision 'v9'",
        f"{NAME}/other.bin": "no such file; there: model.safetensors",
    }.items():
        with pytest.raises(UserError, match=said):
            resolve(name)
    hub.add("org/empty", {"README.md": b"#"})
    with pytest.raises(UserError, match=r"no weights, expected one of .*there: nothing"):
        resolve("hf:org/empty")


def test_a_private_repository_wants_the_token(hub, weights, monkeypatch):
    hub.add("org/tiny", {"model.safetensors": weights})
    hub.token = "secret"
    with pytest.raises(UserError, match="or a private one"):
        resolve(NAME)
    monkeypatch.setenv("HF_TOKEN", "secret")
    assert resolve(NAME).path.is_file()


@pytest.mark.slow
def test_no_connection(hub, monkeypatch):
    with serving() as gone:
        pass
    monkeypatch.setenv("HF_ENDPOINT", gone.url)
    with pytest.raises(UserError, match="cannot be reached"):
        resolve(NAME)


def test_nothing_is_fetched_or_asked_without_consent(hub, weights, monkeypatch, tmp_path, capfd):
    hub.add("org/tiny", {"model.safetensors": weights})
    monkeypatch.delenv("VTD_JAX_DOWNLOAD")
    size = f"{len(weights) / 1e6:.1f} MB"
    allows = f"`download=True` or VTD_JAX_DOWNLOAD=1 downloads it .* from {hub.url}/org/tiny into"
    for allowed in (None, False):
        with pytest.raises(UserError, match=f"not on this machine; {allows}"):
            resolve(NAME, download=allowed)
    assert hub.requests == []
    assert _blobs(tmp_path) == []
    assert resolve(NAME, download=True).path.is_file()
    assert f"downloading {size} from" in capfd.readouterr().err


def test_damage_in_the_cache_is_found(hub, weights, tmp_path):
    hub.add("org/tiny", {"model.safetensors": weights})
    path = resolve(NAME).path
    real = path.resolve()
    real.chmod(0o644)
    real.write_bytes(weights[:-1] + bytes([weights[-1] ^ 1]))
    with pytest.raises(UserError, match="damaged, its hash is not"):
        resolve(NAME)


def test_a_file_with_a_name_that_leads_elsewhere_is_not_taken(hub, weights):
    hub.add("org/tiny", {"../model.safetensors": weights, "a/../../x/config.json": b"{}"})
    with pytest.raises(UserError, match="no weights"):
        resolve(NAME)
    hub.add("org/index", {"model.safetensors.index.json": b'{"weight_map": {"a": "../x"}}'})
    with pytest.raises(UserError, match="not a file of the same folder"):
        resolve("hf:org/index")


def test_tensors_in_their_own_names_are_read_by_name(hub, weights):
    hub.add("org/tiny", {"model.safetensors": weights})
    config, state = read_checkpoint(NAME)
    assert config == SMALL
    assert save({"x": state["logit_scale"]})
