"""Arguments of another kind than they should be: one line, by the call itself."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from support.small_model import LABELS
from support.video_files import make_video
from vtd_jax import fields
from vtd_jax.errors import UserError
from vtd_jax.video.clip import read_video
from vtd_jax.video.clips.arguments import as_videos

ROOT = Path(__file__).resolve().parents[3]


class Column(list):
    """Stands for a column of paths of pandas, or an array of another library."""

    def __init__(self, values, dtype, shape):
        super().__init__(values)
        self.dtype, self.shape = dtype, shape


def test_whole_numbers():
    for value in (3, np.int64(3), np.uint8(3), np.array(3)):
        found = fields.check_whole("frames", value, "1 or more")
        assert (found, type(found)) == (3, int)
    for value in (0, -1, np.int32(0), 2**40):
        with pytest.raises(UserError, match=r"^`frames=.*`: expected 1 or more$"):
            fields.check_whole("frames", value, "1 or more")
    for value in (None, True, np.True_, 2.5, 2.0, "8", [], np.array([1, 2]), float("nan")):
        with pytest.raises(UserError, match=r"^`frames=.*`: expected 1 or more, a whole number$"):
            fields.check_whole("frames", value, "1 or more")


def test_numbers():
    for value in (2, 2.0, np.float32(2), np.int64(2)):
        found = fields.check_number("fps", value, "above 0")
        assert (found, type(found)) == (2.0, float)
    wrong = (None, True, "8", 0, -1.0, float("nan"), float("inf"), 10**400, 1j, np.array([1.0, 2]))
    for value in wrong:
        with pytest.raises(UserError, match=r"^`fps=.*`: expected above 0$"):
            fields.check_number("fps", value, "above 0")


def test_switches_choices_and_lists():
    assert [fields.check_switch("a", one) for one in (True, np.False_)] == [True, False]
    for value in (None, 1, 0, "yes", [], np.array([True, False])):
        with pytest.raises(UserError, match=r"^`a=.*`: expected True or False$"):
            fields.check_switch("a", value)
    for value in (["x"], np.array(["x", "y"]), None):
        with pytest.raises(UserError, match=r"^a: .*, expected one of x, y$"):
            fields.check_choice("a", value, ("x", "y"))
    assert fields.check_listed("a", np.array(["x"]), "a list") == ["x"]
    for value in ("x", b"x", {"x"}, {"x": 1}, iter("x"), 3, None):
        with pytest.raises(UserError, match=r"^a: .*, expected a list$"):
            fields.check_listed("a", value, "a list")


def test_arrays_of_other_libraries_and_tables_are_no_iterators_of_videos():
    for other in (
        Column([np.zeros((2, 2, 3))], np.dtype("uint8"), (1, 2, 2, 3)),
        Column([1.0], np.dtype("float32"), (1,)),
        Column(["a"], None, (1, 2)),
        Column([1.0], object(), (1,)),
    ):
        for given in (other, [other]):
            with pytest.raises(UserError, match=r"video: an array \[.*np.asarray.*, expected"):
                as_videos(given)
    videos, single = as_videos(Column(["a.mp4"], np.dtype(object), (1,)))
    assert (list(videos), single) == (["a.mp4"], False)


def test_what_is_no_video_is_described(tmp_path):
    (tmp_path / "list.txt").write_text("a.mp4")
    with (tmp_path / "list.txt").open() as file:
        for given, message in [
            (None, "video: None, expected a path, uint8 frames"),
            (3, "video: an int, expected a path"),
            (file, "video: a TextIOWrapper, expected a path"),
            ("", "video: '', expected a path, uint8 frames"),
            ([""], "video: '', expected the paths of files in the list"),
            ([None], "video: None in the list, expected paths or arrays"),
        ]:
            with pytest.raises(UserError, match=message):
                as_videos(given)


def test_results_are_equal_to_themselves_only(learnt, noise, tmp_path):
    path = make_video(tmp_path / "a.mp4", 9)
    pairs = [
        [learnt.predict(noise, LABELS) for _ in range(2)],
        [learnt.explain(noise, LABELS) for _ in range(2)],
        [learnt.timeline(path, LABELS) for _ in range(2)],
        [next(iter(learnt.encode_videos(noise))) for _ in range(2)],
        [read_video(path, 3) for _ in range(2)],
    ]
    for one, other in pairs:
        assert (one == one, one == other, one != other) == (True, False, True)
        assert len({one, other, one}) == 2
        assert {one: "a"}[one] == "a"
        assert [one, other].index(other) == 1
    failed = learnt.predict("absent.mp4", LABELS, on_error="return")
    assert failed in {failed}


# what stands here runs without the checks of types of these tests, as users' programs do
CALLS = r"""
import sys, warnings
import jax, jax.numpy as jnp, numpy as np
import vtd_jax
from vtd_jax.errors import UserError

warnings.simplefilter("error")
model, clip = vtd_jax.load("tiny", devices=jax.devices()[:1]), sys.argv[1]
frames, labels = np.zeros((2, 32, 32, 3), np.uint8), ["red", "blue"]
WRONG = [
    None, 2.5, "8", True, -1, [], {}, {"a"}, b"x", float("nan"), np.array([1, 2]), object(), 10**30,
    jnp.zeros(3), "a\0b", "\udcff", ..., (c for c in "ab"),
]
seen = model.explain(frames, labels, frames=2)
mine = dict(video=frames, labels=labels)
CALLS = {
    **{
        f"{call.__name__}({name})": (lambda x, call=call, name=name: call(**mine | {name: x}), good)
        for call in (model.predict, model.explain)
        for name, good in {
            "frames": [None, np.int64(2)], "fps": [None, 2.5, np.float32(3)],
            "batch_frames": [None, np.int16(2)], "workers": [None, np.int16(1)],
            "processes": [None, True, np.False_], "deterministic": [True, np.True_],
            "check": ["full"], "on_error": ["raise"], "vocabulary": [None, ["a"], np.array(["a"])],
            "labels": [["a"], np.array(["a"])], "video": [[], frames], "unknown": [],
        }.items()
    },
    "explain(runner_ups)": (lambda x: model.explain(**mine, runner_ups=x), [np.int8(1), 10**6]),
    "stream(videos)": (lambda x: model.stream(x, labels), [[]]),
    "encode_videos(videos)": (lambda x: model.encode_videos(x), [[]]),
    "encode_videos(frames)": (lambda x: model.encode_videos(frames, frames=x), [None]),
    **{
        f"timeline({name})": (
            lambda x, name=name: model.timeline(**dict(video=clip, labels=labels) | {name: x}), good
        )
        for name, good in {
            "video": [], "window": [2.5, np.int8(1)], "stride": [None, 2.5], "frames": [None],
            "threshold": [0.5], "on_progress": [None], "on_error": [], "labels": [],
        }.items()
    },
    "encode_words": (model.encode_words, [["a", "b"]]),
    "encode_vocabulary": (model.encode_vocabulary, [["a", "b"]]),
    "check_labels": (model.check_labels, []),
    "encode_frames": (model.encode_frames, [frames]),
    "embed_video(pool)": (lambda x: model.embed_video(frames, pool=x), [None, "mean"]),
    "embed_video(on_error)": (lambda x: model.embed_video(frames, on_error=x), []),
    "embed_text": (model.embed_text, ["a", ["a", "a"], np.array(["a"])]),
    "embed_text(truncate)": (lambda x: model.embed_text("a", truncate=x), [np.True_]),
    "read_video": (vtd_jax.read_video, [clip]),
    "read_video(frames)": (lambda x: vtd_jax.read_video(clip, x), [np.int64(2)]),
    "read_video(size)": (lambda x: vtd_jax.read_video(clip, size=x), [np.int64(2), None]),
    "tokenize": (vtd_jax.tokenize, ["a", [], np.array(["a"])]),
    "tokenize(length)": (lambda x: vtd_jax.tokenize("a", context_length=x), [np.int64(9)]),
    "list_architectures": (lambda x: vtd_jax.list_architectures(weights=x), []),
    **{
        f"{call.__name__}({name})": (lambda x, call=call, name=name: call("tiny", **{name: x}), [])
        for call in (vtd_jax.load, vtd_jax.load_clip)
        for name in ("dtype", "activation", "head_width", "download")
    },
    **{
        f"load({name})": (lambda x, name=name: vtd_jax.load("tiny", **{name: x}), [])
        for name in ("clip", "checkpoint", "templates", "pooling", "cache", "devices")
    },
    "load": (vtd_jax.load, []), "load_clip": (vtd_jax.load_clip, []),
    "CLIPConfig.named": (vtd_jax.CLIPConfig.named, []),
    "CLIPConfig.from_dict": (vtd_jax.CLIPConfig.from_dict, []),
    "top": (seen.top, [np.int8(1)]), "rows": (seen.rows, []), "keyframes": (seen.keyframes, [0]),
    "plot(top)": (lambda x: seen.plot(top=x), [np.int8(1)]),
    "plot(title)": (lambda x: seen.plot(title=x), ["a"]),
    "save_html": (seen.save_html, ["a.html"]),
}
done = 0
for name, (call, good) in CALLS.items():
    for value in good:
        found = call(value)
        if hasattr(found, "__next__"):
            list(found)
    for value in WRONG:
        try:
            call(value)
        except UserError as error:
            assert "\n" not in str(error), name
            done += 1
        except Exception as error:
            print(f"{name}: {value!r}: {type(error).__name__}: {error}")
print("refused", done, "of", len(CALLS) * len(WRONG))
"""


@pytest.mark.slow
def test_every_public_call_refuses_what_it_cannot_take(tmp_path):
    """No call ends in an error of Python or NumPy, or leaves it to a later one."""
    path = make_video(tmp_path / "a.mp4", 5)
    env = os.environ | {"PYTHONPATH": str(ROOT), "VTD_JAX_DOWNLOAD": "0"}
    done = subprocess.run(
        [sys.executable, "-c", CALLS, str(path)],
        cwd=tmp_path, env=env, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    *others, last = done.stdout.splitlines()
    assert not others
    refused, calls = (int(word) for word in last.split()[1::2])
    assert refused > 0.85 * calls
