"""An index over years: small shards are merged, dead ones removed; killed anywhere, it is whole."""

import json
import os

import numpy as np
import pytest
from retrieval.conftest import predictor

from support.small_model import LABELS
from vtd_jax.errors import UserError
from vtd_jax.predict.predictor import Predictor
from vtd_jax.retrieval import build as building
from vtd_jax.retrieval import store, writer
from vtd_jax.retrieval.build import build
from vtd_jax.retrieval.encoder import encoder_fingerprint
from vtd_jax.retrieval.index import Index
from vtd_jax.retrieval.reader import Changed
from vtd_jax.retrieval.shard_files import Row, rows_of
from vtd_jax.retrieval.store import Contents, read_contents, write_contents
from vtd_jax.retrieval.writer import Writer

FRAMES = 2


class Stop(Exception):
    """As a process that is killed."""


@pytest.fixture
def folder(tmp_path, plain, monkeypatch):
    """An empty index, with shards of four clips."""
    monkeypatch.setattr(store, "_CLIPS", 4)
    width = plain.model.clip.config.embed_dim
    write_contents(
        tmp_path,
        Contents(encoder_fingerprint(plain.model), FRAMES, width, "tiny", "", "", {}, ("/v",)),
    )
    return tmp_path


def _add(folder, *numbers, drop=()):
    """Adds clips that are called by their numbers, as one call of `build`."""
    contents = read_contents(folder)
    one = Writer(folder, contents)
    places = _places(folder)
    for number in drop:
        one.drop(*places[number])
    for number in numbers:
        features = np.full((FRAMES, contents.width), number, np.float16)
        one.add(features, Row(0, f"{number}.mp4", 1, 2, 9, 1.5, [2, 6], [0.2, 0.6]))
    one.compact()
    one.write()


def _places(folder):
    """Number of a clip -> number of its shard, and place there."""
    contents = read_contents(folder)
    return {
        int(rows_of(folder, contents, i)[place].path[:-4]): (shard.number, place)
        for i, shard in enumerate(contents.shards)
        for place in shard.kept
    }


def _clips(folder):
    """The numbers of all clips in order; each has its own features, and no file is left over."""
    index = Index.open(folder)
    index.check()
    found = []
    for one in index:
        found.append(int(os.path.basename(one.clip.name)[:-4]))
        assert (one.features == found[-1]).all()
    shards = index.about.shards
    names = {name for shard in shards for name in store.file_names(shard.number)}
    assert (
        set(os.listdir(folder)) == names | {"index.json"} == set(index.about.sizes) | {"index.json"}
    )
    assert len(found) == len(set(found)) == len(index)
    return found


def _sizes(folder):
    return [len(shard.kept) for shard in read_contents(folder).shards]


def test_one_clip_a_day_makes_full_shards(folder):
    for day in range(11):
        _add(folder, day)
        assert _clips(folder) == list(range(day + 1))
    assert _sizes(folder) == [4, 4, 3]
    # numbers are not used again: who reads by an older manifest finds no other clips
    assert [shard.number for shard in read_contents(folder).shards] == [3, 7, 10]


def test_dead_shards_are_removed(folder):
    _add(folder, *range(9))
    _add(folder, drop=range(4, 8))
    assert (_clips(folder), _sizes(folder)) == ([0, 1, 2, 3, 8], [4, 1])
    _add(folder, drop=[8])
    assert (_clips(folder), _sizes(folder)) == ([0, 1, 2, 3], [4])
    _add(folder, drop=range(4))
    assert (_clips(folder), os.listdir(folder)) == ([], ["index.json"])
    _add(folder, 1)
    assert _clips(folder) == [1]


def test_what_is_replaced_again_and_again_does_not_grow(folder):
    _add(folder, *range(8))
    for _ in range(5):
        _add(folder, *range(8), drop=range(8))
        assert sorted(_clips(folder)) == list(range(8))
        assert len(_sizes(folder)) <= 3


def test_mostly_dead_shards_are_merged_and_others_stay(folder):
    _add(folder, *range(14))
    before = {shard.number for shard in read_contents(folder).shards}
    # of the shards 0-3, 4-7, 8-11 and 12-13: a quarter, half, a quarter and all
    _add(folder, drop=[0, 1, 2, 4, 5, 8, 9, 11])
    assert sorted(_clips(folder)) == [3, 6, 7, 10, 12, 13]
    assert _sizes(folder) == [2, 4]
    after = {shard.number for shard in read_contents(folder).shards}
    assert after & before == {1}
    # half is not less than half: nothing to do
    text = (folder / "index.json").read_text()
    _add(folder)
    assert (folder / "index.json").read_text() == text


@pytest.mark.parametrize("seed", range(6))
def test_any_history_keeps_what_it_should(folder, seed):
    rng, expected, next_clip = np.random.default_rng(seed), set(), 0
    for _ in range(25):
        drop = {clip for clip in expected if rng.random() < rng.choice([0.05, 0.6])}
        new = set(range(next_clip, next_clip := next_clip + int(rng.integers(0, 7))))
        _add(folder, *sorted(new), drop=sorted(drop))
        expected = (expected - drop) | new
        assert set(_clips(folder)) == expected
        shards = read_contents(folder).shards
        assert all(2 * len(shard.kept) >= shard.clips for shard in shards)
        assert sum(shard.clips < 4 for shard in shards) <= 1
    assert next_clip > 40


@pytest.mark.parametrize("at", ["with_shard", "write_contents", "remove_others"])
@pytest.mark.parametrize("after", [False, True])
def test_killed_anywhere_the_index_is_whole_and_nothing_is_left_over(
    folder, at, after, monkeypatch
):
    _add(folder, *range(6))
    whole, calls = getattr(writer, at), []

    def killed(*arguments):
        calls.append(arguments)
        # the first removal is that of what another process left
        if len(calls) == 1 + (at == "remove_others"):
            if after:
                whole(*arguments)
            raise Stop
        return whole(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(writer, at, killed)
        with pytest.raises(Stop):
            _add(folder, 6, 7, 8, drop=[0, 1, 2])
    # any part of a file, too
    (folder / ".00009.0123456789ab.part.safetensors").write_bytes(b"x")
    (folder / ".index.0123456789ab.part.json").write_bytes(b"x")
    index = Index.open(folder)
    index.check()
    found = sorted(int(os.path.basename(one.clip.name)[:-4]) for one in index)
    assert found in ([0, 1, 2, 3, 4, 5], [3, 4, 5, 6, 7])
    _add(folder, 20)
    assert sorted(_clips(folder)) == [*found, 20]


def test_folders_and_other_files_are_left_alone(folder):
    _add(folder, 0)
    (folder / "00001.safetensors").mkdir()
    (folder / "00002.json").mkdir()
    (folder / "00002.json" / "mine").touch()
    (folder / "1.json").touch()
    (folder / "notes.txt").touch()
    _add(folder, 1)
    assert [shard.number for shard in read_contents(folder).shards] == [3]
    assert {"00001.safetensors", "00002.json", "1.json", "notes.txt"} < set(os.listdir(folder))
    assert len(Index.open(folder)) == 2


def test_more_shards_than_are_read_are_not_written(folder, plain, made, monkeypatch):
    _add(folder, *range(8))
    before = (folder / "index.json").read_bytes()
    monkeypatch.setattr(store, "_SHARDS", 3)
    encoded = []
    monkeypatch.setattr(Predictor, "encode_videos", lambda *_, **__: encoded.append(1))
    with pytest.raises(UserError, match=r"7 videos more would make 4 shards.* a second one, in"):
        build(
            folder, [str(made)], plain, source="", settings={}, frames=None, how={}, restart=False
        )
    assert (encoded, (folder / "index.json").read_bytes()) == ([], before)


@pytest.mark.slow
def test_a_manifest_that_would_not_be_read_is_not_written(folder):
    _add(folder, 0)
    before, contents = (folder / "index.json").read_bytes(), read_contents(folder)
    [shard] = contents.shards
    for change, said in (
        ({"shards": (shard,) * 100_001}, "shards: expected at most 100,000 entries; an index"),
        ({"roots": ("/" + "x" * 5000,)}, r"roots\[0\]: expected at most 4,096 characters"),
        ({"frames": 5000}, "frames: expected int <= 4096"),
    ):
        with pytest.raises(UserError, match=said):
            write_contents(folder, store.dataclasses.replace(contents, **change))
    assert (folder / "index.json").read_bytes() == before


def test_a_manifest_of_too_many_bytes_is_not_written(folder, monkeypatch):
    before = (folder / "index.json").read_bytes()
    monkeypatch.setattr(store, "JSON_BYTES", len(before))
    write_contents(folder, read_contents(folder))
    with pytest.raises(UserError, match=r"bytes, expected at most .*; an index does not hold that"):
        _add(folder, 0)
    assert (folder / "index.json").read_bytes() == before


@pytest.mark.parametrize("frames, width", [(4096, 32), (1024, 32), (16, 512)])
def test_the_longest_list_of_clips_is_read(tmp_path, frames, width):
    contents = Contents("e", frames, width, "m", "w", "p", {}, ("/v",))
    clips = contents.clips_a_shard
    row = Row(
        0, "\x1b" * 4096, 2**53, 2**63 - 1, 2**53, 999999999.1234567, [2**53] * frames,
        [999999999.1234567] * frames, "\x1b" * 4096,
    )  # fmt: skip
    one = Writer(tmp_path, contents)
    for _ in range(clips):
        one.add(np.zeros((frames, width), np.float16), row)
    one.write()
    assert rows_of(tmp_path, read_contents(tmp_path), 0) == [row] * clips


def test_a_clip_that_is_there_twice_is_there_once_again(folder, plain, made):
    _add(folder, 0, 1)
    contents = read_contents(folder)
    # as an interruption between two writes may leave it
    one = Writer(folder, contents)
    one._clips = [(np.zeros((FRAMES, contents.width), np.float16), rows_of(folder, contents, 0)[0])]
    one.write()
    assert len(Index.open(folder)) == 3
    build(
        folder, [str(made / "0.mp4")], plain, source="", settings={}, frames=None,
        how={"workers": 0}, restart=False,
    )  # fmt: skip
    names = [one.clip.name for one in Index.open(folder)]
    assert sorted(names) == [str(made / "0.mp4"), "/v/0.mp4", "/v/1.mp4"]


def test_a_search_begins_again_where_shards_were_merged(folder, plain):
    _add(folder, 1, 2)
    index, other = Index.open(folder, plain), Index.open(folder, plain)
    found = index.search("a dog", top=9, vocabulary=LABELS)
    _add(folder, 3)
    again = index.search("a dog", top=9, vocabulary=LABELS)
    assert len(found) == 2
    assert sorted(hit.video for hit in again) == ["/v/1.mp4", "/v/2.mp4", "/v/3.mp4"]
    assert len(index) == 3
    # what was begun cannot begin again
    with pytest.raises(Changed, match=r"was changed by `Index\.build` while it was read"):
        list(other.classify(LABELS))
    with pytest.raises(Changed):
        other.check()


def test_an_index_is_opened_between_a_manifest_and_its_files(folder, monkeypatch):
    _add(folder, 1)
    read, done = store.read_contents, []

    def slow(path):
        contents = read(path)
        if not done:
            done.append(1)
            _add(folder, 2)
        return contents

    monkeypatch.setattr("vtd_jax.retrieval.reader.read_contents", slow)
    assert len(Index.open(folder)) == 2


def test_another_model_does_not_take_over_an_open_index(folder, plain):
    _add(folder, 1)
    index = Index.open(folder, plain)
    contents = read_contents(folder)
    other = store.dataclasses.replace(
        contents,
        encoder=encoder_fingerprint(predictor(normalization="clip").model),
        shards=(),
        sizes={},
    )
    write_contents(folder, other)
    _add(folder, 2)
    with pytest.raises(Changed):
        index.search("a dog")


def test_damage_stays_damage(folder):
    _add(folder, 1)
    index = Index.open(folder)
    os.unlink(folder / "00000.json")
    with pytest.raises(UserError, match="No such file") as error:
        index.check()
    assert not isinstance(error.value, Changed)
    assert json.loads((folder / "index.json").read_text())
    assert building.Damaged is type(error.value)
