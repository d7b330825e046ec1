"""An index of videos: their frame features, searched and classified without the videos."""

import functools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vtd_jax.errors import UserError, setting
from vtd_jax.fields import check_whole
from vtd_jax.predict.batching.options import How
from vtd_jax.predict.job import Encoded, Failure, Job, check_runner_ups
from vtd_jax.predict.loading import load
from vtd_jax.predict.predictor import Predictor
from vtd_jax.predict.programs import Vocabulary
from vtd_jax.predict.results import Explanation, Prediction
from vtd_jax.predict.scoring import facts, score_clip
from vtd_jax.predict.words import check_texts
from vtd_jax.printable import shown
from vtd_jax.retrieval import scan
from vtd_jax.retrieval.build import Summary, build, check_before_loading
from vtd_jax.retrieval.encoder import check_settings, load_encoder
from vtd_jax.retrieval.hits import Hit, text_score, words_of_fusion
from vtd_jax.retrieval.reader import Changed, Reader
from vtd_jax.retrieval.store import Contents
from vtd_jax.terminal import counted


class Index:
    """Frame features of many videos, on disk; iterating yields an `Encoded` for each clip.

        index = Index.build("clips.index", ["clips/"], "ViT-B/16", download=True)
        index = Index.open("clips.index")
        for hit in index.search("a dog catches a frisbee"):
            print(hit.video, hit.second, hit.score)
        for prediction in index.classify(["arm wrestling", "hugging"]):
            print(prediction.video, prediction.label)

    Example:
      >>> import vtd_jax
      >>> index = vtd_jax.Index.build("clips.index", ["clip.mp4"], "tiny", frames=4)
      >>> len(index), [hit.video.rpartition("/")[2] for hit in index.search("red ring", top=1)]
      (1, ['clip.mp4'])

    `len(index)` counts the clips. Pictures are not kept: `clip.frames` of an `Encoded` is empty.
    A shard's checksum is compared when it is first read.

    Attributes:
      folder: of the files.
      frames: T of each clip.
      summary: what `build` did; None of an index that was opened.
    """

    def __init__(self, reader: Reader, model: Any, settings: dict[str, Any]):
        """Use `Index.open` or `Index.build`."""
        self.folder, self.frames = reader.folder, reader.contents.frames
        self.summary: Summary | None = None
        self._reader, self._model, self._settings = reader, model, settings
        self._predictor: Predictor | None = None
        if isinstance(model, Predictor):
            self._predictor = load_encoder(self.folder, reader.contents, model, settings)

    @classmethod
    def open(cls, folder: str | os.PathLike, model: Any = None, **settings: Any) -> "Index":
        """Opens an index; reads its manifest, and of its shards only the sizes.

        Args:
          folder: as `build` or `vtd index` wrote it.
          model: a `Predictor`, or a source for `vtd_jax.load`; None for the name in the index. It
            is loaded when first needed, and must have the image tower of the index.
          settings: for `vtd_jax.load`, as `download`, `templates` and `pooling`; none for a
            `Predictor`.

        Raises:
          UserError: no index, a damaged one, settings beside a `Predictor`, or one that
            `vtd_jax.load` does not have.
        """
        check_settings(model, settings)
        return cls(Reader.open(Path(folder)), model, settings)

    @classmethod
    def build(
        cls,
        folder: str | os.PathLike,
        videos: str | os.PathLike | Sequence[str | os.PathLike],
        model: Any = "tiny",
        *,
        frames: int | None = None,
        how: How | None = None,
        restart: bool = False,
        drop_missing: bool = False,
        **settings: Any,
    ) -> "Index":
        """Makes an index of videos, or adds them to an existing one.

        Videos that are in it already are not read again, unless their size or time of change
        differs. An interrupted call resumes when it is made again. One process at a time writes.

        Args:
          folder: for the index; new, empty, or an index of the same model and frames.
          videos: a file, a folder, a glob or an address (`https://…`), or a list of these.
          model: a `Predictor`, or a source for `vtd_jax.load`.
          frames: T for each video; None for those of the index, or the model's default.
          how: the videos are read and encoded, options of `Predictor.predict` such as
            `{"check": "full"}`.
          restart: whether to discard an existing index.
          drop_missing: whether videos leave the index that are gone from the folders given, which
            may then be empty.
          settings: for `vtd_jax.load`, none for a `Predictor`; `download` is also for videos at
            addresses.

        Returns:
          The index; its `summary` lists videos that could not be read.

        Raises:
          UserError: no videos, a folder of something else, an index of another model or number of
            frames, settings beside a `Predictor`, or one that `vtd_jax.load` does not have.
        """
        check_settings(model, settings)
        if not restart:
            check_before_loading(Path(folder), model, settings, frames)
        predictor = model if isinstance(model, Predictor) else load(model, **settings)
        source = predictor.source if isinstance(model, Predictor) else os.fspath(model)
        videos = [videos] if isinstance(videos, str | os.PathLike) else list(videos)
        for video in videos:
            if not isinstance(video, str | os.PathLike):
                raise UserError(
                    f"videos: a {type(video).__name__}, expected paths of files or folders"
                )
        how = How(download=settings.get("download")) | (how or How())
        summary = build(
            Path(folder), list(map(str, videos)), predictor, source=source, settings=settings,
            frames=frames, how=how, restart=restart, drop_missing=drop_missing,
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
        found = self._predictor
        if found is None:
            found = load_encoder(self.folder, self.about, self._model, self._settings)
            self._predictor = found
        return found

    @property
    def about(self) -> Contents:
        """The manifest: the encoder, and the shards."""
        return self._reader.contents

    def __len__(self) -> int:
        return len(self._reader)

    def __repr__(self) -> str:
        clips = counted(len(self), "clip")
        return shown(f"<Index: {self.folder}; {clips}, {self.frames} frames each>")

    def __iter__(self) -> Iterator[Encoded]:
        reader = self._reader
        for shard, kept, features in reader.shards():
            for place in kept:
                clip = reader.clip(shard, place)
                yield Encoded(clip, features[place].astype(np.float32))

    def check(self) -> int:
        """Reads all files and compares their checksums; returns the number of clips.

        Raises:
          UserError: names the first damaged file.
        """
        self._reader.check()
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
        top = check_whole("top", top, "1 or more clips")
        predictor = self.predictor
        config, single = predictor.model.config, isinstance(texts, str)
        given = [texts] if isinstance(texts, str) else list(texts)
        queries = check_texts(given, "texts", underscores=config.text_prompts > 0)
        if config.pooling == "softmax_mean":
            raise UserError(
                f"{setting('pooling', config.pooling)}: compares labels with each other, and a "
                f"search has none; give {setting('pooling', 'confidence')} or "
                f"{setting('pooling', 'mean')}"
            )
        words = None if vocabulary is None else predictor.encode_vocabulary(vocabulary)
        codes = predictor.encode_words(queries)
        score = text_score(predictor, codes, words_of_fusion(predictor, words))
        found = self._found(score, len(queries), top, words)
        return found[0] if single else found

    def similar(
        self,
        video: Any,
        top: int = 10,
        *,
        fps: float | None = None,
        vocabulary: Sequence[str] | None = None,
        download: bool | None = None,
    ) -> list[Hit]:
        """The clips that are most similar to a video.

        The score is the cosine of the means of their frames' unit features.

        Args:
          video: path of a file, an address, or uint8 RGB frames `[N, H, W, 3]`.
          top: clips, at most.
          fps: frame rate of an array.
          vocabulary: words that name the frames of the clips that are found.
          download: whether a video at an address may be copied, as for `Predictor.predict`.

        Raises:
          UserError: a video that cannot be read, or a damaged file.
        """
        top = check_whole("top", top, "1 or more clips")
        encoded = self.predictor.encode_videos(
            [video], frames=self.frames, fps=fps, workers=0, download=download
        )
        (example,) = encoded
        if isinstance(example, Failure):
            raise example.error
        words = None if vocabulary is None else self.predictor.encode_vocabulary(vocabulary)
        features = np.asarray(example.features)
        score = functools.partial(scan.example_scores, example=features)
        [found] = self._found(score, 1, top, words)
        return found

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
        check_runner_ups(runner_ups)
        predictor = self.predictor
        checked = predictor.check_labels(labels)
        codebook = predictor.encode_words(checked)
        words = Vocabulary(checked, codebook, is_labels=True)
        if vocabulary is not None:
            words = predictor.encode_vocabulary(vocabulary)
        job = Job(checked, codebook, words)
        if runner_ups is None:
            return self._predictions(job)
        on_devices = predictor.on_devices
        return (
            score_clip(on_devices, one.clip, one.features, job, runner_ups) for one in iter(self)
        )

    def _predictions(self, job: Job) -> Iterator[Prediction]:
        on_devices, reader = self.predictor.on_devices, self._reader
        for block in reader.blocks(len(job.labels)):
            features = block.features.astype(np.float32)
            logits = on_devices.logits(features, job.codebook, job.vocabulary)
            for (shard, place), row in zip(block.places.tolist(), logits):
                clip = reader.clip(shard, place)
                yield Prediction(**facts(clip, job.labels, row, on_devices.logit_bias))

    def _found(
        self, score: scan.Score, queries: int, top: int, words: Vocabulary | None
    ) -> list[list[Hit]]:
        """The best clips of each query; from the start again where a build merged shards."""
        try:
            return self._pass(score, queries, top, words)
        except Changed:
            reader, before = Reader.open(self.folder), self.about
            now = reader.contents
            if (now.encoder, now.frames) != (before.encoder, before.frames):
                raise
            self._reader = reader
            return self._pass(score, queries, top, words)

    def _pass(
        self, score: scan.Score, queries: int, top: int, words: Vocabulary | None
    ) -> list[list[Hit]]:
        blocks = self._reader.blocks(queries)
        best = scan.best(blocks, score, queries, min(top, max(len(self), 1)))
        return [self._hits(best, query, words) for query in range(queries)]

    def _hits(self, best: scan.Found, query: int, words: Vocabulary | None) -> list[Hit]:
        """The clips of one query."""
        scores, frames = best.scores[query].tolist(), best.frames[query].tolist()
        places = best.places[query].tolist()
        # by shard, so that what is known of its clips is read once
        order = sorted(range(len(places)), key=places.__getitem__)
        found = {i: self._hit(scores[i], frames[i], places[i], words) for i in order}
        return [found[i] for i in range(len(places))]

    def _hit(self, score: float, frame: int, place: list[int], words: Vocabulary | None) -> Hit:
        shard, inside = place
        (name, row), named = self._reader.row(shard, inside), None
        if words is not None:
            features = self._reader.features(shard, inside)
            metric = self.predictor.model.config.assignment
            ids = words.nearest(features, 1, metric).ids[:, 0]
            named = tuple(str(words.words[i]) for i in ids.tolist())
        return Hit(name, score, row.seconds[frame], row.indices[frame], row.duration, named)
