"""Configs: the release's settings against the written table, arguments, and what is refused."""

import importlib
import re

import pytest
from ml_collections import ConfigDict

from experiments.configs import (
    _base,
    _templates,
    base_to_novel,
    few_shot,
    fully_supervised,
    scenes,
    video_folder,
    zero_shot,
)
from vtd_jax.errors import UserError
from vtd_jax.train.config import RunConfig

FILES = (base_to_novel, few_shot, fully_supervised, scenes, video_folder, zero_shot)
NAMES = {"HMDB-51": "hmdb51", "UCF-101": "ucf101", "SSv2": "ssv2", "K-400": "kinetics400"}
EVERY = [
    *((base_to_novel, data) for data in base_to_novel.RELEASE),
    *((base_to_novel, f"{data},shots=16,split=3") for data in base_to_novel.RELEASE),
    *((few_shot, f"{data},shots={shots}") for data, shots in few_shot.RELEASE),
    *((few_shot, f"{data},val=3") for data in few_shot.THREE),
    *((zero_shot, data) for data in zero_shot.OFFICIAL),
    *((zero_shot, f"{data},lists=base_to_novel") for data in base_to_novel.RELEASE),
    *((zero_shot, f"ucf101,templates={name}") for name in _templates.shipped()),
    (fully_supervised, "kinetics400"),
    (video_folder, "train=mine,evaluate=theirs"),
    (scenes, ""),
]


def _of_run(run: str) -> list[ConfigDict]:
    """The configs that a row of the written table is about, e.g. `few-shot HMDB-51 4, 16`."""
    protocol, data, *shots = run.split()
    if protocol == "fully":
        return [fully_supervised.get_config("kinetics400")]
    if protocol == "base-to-novel":
        return [base_to_novel.get_config(NAMES[data])]
    return [few_shot.get_config(f"{NAMES[data]},shots={count.strip(',')}") for count in shots]


@pytest.mark.shared
def test_every_release_setting_is_the_written_one(shared_dir):
    text = (shared_dir / "spec" / "benchmarks.md").read_text()
    table = re.search(r"## Release settings.*?\n(\|.*?)\n\n", text, re.S).group(1).splitlines()[2:]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table]
    assert len(rows) == 16
    seen = set()
    for run, frames, prompts, depth, epochs, lr, batch, cosine, min_lr_factor, step in rows:
        for config in _of_run(run.replace("fully supervised", "fully")):
            seen.add(config.name)
            model, optimizer = config.model, config.optimizer
            assert config.data.frames == int(frames)
            assert model.text_prompts == model.visual_prompts == int(prompts)
            assert model.text_depth == model.visual_depth == int(depth)
            assert (optimizer.epochs, optimizer.lr) == (int(epochs), float(lr))
            assert [config.data.batch_size, optimizer.gradient_accumulation_steps] == [
                int(n) for n in batch.split("×")
            ]
            assert (optimizer.cosine_epochs, optimizer.min_lr_factor) == (
                float(cosine),
                float(min_lr_factor),
            )
            assert (optimizer.step_factor, optimizer.step_interval_epochs) == (float(step), 5)
            assert (optimizer.warmup_epochs, optimizer.weight_decay) == (5, 0.001)
            assert (model.normalization, model.assignment, model.fusion_init) == (
                "imagenet",
                "euclidean",
                "release",
            )
    assert len(seen) == 17


@pytest.mark.shared
def test_named_records_are_lists_of_the_field(shared_dir):
    stems = {path.stem for path in (shared_dir / "splits").rglob("*.txt")}
    # the full Kinetics-400 lists are too large to be kept there, and its base list with them
    stems |= {"train", "base_train"}
    for file, text in EVERY[:-2]:
        data = file.get_config(text).data
        assert {data.train, *data.evaluate.values()} - {""} <= stems, text


@pytest.mark.parametrize(
    "file, text", EVERY, ids=lambda value: getattr(value, "__name__", value).split(".")[-1]
)
def test_every_config_is_locked_and_sound(file, text):
    config = file.get_config(text) if text else file.get_config()
    run = RunConfig.from_dict(config.to_dict())
    assert RunConfig.from_dict(run.to_dict()) == run
    for group in (config, config.model, config.data, config.data.evaluate):
        with pytest.raises((KeyError, AttributeError)):
            group.no_such_field = 1


@pytest.mark.parametrize(
    "file, text, fingerprint",
    [
        (base_to_novel, "hmdb51", "33fb34e0042d"),
        (few_shot, "ucf101,shots=8", "43621e429ff3"),
        (zero_shot, "ucf101", "30fca9fc6512"),
        (scenes, "", "9eeeaf2ad2c7"),
    ],
)
def test_fingerprints_are_those_of_earlier_versions(file, text, fingerprint):
    """Tables, checkpoints and exported files that earlier versions wrote have 12 of the digits."""
    config = file.get_config(text)
    # theirs; zero_shot.py has another one now
    config.data.preprocess = "release"
    found = RunConfig.from_dict(config.to_dict()).fingerprint
    assert found[:12] == fingerprint


@pytest.mark.parametrize(
    "file, text, preprocess",
    [
        (base_to_novel, "hmdb51", "release"),
        (few_shot, "ucf101,shots=8", "release"),
        (zero_shot, "ucf101", "clip"),
        (zero_shot, "hmdb51,lists=base_to_novel,templates=actionclip16", "clip"),
        (scenes, "", "release"),
        (scenes, "zero_shot", "clip"),
    ],
)
def test_clip_as_it_is_sees_frames_as_its_images_were(file, text, preprocess):
    config = file.get_config(text)
    assert config.data.preprocess == preprocess
    # what was learnt on takes its own way of scaling along
    learnt = RunConfig.from_dict(base_to_novel.get_config("hmdb51").to_dict())
    lent = learnt.on_other_videos(RunConfig.from_dict(config.to_dict()), {"model.templates": ()})
    assert lent.data.preprocess == "release"


def test_names_are_different():
    names = [file.get_config(text).name for file, text in EVERY]
    halves = [name for name in names if name.startswith("base_to_novel_kinetics400")]
    assert len(set(names)) == len(names)
    assert halves == ["base_to_novel_kinetics400_16shot_s1", "base_to_novel_kinetics400_16shot_s3"]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.__name__.split(".")[-1])
def test_docstrings_give_command_and_expected_number(file):
    stem = file.__name__.split(".")[-1]
    assert (
        f"python -m experiments.{'evaluate' if file is zero_shot else 'train'} --config="
        in file.__doc__
    )
    assert f"experiments/configs/{stem}.py" in file.__doc__
    assert "Expected" in file.__doc__
    assert importlib.import_module(f"experiments.configs.{stem}") is file


def test_what_is_learnt_on():
    assert base_to_novel.get_config("hmdb51").data.train == "base_train"
    assert base_to_novel.get_config("ssv2").data.train == "fs_base_s1_train"
    seed = base_to_novel.get_config("ucf101,shots=16,split=2")
    assert (seed.data.train, seed.shots, seed.name) == (
        "fs_base_s2_train",
        16,
        "base_to_novel_ucf101_16shot_s2",
    )
    everything = base_to_novel.get_config("ssv2,shots=all")
    assert (everything.data.train, everything.shots) == ("base_train", 0)
    assert few_shot.get_config("ssv2,shots=4").data.train == "train1_few_shot_4"
    one, three = (few_shot.get_config(f"hmdb51,shots=4,val={count}") for count in (1, 3))
    assert one == few_shot.get_config("hmdb51,shots=4")
    assert one.data.evaluate.to_dict() == {"val": "val1"}
    splits = zero_shot.get_config("hmdb51").data.evaluate.to_dict()
    assert three.data.evaluate.to_dict() == splits
    assert (three.name, three.data.train) == ("few_shot_hmdb51_4_val3", one.data.train)
    mine = video_folder.get_config("train=a,evaluate=b").data
    assert (mine.train, mine.evaluate.val) == ("a", "b")
    assert fully_supervised.get_config().evaluate.to_dict() | {"every_epochs": 10} == {
        "temporal_views": 4,
        "spatial_views": 3,
        "batch_size": 16,
        "every_epochs": 10,
        "store_features": True,
    }


def test_zero_shot_learns_nothing():
    config = zero_shot.get_config("ucf101")
    assert (config.data.train, config.model.text_prompts, config.model.fusion) == ("", 0, False)
    assert config.data.evaluate.to_dict() == {"split1": "val1", "split2": "val2", "split3": "val3"}
    assert config.model.normalization == "clip"


@pytest.mark.parametrize(
    "file, text, message",
    [
        (base_to_novel, "hmdb", "'hmdb' is not one of hmdb51, ucf101"),
        (base_to_novel, "hmdb51,shots=8", "'8' is not one of all, 16"),
        (
            base_to_novel,
            "hmdb51,shotz=16",
            "'shotz=16' is not known, expected base_to_novel:hmdb51",
        ),
        (base_to_novel, "hmdb51,split=2", "add shots=16"),
        (
            base_to_novel,
            "",
            "config argument dataset is missing: expected base_to_novel:hmdb51|ucf101|",
        ),
        (base_to_novel, "shots=16", "config argument dataset is missing"),
        (
            few_shot,
            "shots=2",
            "config argument dataset is missing: expected few_shot:hmdb51|ucf101|ssv2",
        ),
        (zero_shot, "", "config argument dataset is missing: expected zero_shot:hmdb51|"),
        (
            zero_shot,
            "hmdb51,templates={} or {}",
            "templates={} or {}: expected {} once, where the class name goes",
        ),
        (few_shot, "kinetics400", "is not one of hmdb51, ucf101, ssv2"),
        (few_shot, "hmdb51,shots=", "'shots=' is not known"),
        (few_shot, "hmdb51,ucf101", "'ucf101' is not known"),
        (few_shot, "hmdb51,val=2", "'2' is not one of 1, 3"),
        (few_shot, "ssv2,val=3", "val=3: ssv2 has one validation list; leave val=3 out"),
        (zero_shot, "kinetics600,lists=base_to_novel", "no base and novel lists"),
        (
            scenes,
            "large",
            "'large' is not one of base_to_novel, few_shot, zero_shot, fully_supervised",
        ),
        (
            zero_shot,
            "hmdb51,templates=clip80",
            "templates=clip80: no such file; expected one of actionclip16, video_of_a_pers",
        ),
        (zero_shot, "hmdb51,templates=no/such.txt", "templates=no/such.txt: no such file"),
    ],
)
def test_wrong_arguments(file, text, message):
    with pytest.raises(UserError, match=re.escape(message)):
        file.get_config(text)


def test_arguments_are_read_in_order():
    args = _base.read_args("x,n=3", usage="u", word=str, n=int)
    assert args == {"word": "x", "n": 3}
    assert _base.read_args("", usage="u", word=str) == {}
    with pytest.raises(UserError, match=r"n=y': is no whole number; expected u"):
        _base.read_args("x,n=y", usage="u", word=str, n=int)


def test_the_templates_that_are_shipped():
    """Texts as published; a class name goes into each once."""
    assert _templates.shipped() == ["actionclip16", "video_of_a_person"]
    stem, texts = _templates.read_templates("actionclip16")
    assert (stem, len(texts), len(set(texts))) == ("actionclip16", 16, 16)
    assert {"{}", "Playing a kind of action, {}", "Can you recognize the action of {}?"} < set(
        texts
    )
    _, texts = _templates.read_templates("video_of_a_person")
    assert (len(texts), len(set(texts))) == (48, 48)
    assert {"a video of a person {}.", "a example of the person practicing {}."} < set(texts)
    for name in _templates.shipped():
        head = (_templates.FOLDER / f"{name}.txt").read_text().splitlines()[:2]
        assert all(line.startswith("# ") for line in head)
        assert "arXiv" in head[0]
        assert "MIT licence" in head[1]


def test_templates_go_into_the_config(tmp_path):
    path = tmp_path / "mine.txt"
    path.write_text("# of my own\n\n  a clip of {}.\n{}, a = b\n")
    config = zero_shot.get_config(f"hmdb51,templates={path}")
    path.unlink()
    assert config.name == "zero_shot_hmdb51_mine"
    assert RunConfig.from_dict(config.to_dict()).model.templates == ("a clip of {}.", "{}, a = b")
    config = zero_shot.get_config("hmdb51,lists=base_to_novel,templates=actionclip16")
    assert config.name == "zero_shot_hmdb51_halves_actionclip16"
    assert zero_shot.get_config("hmdb51").model.templates == ()
    inline = zero_shot.get_config("hmdb51,templates=a video of {}.")
    assert (inline.name, inline.model.templates) == ("zero_shot_hmdb51_inline", ("a video of {}.",))


@pytest.mark.parametrize(
    "content, message",
    [
        (b"# nothing\n\n", "t.txt: no templates in it, expected one text a line"),
        (
            b"a {}\n\nno name\n",
            "t.txt, line 3: 'no name', expected {} once, where the class name goes",
        ),
        (b"{} and {}\n", "t.txt, line 1: '{} and {}', expected {} once"),
        (b"\xff\xfe{}\n", "t.txt: byte 0 is not UTF-8; save the file of templates as UTF-8"),
    ],
)
def test_files_of_templates_that_are_refused(tmp_path, content, message):
    (tmp_path / "t.txt").write_bytes(content)
    with pytest.raises(UserError, match=re.escape(message)):
        zero_shot.get_config(f"hmdb51,templates={tmp_path / 't.txt'}")


def test_published_numbers_are_in_one_place():
    """Docstrings name the module that has them, and repeat none."""
    for file in (base_to_novel, few_shot, fully_supervised, zero_shot):
        expected = file.__doc__.split("Expected")[1]
        assert "`vtd_jax.evaluate.published`" in expected, file.__name__
        assert not re.search(r"\d+\.\d\b", expected), file.__name__
