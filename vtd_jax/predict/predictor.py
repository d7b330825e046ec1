"""Anyone's videos and labels: predict, explain, and a timeline of hours; made by `vtd_jax.load`."""

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float32, Int32, UInt8

from vtd_jax.cache.text_features import TextCache
from vtd_jax.clip.tokenizer import count_tokens
from vtd_jax.errors import UserError
from vtd_jax.model.vtd_clip import VTDCLIP
from vtd_jax.predict.job import Failure, Job, check_on_error
from vtd_jax.predict.programs import Told, Vocabulary, compiled
from vtd_jax.predict.results import Explanation, Prediction, Timeline, facts
from vtd_jax.predict.words import check_texts
from vtd_jax.video.clip import Clip, Video, as_videos, read_clip
from vtd_jax.video.decode import VideoError
from vtd_jax.video.read_ahead import read_ahead

# frames that a device encodes at once: enough to fill it, few enough for any memory
CHUNK = 32
# lists of labels whose codebooks stay in memory
_KEPT = 4


class Predictor:
    """Names videos with any labels; nothing is learnt here. Not changed by any call but for what it
    remembers.

    Attributes:
      model: the VTD-CLIP; its `config` says how frames become scores.
      frames: T where none is given: of training; 16 for zero-shot.
      class_names: that were learnt on; labels where none are given. () for zero-shot.
      told: where the model is from, for tables and pages.
      weights: fingerprint of all of its numbers.
      chunk: frames that are encoded at once, over all devices.
    """

    def __init__(
        self,
        model: VTDCLIP,
        *,
        frames: int,
        class_names: Sequence[str] = (),
        told: str = "",
        weights: str = "",
        cache: TextCache | None = None,
        devices: Sequence[jax.Device] | None = None,
    ):
        self.model, self.frames, self.class_names = model, frames, tuple(class_names)
        self.told, self.weights = told, weights
        self._cache = TextCache(None) if cache is None else cache
        devices = tuple(jax.local_devices() if devices is None else devices)
        self._mesh = Mesh(np.array(devices), ("frames",))
        self.chunk = CHUNK * len(devices)
        graphdef, state = nnx.split(model.rounded())
        self._programs = compiled(graphdef)
        self._state = jax.device_put(state, NamedSharding(self._mesh, PartitionSpec()))
        self._codebooks: dict[tuple[str, ...], Array] = {}
        self._vocabulary: Vocabulary | None = None

    @property
    def size(self) -> int:
        """Side of the frames that the model sees, pixels."""
        return self.model.clip.config.image_resolution

    @property
    def label_room(self) -> int:
        """Tokens that a label may have: CLIP's positions less start, end, learnt prompts or the
        longest template.
        """
        config, room = self.model.config, self.model.clip.config.context_length - 2
        if config.text_prompts:
            # "a photo of a" has four tokens, of which fewer prompts take the first; and a full stop
            # ends the text
            return room - max(4, config.text_prompts) - 1
        around = [template.replace("{}", "") for template in config.templates]
        return room - max(map(int, count_tokens(around)), default=0)

    def predict(
        self,
        video: Any,
        labels: Sequence[str] | None = None,
        *,
        frames: int | None = None,
        vocabulary: Sequence[str] | None = None,
        fps: float | None = None,
        on_error: str = "raise",
    ) -> Prediction | Failure | list[Prediction | Failure]:
        """Scores of labels for one video or several.

        Args:
          video: path of a file, uint8 RGB frames `[N, H, W, 3]`, or a list of these; of any length
            and size.
          labels: K texts, any number of them; None takes the class names that were learnt.
          frames: T, frames looked at; None is `self.frames`.
          vocabulary: words that name frames in the labels' place, as for `explain`; the scores
            depend on them only where the model has a fusion block, into which the video token goes.
          fps: frames a second of arrays.
          on_error: "raise" stops at the first video that cannot be read; "return" gives a `Failure`
            in its place, and the results of all others.

        Returns:
          A `Prediction`; a list of them for a list.

        Raises:
          UserError: no labels, or labels that are empty, twice there or too long; an option out of
            its range; with `on_error="raise"` also a file that is no whole video.
        """
        return self._all(video, labels, frames, vocabulary, fps, None, on_error)

    def explain(
        self,
        video: Any,
        labels: Sequence[str] | None = None,
        *,
        frames: int | None = None,
        vocabulary: Sequence[str] | None = None,
        fps: float | None = None,
        runner_ups: int = 4,
        on_error: str = "raise",
    ) -> Explanation | Failure | list[Explanation | Failure]:
        """As `predict`, with the words of the frames, confidences, video token and what every frame
        adds.

        Args:
          video, labels, frames, fps, on_error: as for `predict`; the scores are the same.
          vocabulary: words that frames are named with, 1 to millions; None takes the labels, as the
            method does.
          runner_ups: further words a frame, nearest first.
        """
        return self._all(video, labels, frames, vocabulary, fps, runner_ups, on_error)

    def timeline(
        self,
        video: str | os.PathLike,
        labels: Sequence[str] | None = None,
        *,
        window: float = 8.0,
        stride: float | None = None,
        frames: int | None = None,
        vocabulary: Sequence[str] | None = None,
        threshold: float = 0.25,
        told: Told | None = None,
        on_error: str = "raise",
    ) -> Timeline | Failure:
        """What a long video shows when, in memory that does not grow with its length but for the
        result.

        Frames are taken every `window / T` seconds, once, and every T of them in a row are a
        window.

        Args:
          video: path of a file.
          labels, frames, vocabulary: as for `predict`; `frames` is T, those of one window.
          window: seconds.
          stride: seconds from window to window; None is half a window. Rounded to a whole number of
            steps of `window / T` seconds, from one to T; `Timeline.stride` is what it became.
          threshold: score from which a window shows a label that is not its best, 0..1.
          told: called with the seconds done and, where the file says, the seconds there are.
          on_error: as for `predict`.

        Raises:
          UserError: as for `predict`, or a window, stride or threshold out of range.
        """
        from vtd_jax.predict.timeline import Windows, make_timeline

        check_on_error(on_error)
        words = None if vocabulary is None else self.encode_vocabulary(vocabulary)
        plan = Windows(self.frames if frames is None else frames, window, stride, threshold)
        labels = self.check_labels(labels)
        try:
            return make_timeline(self, os.fspath(video), labels, words, plan, told)
        except VideoError as error:
            if on_error == "raise":
                raise
            return Failure(os.fspath(video), error)

    def stream(
        self,
        videos: Iterable[Video],
        labels: Sequence[str] | None = None,
        *,
        frames: int | None = None,
        vocabulary: Sequence[str] | None = None,
        fps: float | None = None,
        runner_ups: int | None = None,
        workers: int = 2,
        on_error: str = "return",
    ) -> Iterator[Prediction | Explanation | Failure]:
        """Any number of videos, one result each in their order; memory is that of a few videos.

        Args:
          videos: as for `predict`; drawn as they are needed.
          labels, frames, vocabulary, fps: as for `predict`.
          runner_ups: None predicts; a number explains.
          workers: threads that decode ahead.
          on_error: as for `predict`, but "return" where none is given: a `Failure` in the place of
            what cannot be read.

        Raises:
          UserError: as for `predict`; options and labels are checked at once, before the first
            result is asked for.
        """
        frames = self.frames if frames is None else frames
        check_on_error(on_error)
        if frames < 1:
            raise UserError(f"frames={frames}: expected 1 or more frames of a video")
        if fps is not None and not fps > 0:
            raise UserError(f"fps={fps}: expected frames a second, above 0")
        if runner_ups is not None and runner_ups < 0:
            raise UserError(f"runner_ups={runner_ups}: expected 0 or more")
        if workers < 0:
            raise UserError(f"workers={workers}: expected 0 or more")
        labels = self.check_labels(labels)
        # encoded before the first video is opened: a label that does not fit is told at once
        codebook = self.encode_words(labels)
        words = None if vocabulary is None else self.encode_vocabulary(vocabulary)
        naming = None if runner_ups is None else self.naming(labels, words)
        job = Job(labels, codebook, words, naming, runner_ups)
        read = read_ahead(videos, lambda video: self._read(video, frames, fps), workers)
        return self._stream(read, job, on_error)

    def encode_frames(self, frames: UInt8[np.ndarray, "n r r 3"]) -> Float32[np.ndarray, "n d"]:
        """Raw features of N frames of this model's size, a fixed number at a time on all devices."""
        found = []
        for start in range(0, len(frames), self.chunk):
            part = frames[start : start + self.chunk]
            # powers of two: few programs, and a single short video is not padded to a whole chunk
            rows = max(len(self._mesh.devices), 1 << (len(part) - 1).bit_length())
            rows = -(-rows // len(self._mesh.devices)) * len(self._mesh.devices)
            padded = np.concatenate([part, np.repeat(part[-1:], rows - len(part), axis=0)])
            placed = jax.device_put(padded, NamedSharding(self._mesh, PartitionSpec("frames")))
            found.append(np.asarray(self._programs.encode(self._state, placed))[: len(part)])
        return np.concatenate(found)

    def encode_words(
        self, labels: tuple[str, ...], told: Told | None = None
    ) -> Float32[Array, "k d"]:
        """The codebook of these texts, raw; the last few are remembered, long lists on disk too
        (`TextCache`).
        """
        if labels not in self._codebooks:
            codes = self._cache.encode(self.model, labels, told)
            while len(self._codebooks) >= _KEPT:
                self._codebooks.pop(next(iter(self._codebooks)))
            self._codebooks[labels] = jax.device_put(
                codes, NamedSharding(self._mesh, PartitionSpec())
            )
        return self._codebooks[labels]

    def encode_vocabulary(self, words: Sequence[str], told: Told | None = None) -> Vocabulary:
        """Words that name frames, ready to be searched; the last ones are remembered.

        Args:
          words: V texts.
          told: called with words done and words there are, while they are encoded.
        """
        if (
            self._vocabulary is not None
            and isinstance(words, list | tuple)
            and self._vocabulary.words == tuple(words)
        ):
            return self._vocabulary
        words = check_texts(words, "vocabulary", underscores=self.model.config.text_prompts > 0)
        self._vocabulary = Vocabulary(words, self._cache.encode(self.model, words, told))
        return self._vocabulary

    def check_labels(self, labels: Sequence[str] | None) -> tuple[str, ...]:
        """The labels to use; the learnt ones for None.

        Raises:
          UserError: none, or texts that are empty or twice there, or that CLIP reads alike (Unicode
            form, case, blanks, HTML entities; underscores where prompts are learnt).
        """
        if labels is None and not self.class_names:
            raise UserError(
                "labels: none given, and this model has learnt none, or the records of its run "
                "are not there to tell them; give the texts to choose from"
            )
        labels = self.class_names if labels is None else labels
        return check_texts(labels, "labels", underscores=self.model.config.text_prompts > 0)

    def naming(self, labels: tuple[str, ...], words: Vocabulary | None) -> Vocabulary:
        """The words that name the frames: the labels where there are no others."""
        return Vocabulary(labels, self.encode_words(labels)) if words is None else words

    def logits(
        self,
        features: Float32[np.ndarray, "b t d"],
        codebook: Float32[Array, "k d"],
        words: Vocabulary | None,
        ids: Int32[np.ndarray, "b t"] | None = None,
    ) -> Float32[np.ndarray, "b k"]:
        """Logits of B encoded videos; `words` name the frames, None for the labels; `ids` is how,
        where it is known.
        """
        if words is None or self.model.fusion is None:
            return np.asarray(self._programs.classify(self._state, features, codebook))
        config = self.model.config
        if ids is None:
            ids = words.nearest(features.reshape(-1, features.shape[-1]), 1, config.assignment).ids
        tokens = words.video_tokens(features, ids.reshape(features.shape[:2]), config)
        return np.asarray(self._programs.score(self._state, features, codebook, tokens.codes))

    def _all(self, video, labels, frames, vocabulary, fps, runner_ups, on_error):
        videos, single = as_videos(video)
        results = self.stream(
            videos,
            labels,
            frames=frames,
            vocabulary=vocabulary,
            fps=fps,
            runner_ups=runner_ups,
            on_error=on_error,
        )
        return next(results) if single else list(results)

    def _stream(self, read: Iterator[Clip | Failure], job: Job, on_error: str) -> Iterator:
        with contextlib.closing(read):
            for clip in read:
                if isinstance(clip, Failure) and on_error == "raise":
                    raise clip.error
                yield clip if isinstance(clip, Failure) else self._result(clip, job)

    def _read(self, video: Video, frames: int, fps: float | None) -> Clip | Failure:
        try:
            return read_clip(video, frames, self.size, fps=fps, squash=self.model.squash)
        except UserError as error:
            return Failure("frames" if isinstance(video, np.ndarray) else os.fspath(video), error)

    def _result(self, clip: Clip, job: Job) -> Prediction:
        # every video by itself: in a batch with others its last digits would depend on them
        features = self.encode_frames(clip.frames)
        if job.runner_ups is not None:
            return self._explain(clip, features, job)
        return Prediction(
            **facts(clip, job.labels, self.logits(features[None], job.codebook, job.words)[0])
        )

    def _explain(self, clip: Clip, features: np.ndarray, job: Job) -> Explanation:
        words = job.naming
        found = words.nearest(features, 1 + job.runner_ups, self.model.config.assignment)
        tokens = words.video_tokens(features[None], found.ids[None, :, 0], self.model.config)
        parts = self._programs.explain(self._state, features[None], job.codebook, tokens.codes)
        parts = type(parts)(*(np.asarray(part)[0] for part in parts))
        fused = self.model.fusion is not None
        return Explanation(
            **facts(clip, job.labels, parts.logits),
            pictures=clip.frames,
            words=tuple(tuple(words.words[i] for i in row) for row in found.ids),
            similarity=found.similarity,
            video_token=tuple(words.words[i] for i in tokens.ids[0]),
            votes=tokens.votes[0],
            confidence=parts.confidence,
            frame_weight=parts.weight,
            contribution=parts.contribution,
            attention=parts.attention if fused else None,
            change=parts.change if fused else None,
            vocabulary_size=len(words.words),
            vocabulary_is_labels=job.words is None,
            unit="score" if self.model.config.pooling == "softmax_mean" else "logit",
        )
