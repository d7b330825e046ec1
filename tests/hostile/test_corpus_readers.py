"""What can neither crash nor eat memory, through the readers: one line, within seconds."""

import shutil

import pytest

from hostile import harness
from hostile.corpus import records, texts, weights
from hostile.fuzzing.targets_videos import read_records
from vtd_jax.clip.weights.checkpoints import read_checkpoint
from vtd_jax.predict.words import read_words
from vtd_jax.train.workdir import read_config, read_training_list
from vtd_jax.video.lists.catalog import LabelSet, read_list


def _weights(write, name, folder):
    path = write(folder, name)
    asked = {} if write is weights.odd_setting else {"activation": "gelu", "head_width": 32}
    harness.check_call_refused(lambda: read_checkpoint(path, **asked), texts=[path.name])


@pytest.mark.parametrize("name", weights.TENSORS)
def test_tensors(name, tmp_path):
    _weights(weights.odd_tensor, name, tmp_path)


@pytest.mark.parametrize("name", weights.HEADERS)
def test_headers(name, tmp_path):
    _weights(weights.odd_header, name, tmp_path)


@pytest.mark.parametrize("name", ["head_width", "layers", "context"])
def test_settings(name, tmp_path):
    _weights(weights.odd_setting, name, tmp_path)


@pytest.mark.parametrize("name", records.TABLES | records.SHARDS)
def test_records(name, built, tmp_path):
    shutil.copytree(built / "records", tmp_path / "records")
    records.ALL[name](records.folder_of(tmp_path / "records"))
    harness.check_call_refused(lambda: read_records(tmp_path))


@pytest.mark.parametrize("name", texts.JSON)
def test_settings_and_lists_of_runs(name, tmp_path):
    for file, read in (("config.json", read_config), ("training_list.json", read_training_list)):
        (tmp_path / file).write_bytes(texts.JSON[name])
        if (name, file) != ("object", "training_list.json"):
            harness.check_call_refused(lambda read=read: read(tmp_path), texts=[file])


@pytest.mark.parametrize("name", texts.LABELS)
def test_labels(name, tmp_path):
    (tmp_path / "labels.csv").write_bytes(texts.LABELS[name])
    harness.check_call_refused(
        lambda: read_words(str(tmp_path / "labels.csv"), "--labels"), texts=["labels.csv"]
    )


@pytest.mark.parametrize("name", texts.PLACES)
def test_what_is_no_file(name, tmp_path):
    path = texts.replace_with(tmp_path / "labels.csv", name)
    harness.check_call_refused(lambda: read_words(str(path), "--labels"), texts=["labels.csv"])


@pytest.mark.parametrize("name", texts.PLACES)
def test_what_is_no_config(name, tmp_path):
    texts.replace_with(tmp_path / "config.json", name)
    harness.check_call_refused(lambda: read_config(tmp_path), texts=["config.json"])


@pytest.mark.parametrize("name", [name for name in texts.LISTS if name not in texts.OUTSIDE])
def test_lists(name, tmp_path):
    (tmp_path / "list.txt").write_bytes(texts.LISTS[name])
    labels = LabelSet(("red", "blue"), (0, 1), "labels.csv")
    harness.check_call_refused(lambda: read_list(tmp_path / "list.txt", labels), texts=["list.txt"])
