"""MTEB runs our model on tasks that are made here, by its own interface and offline."""

import io

import av
import datasets
import mteb
import numpy as np
import pytest
from mteb.abstasks.classification import AbsTaskClassification
from mteb.abstasks.task_metadata import TaskMetadata
from mteb.abstasks.zeroshot_classification import AbsTaskZeroShotClassification
from mteb.mocks.mock_tasks.zeroshot_classification import MockVideoZeroshotClassificationTask
from mteb.models import EncoderProtocol

import vtd_jax
from support.small_model import small_model
from vtd_jax.errors import UserError
from vtd_jax.predict.predictor import Predictor
from vtd_jax.retrieval.mteb_encoder import MTEBEncoder

COLOURS = {"red": (200, 30, 30), "blue": (30, 30, 200)}
LABELS = list(COLOURS)


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.setenv(name, "1")


@pytest.fixture(scope="module")
def encoder():
    return MTEBEncoder("tiny", frames=4)


def video(colour, frames=8) -> bytes:
    """A clip of one colour."""
    out = io.BytesIO()
    with av.open(out, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=8)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        picture = av.VideoFrame.from_ndarray(np.full((64, 64, 3), colour, np.uint8), "rgb24")
        for _ in range(frames):
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return out.getvalue()


def made(repeats=1) -> datasets.Dataset:
    """Clips with their labels."""
    clips = [video(COLOURS[name]) for name in LABELS] * repeats
    found = datasets.Dataset.from_dict({"video": clips, "label": [0, 1] * repeats})
    found = found.cast_column("video", datasets.Video())
    return found.cast_column("label", datasets.ClassLabel(names=LABELS))


def about(name, type_, category, modalities):
    return TaskMetadata(
        name=name, type=type_, category=category, modalities=modalities, description="Made here.",
        dataset={"path": "NA", "revision": "NA"}, reference="https://example.org",
        eval_splits=["test"], eval_langs=["eng-Latn"], main_score="accuracy",
        date=("2026-01-01", "2026-01-02"), domains=[], task_subtypes=[], license="cc0-1.0",
        annotations_creators="derived", dialect=[], sample_creation="created", bibtex_citation="",
    )  # fmt: skip


class ZeroShot(AbsTaskZeroShotClassification):
    metadata = about("ColoursZeroShot", "VideoZeroshotClassification", "v2t", ["video", "text"])
    input_column_name = "video"

    def load_data(self, **_):
        self.dataset = datasets.DatasetDict({"test": made()})
        self.data_loaded = True

    def get_candidate_labels(self):
        return LABELS


class Classification(AbsTaskClassification):
    metadata = about("Colours", "VideoClassification", "v2c", ["video"])
    input_column_name = "video"
    samples_per_label, n_experiments = 2, 1

    def load_data(self, **_):
        self.dataset = datasets.DatasetDict({"train": made(2), "test": made()})
        self.data_loaded = True


def main_score(encoder, task) -> float:
    found = mteb.evaluate(encoder, task, cache=None, show_progress_bar=False)
    return found.task_results[0].get_score()


def test_it_is_an_encoder_of_mteb(encoder):
    assert isinstance(encoder, EncoderProtocol)
    meta = encoder.mteb_model_meta
    assert (meta.name, meta.revision) == ("vtd-jax/tiny", encoder.predictor.weights)
    assert meta.experiment_kwargs["frames"] == 4
    assert set(meta.modalities) == {"text", "video"}


def test_zero_shot_and_linear_classification(encoder):
    assert main_score(encoder, ZeroShot()) == 1.0
    assert main_score(encoder, Classification()) == 1.0


# noise, which a model may call one label throughout
@pytest.mark.filterwarnings("ignore:Precision is ill-defined")
def test_mtebs_own_made_task_runs(encoder):
    assert 0 <= main_score(encoder, MockVideoZeroshotClassificationTask()) <= 1


@pytest.mark.parametrize("kind", ["zero-shot", "tuned"])
def test_zero_shot_scores_are_those_of_predict(encoder, kind, tmp_path):
    if kind == "tuned":
        # prompts and fusion, all of which take part in the scores
        encoder = MTEBEncoder(Predictor(small_model(), frames=4))
    clips = [video(colour, frames) for colour, frames in zip(COLOURS.values(), (8, 5))]
    paths = [tmp_path / f"{place}.mp4" for place in range(2)]
    for path, clip in zip(paths, clips):
        path.write_bytes(clip)
    labels = ["a red thing", "blue"]
    found = datasets.Dataset.from_dict({"video": clips}).cast_column("video", datasets.Video())
    how = {"task_metadata": ZeroShot.metadata, "hf_split": "test", "hf_subset": "default"}
    videos = encoder.encode(_Loader(found), **how)
    texts = encoder.encode(_Loader(datasets.Dataset.from_dict({"text": labels})), **how)
    wanted = [one.logits for one in encoder.predictor.predict(paths, labels, frames=4)]
    got = encoder.similarity(videos, texts).numpy()
    np.testing.assert_allclose(got, np.stack(wanted), rtol=1e-4, atol=1e-4)


def test_other_tasks_get_the_embeddings_of_search(encoder, tmp_path):
    (tmp_path / "a.mp4").write_bytes(video(COLOURS["red"]))
    how = {"task_metadata": Classification.metadata, "hf_split": "test", "hf_subset": "default"}
    videos = encoder.encode(_Loader(made()), batch_size=2, **how)
    same = encoder.predictor.embed_video(tmp_path / "a.mp4", frames=4)
    np.testing.assert_allclose(videos[0], same, atol=1e-5)
    long = "red " * 500
    texts = encoder.encode(_Loader(datasets.Dataset.from_dict({"text": ["red", long]})), **how)
    assert texts.shape == (2, videos.shape[1])
    pairs = encoder.similarity(videos, texts)
    assert pairs[0, 0] > pairs[1, 0]
    np.testing.assert_allclose(
        encoder.similarity_pairwise(videos[:2], texts), np.diag(pairs[:2]), atol=1e-6
    )


def test_paths_and_what_is_no_video(encoder, tmp_path):
    (tmp_path / "a.mp4").write_bytes(video(COLOURS["red"]))
    how = {"task_metadata": Classification.metadata, "hf_split": "test", "hf_subset": "default"}
    found = datasets.Dataset.from_dict({"video": [{"bytes": None, "path": f"{tmp_path}/a.mp4"}]})
    assert encoder.encode(_Loader(found), **how).shape[0] == 1
    with pytest.raises(UserError, match="video 0: str, expected bytes, or the path of a file"):
        encoder.encode(_Loader(datasets.Dataset.from_dict({"video": ["x"]})), **how)
    with pytest.raises(UserError, match=r"video 0\.mp4: "):
        encoder.encode(_Loader(datasets.Dataset.from_dict({"video": [b"no video"]})), **how)
    both = datasets.Dataset.from_dict({"video": [b"x"], "text": ["x"]})
    with pytest.raises(UserError, match=r"Colours: inputs of \['text', 'video'\], expected"):
        encoder.encode(_Loader(both), **how)


def test_what_it_does_not_take():
    with pytest.raises(UserError, match=r"frames=1.: expected 2 or more"):
        MTEBEncoder("tiny", frames=1)
    with pytest.raises(UserError, match="name weights with their revision"):
        MTEBEncoder("tiny", "main")
    with pytest.raises(UserError, match="options are for a source"):
        MTEBEncoder(vtd_jax.load("tiny"), dtype="float32")


class _Loader:
    """As much of PyTorch's DataLoader as MTEB's evaluators use."""

    def __init__(self, dataset):
        self.dataset = dataset

    def __iter__(self):
        yield {name: list(self.dataset[name]) for name in self.dataset.column_names}
