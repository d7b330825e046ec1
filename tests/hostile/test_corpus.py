"""Everything hostile through the commands: a right result or one line; what is of one area only is
in its own file.
"""

import shutil

import pytest

from hostile import harness
from hostile.corpus import records as corpus_records
from hostile.corpus import runs, texts, weights
from hostile.corpus import videos as corpus_videos
from support import small_run
from support.video_files import make_video

pytestmark = pytest.mark.command

# what reading one small file may take; some are decoded to their end
FEW = harness.Limits(cpu=15)


@pytest.mark.parametrize(
    "name", {**corpus_videos.CLAIMS, **corpus_videos.TEXTS, **corpus_videos.LONG}
)
def test_videos_are_named_or_refused(name, tmp_path):
    write = (corpus_videos.CLAIMS | corpus_videos.TEXTS | corpus_videos.LONG)[name]
    path, out = write(tmp_path), tmp_path / "out.json"
    window = ["--window=8"] if name in corpus_videos.LONG else []
    with harness.Listener() as listener:
        flags = [f"--video={path}", "--labels=red,blue", "--frames=2", f"--json={out}", *window]
        done = harness.check_safe(
            "predict", flags, folder=tmp_path, outputs=[out], limits=FEW, listener=listener
        )
    assert not done.refused or path.name in done.error


def test_names_are_names(tmp_path):
    with harness.Listener() as listener:
        corpus_videos.odd_names(tmp_path, listener.port)
        flags = ["--video=**/*.mp4", "--labels=red,blue", "--frames=2", "--csv=out.csv"]
        out = tmp_path / "out.csv"
        settings = dict(folder=tmp_path, cwd=tmp_path, outputs=[out], listener=listener, trace=True)
        harness.check_right("predict", flags, **settings)
    assert len(out.read_text().splitlines()) == 1 + len(corpus_videos.ODD_NAMES)


@pytest.mark.parametrize("on_error", ["skip", "fail"])
def test_a_hostile_video_stops_no_build(on_error, tmp_path):
    source = tmp_path / "source"
    for label in ("red", "blue"):
        (source / label).mkdir(parents=True)
        make_video(source / label / "good.mp4", 4)
    for write in (
        *corpus_videos.CLAIMS.values(),
        corpus_videos.mp4_many_samples,
        corpus_videos.mkv_late,
    ):
        write(source / "red")
    records = tmp_path / "records"
    flags = [
        f"--source={source}",
        f"--data_dir={records}",
        f"--on_error={on_error}",
        "--workers=1",
        "--name=all",
    ]
    settings = dict(folder=tmp_path, outputs=[records], limits=harness.Limits(cpu=60))
    if on_error == "skip":
        harness.check_right("build_data", flags, **settings)
    else:
        harness.check_refused("build_data", flags, also=[r"video_folder: .*"], **settings)


@pytest.mark.parametrize(
    "write",
    [
        weights.nested_modules,
        weights.acting_name,
        lambda folder: weights.acting_name(folder, 200_000),
        lambda folder: weights.odd_tensor(folder, "empty_and_huge"),
        lambda folder: weights.odd_header(folder, "brackets"),
    ],
    ids=["nested", "acting", "acting_long", "tensor", "header"],
)
def test_weights_are_refused(write, tmp_path):
    path = write(tmp_path)
    flags = [
        f"--source={path}",
        f"--out={tmp_path}/out.safetensors",
        "--activation=gelu",
        "--head_width=32",
    ]
    harness.check_refused("convert", flags, folder=tmp_path, texts=[path.name], limits=FEW)


@pytest.mark.parametrize(
    "name", ["dtype", "path", "frames", "text_prompts", "visual_prompts", "names"]
)
def test_exported_models_are_refused(name, tmp_path):
    path = weights.odd_setting(tmp_path, name)
    video = make_video(tmp_path / "a.mp4", 4)
    flags = [f"--model={path}", f"--video={video}", f"--clip={tmp_path}/clip.safetensors"]
    # the rest of a file may be sound: a CLIP that was named by hand needs no path of the file's
    done = harness.check_safe("predict", flags, folder=tmp_path, texts=[path.name], limits=FEW)
    assert done.refused or name in ("dtype", "path")


@pytest.mark.parametrize(
    "name", [*corpus_records.CODE, *corpus_records.HEAVY, "many_shards", "list_names_acting"]
)
def test_records_are_refused(name, built, tmp_path):
    shutil.copytree(built / "records", tmp_path / "records")
    corpus_records.ALL[name](corpus_records.folder_of(tmp_path / "records"))
    _show(tmp_path, trace=name in corpus_records.CODE)


@pytest.mark.parametrize("name", corpus_records.VIDEOS)
def test_records_of_whole_files_are_refused(name, built_whole, tmp_path):
    shutil.copytree(built_whole / "records", tmp_path / "records")
    corpus_records.VIDEOS[name](corpus_records.folder_of(tmp_path / "records"))
    _show(tmp_path)


def _show(folder, trace=False):
    out, environment = (
        folder / "out.png",
        harness.small_run_environment() | {"PYTHONPATH": str(folder)},
    )
    flags = [
        f"--data_dir={folder}/records",
        "--name=list",
        "--index=2",
        "--draws=1",
        "--size=32",
        f"--out={out}",
    ]
    settings = dict(folder=folder, cwd=folder, env=environment, outputs=[out], limits=FEW)
    harness.check_refused("show_batch", flags, trace=trace, **settings)


@pytest.mark.parametrize("name", runs.EVALUATED)
def test_run_folders_are_evaluated_or_refused(name, workdir, tmp_path):
    runs.EVALUATED[name](workdir)
    harness.check_safe("evaluate", [f"--workdir={workdir}"], folder=tmp_path, outputs=[workdir])


@pytest.mark.parametrize("name", runs.RESUMED)
def test_run_folders_are_resumed_or_refused(name, workdir, small, tmp_path):
    runs.RESUMED[name](workdir)
    flags = [*small_run.flags(small), f"--workdir={workdir}", "--config.optimizer.epochs=1"]
    harness.check_safe("train", flags, folder=tmp_path, outputs=[workdir])


def test_any_name_is_a_name_of_a_workdir(trained, tmp_path):
    workdir = shutil.copytree(trained, tmp_path / runs.NAME)
    harness.check_right("evaluate", [f"--workdir={workdir}"], folder=tmp_path, outputs=[workdir])


@pytest.mark.parametrize("name", texts.OUTSIDE)
def test_lists_stay_in_their_folder(name, tmp_path):
    make_video(tmp_path / "secret.mp4", 4)
    videos, records = tmp_path / "some" / "videos", tmp_path / "records"
    videos.mkdir(parents=True)
    make_video(videos / "a.mp4", 4)
    (tmp_path / "list.txt").write_bytes(texts.LISTS[name])
    (tmp_path / "labels.csv").write_text("id,name\n0,red\n1,blue\n")
    flags = [
        f"--list={tmp_path}/list.txt",
        f"--labels={tmp_path}/labels.csv",
        f"--video_dir={videos}",
        "--workers=1",
    ]
    settings = dict(folder=tmp_path, outputs=[records], limits=FEW, texts=["list.txt:"])
    harness.check_refused("build_data", [*flags, f"--data_dir={records}"], **settings)
