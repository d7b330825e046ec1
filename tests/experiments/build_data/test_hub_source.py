"""`--source=hf:ORG/DATASET`: what a data set of the hub becomes, against a server on loopback."""

import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from experiments.build_data.hub import resolved
from support.hub.allowed import allowed_hub
from support.hub.server import Fault
from support.video_files import make_video, write_catalog
from vtd_jax.console import consent
from vtd_jax.errors import UserError
from vtd_jax.video.ingest.config import BuildConfig
from vtd_jax.video.ingest.records import build_records
from vtd_jax.video.records import open_records

ROOT = Path(__file__).resolve().parents[3]
NAME, REPOSITORY = "hf:org/set", "datasets/org/set"
CLASSES = ["hug", "arm_wrestling"]
VIDEO = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """An empty cache and a hub; downloads are allowed."""
    with allowed_hub(monkeypatch, tmp_path) as found:
        yield found


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Four small videos, no two of which are alike."""
    folder = tmp_path_factory.mktemp("videos")
    for place in range(4):
        make_video(folder / f"{place}.mp4", 8 + place)
    return [(folder / f"{place}.mp4").read_bytes() for place in range(4)]


def table(tmp_path, rows, classes=CLASSES, label=None, **options) -> bytes:
    """A Parquet file as `datasets` writes it: rows of (bytes, path, label)."""
    label = label or (pa.int64() if classes else pa.string())
    columns = {
        "video": pa.array([{"bytes": data, "path": path} for data, path, _ in rows], VIDEO),
        "label": pa.array([value for *_, value in rows], label),
    }
    about = {"video": {"_type": "Video"}}
    if classes:
        about["label"] = {"names": classes, "_type": "ClassLabel"}
    text = json.dumps({"info": {"features": about}})
    made = pa.table(columns).replace_schema_metadata({"huggingface": text})
    pq.write_table(made, tmp_path / "made.parquet", **options)
    return (tmp_path / "made.parquet").read_bytes()


def lists_of(config) -> dict[str, list[str]]:
    """Lines of each list."""
    return {
        Path(name).name: Path(name).read_text(encoding="utf-8").splitlines()
        for name, _ in config.lists
    }


def config(source=NAME, **settings) -> BuildConfig:
    return BuildConfig(name="set", source=source, storage="video", **settings)


def test_parquet_becomes_records_with_the_hubs_splits(hub, videos, tmp_path, capfd):
    train = [(videos[0], "a#1.avi", 0), (videos[1], "b.mp4", 1)]
    # the same name twice, and one whose label is kept secret
    test = [(videos[2], "b.mp4", 0), (videos[3], "b.mp4", 1), (videos[0], "c.mp4", -1)]
    files = {
        "README.md": b"#",
        "data/train-00000-of-00001.parquet": table(tmp_path, train),
        "data/test-00000-of-00001.parquet": table(tmp_path, test, row_group_size=2),
        "labels/train-00000-of-00001.parquet": table(tmp_path, train),
    }
    hub.add(REPOSITORY, files)
    hub.cards[REPOSITORY] = {"license": "cc-by-4.0"}
    found = resolved(config())
    assert lists_of(found) == {
        "test.txt": ["test-videos/b.mp4 0", "test-videos/0000001-b.mp4 1"],
        "train.txt": ["train-videos/a#1.avi 0", "train-videos/b.mp4 1"],
    }
    assert hub.gets("/resolve/") == 2, "not the README, nor another configuration"
    build_records(found, tmp_path / "records")
    records = open_records(tmp_path / "records", "test")
    assert records.class_names == tuple(CLASSES)
    assert sorted(example.label for example in records) == [0, 1]
    # the cache is asked first; what was unpacked needs no table any more
    for blob in tmp_path.rglob("blobs/*"):
        blob.unlink()
    hub.requests.clear()
    assert resolved(config()) == found
    assert hub.requests == []


def test_the_licence_and_the_size_are_said_before_anything_comes(hub, videos, tmp_path, caplog):
    caplog.set_level("INFO")
    content = table(tmp_path, [(videos[0], "a.mp4", 0)])
    hub.add(REPOSITORY, {"data/train-00000-of-00001.parquet": content})
    hub.cards[REPOSITORY] = {"license": ["cc-by-nc-4.0", "\x1b[31mother"]}
    resolved(config())
    lines = [record.message for record in caplog.records]
    assert lines[0].startswith("hf:org/set: its card names the licence 'cc-by-nc-4.0, \\x1b[31m")
    assert "is for you to check" in lines[0]
    assert lines[1].startswith(f"hf:org/set: downloading {len(content) / 1e3:.1f} kB from http")
    # a card of another form says nothing
    hub.cards["datasets/org/other"] = {
        "license": 5,
        "dataset_info": [5, {"features": [{"name": 1}]}],
    }
    hub.add("datasets/org/other", {"data/train-00000-of-00001.parquet": content})
    caplog.clear()
    resolved(config("hf:org/other"))
    assert "its card names no licence" in caplog.records[0].message


@pytest.mark.parametrize("allowed", ["", "0"])
def test_nothing_is_asked_for_without_consent(hub, monkeypatch, allowed):
    monkeypatch.setenv("VTD_JAX_DOWNLOAD", allowed)
    with pytest.raises(UserError, match=r"hf:org/set: not on this machine; .*VTD_JAX_DOWNLOAD=1"):
        resolved(config())
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError, match="HF_HUB_OFFLINE forbids"):
        resolved(config())
    assert hub.requests == []


def test_a_person_is_asked_again_once_the_size_is_known(hub, videos, tmp_path, monkeypatch):
    content = table(tmp_path, [(videos[0], "a.mp4", 0)])
    hub.add(REPOSITORY, {"train.parquet": content})
    monkeypatch.delenv("VTD_JAX_DOWNLOAD")
    asked = []
    monkeypatch.setattr(consent, "_has_terminal", lambda: True)
    monkeypatch.setattr(consent, "_ask", lambda text: asked.append(text) or len(asked) < 2)
    with pytest.raises(UserError, match=rf"not downloaded: {len(content) / 1e3:.1f} kB from http"):
        resolved(config())
    assert "only the hub knows its size" in asked[0]
    assert len(asked) == 2
    assert hub.gets("/resolve/") == 0


def test_only_the_wanted_splits_come(hub, videos, tmp_path):
    one, other = (table(tmp_path, [(videos[i], f"{i}.mp4", 0)]) for i in (0, 1))
    files = {"default/train/0000.parquet": one, "default/test/0000.parquet": other}
    hub.add(REPOSITORY, files, revision="refs/convert/parquet")
    hub.add(REPOSITORY, {"x": b""})
    name = f"{NAME}@refs/convert/parquet"
    found = resolved(config(name, only=("te*",)))
    assert lists_of(found) == {"test.txt": ["test-videos/1.mp4 0"]}
    assert hub.gets("/lfs/") == 1
    assert set(lists_of(resolved(config(name)))) == {"train.txt", "test.txt"}
    assert hub.gets("/lfs/") == 2
    with pytest.raises(UserError, match=r"none of the splits .*there: test, train"):
        resolved(config(name, only=("novel_*",)))


def test_configurations_are_chosen_by_folder(hub, videos, tmp_path):
    one, other = (table(tmp_path, [(videos[i], f"{i}.mp4", 0)]) for i in (0, 1))
    hub.add(REPOSITORY, {"a/train-00000-of-00001.parquet": one, "b/train.parquet": other})
    with pytest.raises(UserError, match=r"several configurations \(a, b\); name one, as hf:org/"):
        resolved(config())
    assert lists_of(resolved(config(f"{NAME}/b")))["train.txt"] == ["train-videos/1.mp4 0"]


def test_class_folders_and_tables_of_files(hub, videos):
    hub.add(REPOSITORY, {f"data/test/{CLASSES[i]}/{i}.mp4": videos[i] for i in (0, 1)})
    found = resolved(config())
    assert lists_of(found) == {"test.txt": ["test-videos/1.mp4 0", "test-videos/0.mp4 1"]}
    hub.add("datasets/org/csv", {
        "metadata.csv": b'file_name,label\nclips/0.mp4,"hug, long"\nclips/gone.mp4,wave\n',
        "clips/0.mp4": videos[0],
    })  # fmt: skip
    found = resolved(config("hf:org/csv"))
    lines = ["train-videos/0.mp4 0", "train-videos/missing-0000001-gone.mp4 1"]
    assert lists_of(found) == {"train.txt": lines}
    hub.add("datasets/org/lines", {
        "val/metadata.jsonl": b'{"file_name": "0.mp4", "label": 1}\n',
        "val/0.mp4": videos[0],
    })  # fmt: skip
    names = {"name": "label", "dtype": {"class_label": {"names": {"0": "a", "1": "b"}}}}
    hub.cards["datasets/org/lines"] = {"dataset_info": {"features": [names]}}
    found = resolved(config("hf:org/lines"))
    assert lists_of(found) == {"validation.txt": ["validation-videos/0.mp4 1"]}


def test_labels_may_be_texts_and_videos_lie_beside(hub, videos, tmp_path):
    rows = [(None, "clips/0.mp4", "wave"), (videos[1], None, "hug"), (None, "../../x.mp4", "hug")]
    content = table(tmp_path, rows, classes=None)
    hub.add(REPOSITORY, {"train.parquet": content, "clips/0.mp4": videos[0]})
    found = resolved(config())
    assert lists_of(found) == {"train.txt": [
        "train-videos/0.mp4 1", "train-videos/video.mp4 0", "train-videos/missing-0000002-x.mp4 0",
    ]}  # fmt: skip
    # one that is missing is the build's matter
    with pytest.raises(UserError, match=r"train\.txt:3: .*there is no such video file"):
        build_records(found, tmp_path / "records")
    found.on_error = "skip"
    assert build_records(found, tmp_path / "records").missing == 1


def test_lists_of_the_users_take_the_place_of_the_hubs(hub, videos, tmp_path):
    rows = [(videos[i], f"{i}.mp4", 0) for i in (0, 1)]
    hub.add(REPOSITORY, {"train.parquet": table(tmp_path, rows)})
    mine, labels = write_catalog(tmp_path, ["1.mp4 1"], stem="base_mine")
    found = resolved(config(lists=((str(mine), str(labels)),), only=("base_*",)))
    assert build_records(found, tmp_path / "records").added == ("base_mine",)
    assert len(open_records(tmp_path / "records", "base_mine")) == 1
    with pytest.raises(UserError, match=r"video_dir=x.?: the videos are those of hf:org/set"):
        resolved(config(video_dir="x"))


def test_numbers_need_names(hub, videos, tmp_path):
    content = table(tmp_path, [(videos[0], "a.mp4", 1)], classes=None, label=pa.int32())
    hub.add(REPOSITORY, {"train.parquet": content})
    with pytest.raises(UserError, match=r"labels in column 'label' .* are numbers, and neither"):
        resolved(config())
    names = {"name": "label", "dtype": {"class_label": {"names": ["a", "b"]}}}
    hub.add("datasets/org/card", {"train.parquet": content})
    hub.cards["datasets/org/card"] = {"dataset_info": [{"features": [names]}]}
    assert lists_of(resolved(config("hf:org/card"))) == {"train.txt": ["train-videos/a.mp4 1"]}


def test_an_interrupted_download_and_unpacking_resume(hub, videos, tmp_path):
    rows = [(videos[i], f"{i}.mp4", 0) for i in range(4)]
    content = table(tmp_path, rows, row_group_size=1)
    hub.add(REPOSITORY, {"train.parquet": content})
    hub.faults.append(Fault("/lfs/", "abort", times=1, after=len(content) // 2))
    found = resolved(config())
    assert any(ranged for *_, ranged in hub.requests), "continued where it ended"
    Path(found.source, "whole.json").unlink()
    first = Path(found.source, "train-videos", "0.mp4")
    before = first.stat().st_ino
    hub.requests.clear()
    assert resolved(config()) == found
    assert first.stat().st_ino == before, "what is there is not written again"
    assert hub.requests == []


def test_private_sets_say_where_the_token_goes(hub, videos, tmp_path, monkeypatch):
    hub.add(REPOSITORY, {"train.parquet": table(tmp_path, [(videos[0], "a.mp4", 0)])})
    hub.token = "hf_secret"
    with pytest.raises(UserError, match=r"datasets/org/set, or a private one: .*set HF_TOKEN"):
        resolved(config())
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert lists_of(resolved(config()))["train.txt"]
    hub.faults.append(Fault("/api/", "status", status=403, code="GatedRepo"))
    with pytest.raises(UserError, match=r"gated: accept its terms at http.*/datasets/org/set"):
        resolved(config(f"{NAME}@{'a' * 40}"))


@pytest.mark.parametrize("name", ["hf:set", "hf:org/set/../x", "hf:org/set@../x", "hf:org/a b"])
def test_other_names_are_refused(hub, name):
    with pytest.raises(UserError, match="expected hf:ORG/DATASET, hf:ORG/DATASET@REVISION or"):
        resolved(config(name))
    assert hub.requests == []


@pytest.mark.parametrize(
    "values, said",
    [
        ({"label": [0]}, "no one column of videos, .*'label' .number."),
        ({"video": [b"x"]}, "no one column of labels"),
        ({"video": [5], "label": [0.5]}, "no one column of videos"),
        ({"video": [b"x"], "image": [b"y"], "label": ["a\x1b[31m"]}, r"'a\\x1b.31m' is no name"),
        ({"video": [b"x"], "label": [""]}, "no video with a label"),
    ],
)
def test_hostile_tables_are_one_line(hub, tmp_path, values, said):
    pq.write_table(pa.table(values), tmp_path / "made.parquet")
    hub.add(REPOSITORY, {"train.parquet": (tmp_path / "made.parquet").read_bytes()})
    with pytest.raises(UserError, match=rf"hf:org/set: .*{said}"):
        resolved(config())


@pytest.mark.parametrize(
    "label, classes, said",
    [
        (2, CLASSES, "row 0: class 2, and there are 2 class names"),
        (-7, CLASSES, "row 0: class -7, and there are 2 class names"),
        (0, ["a\nb", "c"], "is no name of a class"),
    ],
)
def test_hostile_labels_are_one_line(hub, tmp_path, label, classes, said):
    hub.add(REPOSITORY, {"train.parquet": table(tmp_path, [(b"x", "a", label)], classes)})
    with pytest.raises(UserError, match=rf"hf:org/set: .*{said}"):
        resolved(config())


def test_names_in_tables_are_no_paths(hub, tmp_path):
    names = ["../../../evil.mp4", "/etc/passwd", "a\\..\\b.mp4", ".hidden", "..", "", "\x1b]0;.mp4"]
    names += ["é" * 200 + ".mp4", "x" * 5000, "a\nb 0.mp4"]
    rows = [(b"no video", name, 0) for name in names] + [(None, name, 0) for name in names]
    made = table(tmp_path, rows)
    hub.add(REPOSITORY, {"train.parquet": made, "../../up.mp4": b"", "/x.mp4": b""})
    found = resolved(config())
    tops = {path.name for path in tmp_path.iterdir()}
    assert tops == {"made.parquet", "cache", "hf"}
    assert not list(tmp_path.parent.glob("*.mp4"))
    lines = lists_of(found)["train.txt"]
    assert len(lines) == len(set(lines)) == 2 * len(names)
    there = sorted(path.name for path in Path(found.source, "train-videos").iterdir())
    assert len(there) == len(names)
    assert all(name.isprintable() and not name.startswith(".") for name in there)
    # every row is an entry of the list, whose file is there or missing
    with pytest.raises(UserError, match=r"train\.txt:11: .*no such video file"):
        build_records(found, tmp_path / "records")


def test_what_differs_or_is_too_large_is_refused(hub, tmp_path, videos, monkeypatch):
    rows = [(videos[0], "a.mp4", 0)]
    files = {"a-00000-of-00001.parquet": table(tmp_path, rows)}
    files["b.parquet"] = table(tmp_path, rows, ["other", "names"])
    hub.add(REPOSITORY, files)
    with pytest.raises(UserError, match=r"b.parquet has other classes than a-00000-of-"):
        resolved(config())
    monkeypatch.setattr("vtd_jax.clip.hub.data_sets.DATA_SET_BYTES", 10)
    hub.add("datasets/org/large", files)
    with pytest.raises(UserError, match=r"hf:org/large: [\d,]+ bytes, expected at most 10"):
        resolved(config("hf:org/large"))
    assert hub.gets("/lfs/") == 2
    hub.add("datasets/org/none", {"a.tar": b"x", "README.md": b""})
    with pytest.raises(UserError, match=r"neither Parquet files nor videos; there: README.md, a.t"):
        resolved(config("hf:org/none"))


@pytest.mark.command
def test_the_command_names_its_flag_and_then_builds(hub, videos, tmp_path, monkeypatch):
    monkeypatch.delenv("VTD_JAX_DOWNLOAD")
    hub.add(REPOSITORY, {"train.parquet": table(tmp_path, [(videos[0], "a.mp4", 1)])})
    call = [sys.executable, "-m", "experiments.build_data", f"--source={NAME}@main"]
    call.append(f"--data_dir={tmp_path / 'records'}")
    how = dict(capture_output=True, text=True, cwd=ROOT, stdin=subprocess.DEVNULL, timeout=300)
    refused = subprocess.run(call, **how)
    assert refused.returncode == 2
    assert "not on this machine; --download or VTD_JAX_DOWNLOAD=1" in refused.stderr
    assert hub.requests == []
    done = subprocess.run([*call, "--download"], **how)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == "train (given list; 1 video)"
    assert f"wrote {tmp_path}/records/video_folder/set/1.0.0: 1 video, 2 classes, " in done.stdout
    assert "its card names no licence" in done.stderr
