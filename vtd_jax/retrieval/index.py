"""An index of videos: their frame features, searched and classified without the videos."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float16

from vtd_jax.errors import UserError, function
from vtd_jax.predict.device_model import DeviceModel
from vtd_jax.predict.job import Encoded, Failure, Job
from vtd_jax.predict.predictor import Predictor
from vtd_jax.predict.programs import Vocabulary
from vtd_jax.predict.results import Explanation, Prediction, facts
from vtd_jax.predict.scoring import score_clip
from vtd_jax.predict.words import check_texts
from vtd_jax.printable import utf8
from vtd_jax.retrieval import scan
from vtd_jax.retrieval.build import Summary, build
from vtd_jax.retrieval.encoder import load_encoder
from vtd_jax.retrieval.store import (
    FILE,
    Contents,
    Row,
    check_files,
    features_of,
    read_contents,
    rows_of,
)
from vtd_jax.video.clip import Clip


@dataclass(frozen=True)
class Hit:
    """A clip that was found.

    Attributes:
      video: its path when it was indexed.
      score: how well it fits, -1..1, see `Index.search` and `Index.similar`.
      second: of the best frame, from the first frame on.
      frame: index of the best frame in the video.
      duration: of the video, seconds.
      words: that name its T frames; None where no vocabulary was given.
    """

    video: str
    score: float
    second: float
    frame: int
    duration: float
    words: tuple[str, ...] | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        found = {
            "video": utf8(self.video),
            "score": round(self.score, 6),
            "second": round(self.second, 3),
            "frame": self.frame,
            "duration": round(self.duration, 3),
        }
        return found if self.words is None else found | {"words": list(self.words)}


class Index:
    """Frame features of many videos, on disk; iterating yields an `Encoded` for each clip.

        index = Index.build("clips.index", ["clips/"], "ViT-B/16", download=True)
        index = Index.open("clips.index")
        for hit in index.search("a dog catches a frisbee"):
            print(hit.video, hit.second, hit.score)
        for prediction in index.classify(["arm wrestling", "hugging"]):
            print(prediction.video, prediction.label)

    `len(index)` counts the clips. Pictures are not kept: `clip.frames` of an `Encoded` is empty.
    A shard's checksum is compared when it is first read.

    Attributes:
      folder: of the files.
      frames: T of each clip.
      summary: what `build` did; None of an index that was opened.
    """

    def __init__(self, folder: Path, contents: Contents, model: Any, settings: dict[str, Any]):
        """Use `Index.open` or `Index.build`."""
        self.folder, self.frames = folder, contents.frames
        self.summary: Summary | None = None
        self._contents, self._model, self._settings = contents, model, settings
        self._predictor: Predictor | None = model if isinstance(model, Predictor) else None
        self._checked: set[int] = set()
        self._rows: tuple[int, list[Row]] = (-1, [])

    @classmethod
    def open(cls, folder: str | os.PathLike, model: Any = None, **settings: Any) -> "Index":
        """Opens an index; reads its manifest, and of its shards only the sizes.

        Args:
          folder: as `build` or `vtd index` wrote it.
          model: a `Predictor`, or a source for `vtd_jax.load`; None for the name in the index. It
            is loaded when first needed, and must have the image tower of the index.
          settings: for `vtd_jax.load`, as `download`, `templates` and `pooling`.

        Raises:
          UserError: no index, or a damaged one.
        """
        folder = Path(folder)
        if (contents := read_contents(folder)) is None:
            there = "there is no such folder" if not folder.exists() else f"no {FILE} in it"
            raise UserError(f"{folder}: not an index: {there}; {function('Index.build')} makes one")
        index = cls(folder, contents, model, settings)
        for number in index._numbers():
            check_files(folder, contents, number)
        if index._predictor is not None:
            load_encoder(folder, contents, model, settings)
        return index

    @classmethod
    def build(
        cls,
        folder: str | os.PathLike,
        videos: Sequence[str | os.PathLike],
        model: Any = "tiny",
        *,
        frames: int | None = None,
        workers: int = 2,
        restart: bool = False,
        **settings: Any,
    ) -> "Index":
        """Makes an index of videos, or adds them to an existing one.

        Videos that are in it already are not read again, unless their size or time of change
        differs. An interrupted call resumes when it is made again. One process at a time writes.

        Args:
          folder: for the index; new, empty, or an index of the same model and frames.
          videos: files, folders and globs.
          model: a `Predictor`, or a source for `vtd_jax.load`.
          frames: T for each video; None for those of the index, or the model's default.
          workers: threads that decode ahead.
          restart: whether to discard an existing index.
          settings: for `vtd_jax.load`.

        Returns:
          The index; its `summary` lists videos that could not be read.

        Raises:
          UserError: no videos, a folder of something else, or an index of another model or number
            of frames.
        """
        from vtd_jax.predict.loading import load

        predictor = model if isinstance(model, Predictor) else load(model, **settings)
        source = predictor.description if isinstance(model, Predictor) else os.fspath(model)
        summary = build(
            Path(folder), list(map(os.fspath, videos)), predictor, source=source, settings=settings,
            frames=frames, workers=workers, restart=restart,
        )  # fmt: skip
        index = cls.open(folder, predictor)
        index.summary = summary
        return index

    @property
    def predictor(self) -> Predictor:
        """The model; loaded when first needed.

        Raises:
          UserError: as `vtd_jax.load`, or it has another image tower than the index.
        """
        if self._predictor is None:
            self._predictor = load_encoder(self.folder, self._contents, self._model, self._settings)
        return self._predictor

    @property
    def about(self) -> Contents:
        """The manifest: the encoder, and the shards."""
        return self._contents

    def __len__(self) -> int:
        return len(self._contents)

    def __iter__(self) -> Iterator[Encoded]:
        for number, kept, features in self._shards():
            for place in kept:
                clip = self._clip(number, place)
                yield Encoded(clip, np.asarray(features[place]).astype(np.float32))

    def check(self) -> int:
        """Reads all files and compares their checksums; returns the number of clips.

        Raises:
          UserError: names the first damaged file.
        """
        self._checked.clear()
        for number, _, _ in self._shards():
            rows_of(self.folder, self._contents, number)
        return len(self)

    def search(
        self,
        texts: str | Sequence[str],
        top: int = 10,
        *,
        vocabulary: Sequence[str] | None = None,
    ) -> Any:
        """The clips that fit texts best.

        The score is the method's logit without its scale: the mean over the frames of their cosines
        with the text, weighted by the confidence of each frame (docs/method.md, sections 3 and 4).

        Args:
          texts: a text, or several, which take one pass.
          top: clips for each, at most.
          vocabulary: words that name the frames of the clips that are found. In a model with fusion
            scores depend on them; its default there is the class names of training.

        Returns:
          Hits, best first: a list for a text, a list of lists for several.

        Raises:
          UserError: a text that is empty, repeated or too long; a pooling that compares labels with
            each other; fusion without words; or a damaged file.
        """
        _check_top(top)
        predictor = self.predictor
        config, single = predictor.model.config, isinstance(texts, str)
        given = [texts] if isinstance(texts, str) else list(texts)
        queries = check_texts(given, "texts", underscores=config.text_prompts > 0)
        if config.pooling == "softmax_mean":
            raise UserError(
                'pooling="softmax_mean": compares labels with each other, and a search has none; '
                'open the index with pooling="confidence" or "mean"'
            )
        words = None if vocabulary is None else predictor.encode_vocabulary(vocabulary)
        codes = predictor.encode_words(queries)
        score = self._score(codes, self._words_of_fusion(words))
        found = [
            [self._hit(*one, words) for one in zip(*rows)]
            for rows in zip(*self._best(score, len(queries), top))
        ]
        return found[0] if single else found

    def similar(
        self,
        video: Any,
        top: int = 10,
        *,
        fps: float | None = None,
        vocabulary: Sequence[str] | None = None,
    ) -> list[Hit]:
        """The clips that are most similar to a video.

        The score is the cosine of the means of their frames' unit features.

        Args:
          video: path of a file, or uint8 RGB frames `[N, H, W, 3]`.
          top: clips, at most.
          fps: frame rate of an array.
          vocabulary: words that name the frames of the clips that are found.

        Raises:
          UserError: a video that cannot be read, or a damaged file.
        """
        _check_top(top)
        encoded = self.predictor.encode_videos([video], frames=self.frames, fps=fps, workers=0)
        (example,) = encoded
        if isinstance(example, Failure):
            raise example.error
        words = None if vocabulary is None else self.predictor.encode_vocabulary(vocabulary)
        features = np.asarray(example.features)
        found = self._best(lambda block: scan.example_scores(block, features), 1, top)
        return [self._hit(*one, words) for one in zip(*(rows[0] for rows in found))]

    def classify(
        self,
        labels: Sequence[str] | None = None,
        *,
        vocabulary: Sequence[str] | None = None,
        runner_ups: int | None = None,
    ) -> Iterator[Prediction | Explanation]:
        """Scores labels for every clip, as `Predictor.predict` does for its video.

        Scores are the same up to the rounding of features to float16.

        Args:
          labels, vocabulary: as for `Predictor.predict`.
          runner_ups: None predicts; a number explains (without pictures), with this many further
            words a frame.

        Returns:
          One result a clip, in the order of the index; takes the memory of a few hundred clips.

        Raises:
          UserError: labels as for `Predictor.predict`, by the call itself; a damaged file.
        """
        predictor = self.predictor
        checked = predictor.check_labels(labels)
        codebook = predictor.encode_words(checked)
        words = Vocabulary(checked, codebook, is_labels=True)
        if vocabulary is not None:
            words = predictor.encode_vocabulary(vocabulary)
        job = Job(checked, codebook, words)
        if runner_ups is None:
            return self._predictions(job)
        on_devices = self._on_devices
        return (
            score_clip(on_devices, one.clip, one.features, job, runner_ups) for one in iter(self)
        )

    def _predictions(self, job: Job) -> Iterator[Prediction]:
        on_devices = self._on_devices
        for block in self._blocks(len(job.labels)):
            features = block.features.astype(np.float32)
            logits = on_devices.logits(features, job.codebook, job.vocabulary)
            for (number, place), row in zip(block.places.tolist(), logits):
                clip = self._clip(number, place)
                yield Prediction(**facts(clip, job.labels, row, on_devices.logit_bias))

    @property
    def _on_devices(self) -> DeviceModel:
        return self.predictor._on_devices

    def _words_of_fusion(self, words: Vocabulary | None) -> Vocabulary | None:
        """The words that make video tokens; None in a model that has none."""
        predictor = self.predictor
        if predictor.model.fusion is None or words is not None:
            return words
        if not predictor.class_names:
            raise UserError(
                f"{predictor.description}: fuses words into frames, and its own are not known; "
                "give a vocabulary"
            )
        return predictor.encode_vocabulary(predictor.class_names)

    def _score(self, codes: Any, words: Vocabulary | None) -> scan.Score:
        """The scores of blocks for texts."""
        model, on_devices = self.predictor.model, self._on_devices
        config, plain = model.config, np.asarray(codes)

        def unfused(features: Float16[np.ndarray, "b t d"]) -> Any:
            return scan.text_scores(
                features, plain, temperature=config.temperature, confidence=config.confidence,
                pooling=config.pooling,
            )  # fmt: skip

        if model.fusion is None or words is None:
            return unfused
        scale = float(jnp.exp(model.logit_scale[...]))

        def fused(features: Float16[np.ndarray, "b t d"]) -> Any:
            logits = on_devices.logits(features.astype(np.float32), codes, words)
            return logits / scale, unfused(features)[1]

        return fused

    def _best(self, score: scan.Score, queries: int, top: int) -> scan.Found:
        return scan.best(self._blocks(queries), score, queries, min(top, max(len(self), 1)))

    def _blocks(self, queries: int) -> Iterator[scan.Block]:
        size = scan.block_size(self.frames, self._contents.width, queries, len(self))
        return scan.blocks(self._shards(), size)

    def _numbers(self) -> list[int]:
        """The shards with clips that count."""
        return [number for number, shard in enumerate(self._contents.shards) if shard.kept]

    def _shards(self) -> Iterator[tuple[int, list[int], np.ndarray]]:
        """Number, clips that count, and features of each shard; one is mapped at a time."""
        for number in self._numbers():
            check = number not in self._checked
            features = features_of(self.folder, self._contents, number, check=check)
            self._checked.add(number)
            yield number, self._contents.shards[number].kept, features
            del features

    def _row(self, number: int, place: int) -> Row:
        if self._rows[0] != number:
            self._rows = number, rows_of(self.folder, self._contents, number)
        return self._rows[1][place]

    def _clip(self, number: int, place: int) -> Clip:
        row = self._row(number, place)
        return Clip(
            os.path.join(self._contents.roots[row.root], row.path),
            np.zeros((self.frames, 0, 0, 3), np.uint8),
            np.array(row.indices, np.int64),
            np.array(row.seconds, np.float64),
            row.total,
            row.duration,
            row.note,
        )

    def _hit(self, score: Any, frame: Any, place: Any, words: Vocabulary | None) -> Hit:
        number, inside = map(int, place)
        clip, named = self._clip(number, inside), None
        if words is not None:
            shard = features_of(self.folder, self._contents, number, check=False)
            metric = self.predictor.model.config.assignment
            ids = words.nearest(shard[inside].astype(np.float32), 1, metric).ids[:, 0]
            named = tuple(words.words[i] for i in ids)
        return Hit(
            clip.name, float(score), float(clip.seconds[int(frame)]),
            int(clip.indices[int(frame)]), float(clip.duration), named,
        )  # fmt: skip


def _check_top(top: int) -> None:
    if top < 1:
        raise UserError(f"top={top}: expected 1 or more clips")
