"""Predicts and explains labels of any videos; made by `vtd_jax.load`."""

import contextlib
import os
from collections.abc import Generator, Iterator, Sequence
from typing import Any, Unpack, cast

import jax
from jaxtyping import Array, Float32

from vtd_jax.cache.text_features import TextCache
from vtd_jax.clip import tokenizer
from vtd_jax.errors import UserError
from vtd_jax.fields import check_call, check_known, check_path, check_whole
from vtd_jax.model.vtd_clip import VTDCLIP
from vtd_jax.predict.batching.encode import encode
from vtd_jax.predict.batching.options import Encoding, How
from vtd_jax.predict.device_model import DeviceModel
from vtd_jax.predict.embedding import Embeds
from vtd_jax.predict.job import Encoded, Failure, Job, check_on_error, check_runner_ups
from vtd_jax.predict.programs import OnProgress, Vocabulary
from vtd_jax.predict.results import Explanation, Prediction, Timeline
from vtd_jax.predict.scoring import score_videos
from vtd_jax.predict.words import check_texts
from vtd_jax.printable import shown
from vtd_jax.video.clips.arguments import as_videos, local
from vtd_jax.video.decode import VideoError
from vtd_jax.video.lists.addresses import named
from vtd_jax.video.scaling.fit import Fit

# lists of labels whose codebooks are kept in memory
_KEPT = 4


class Predictor(Embeds):
    """Scores any labels for any videos. Calls change nothing but caches.

    Example:
      >>> import numpy as np
      >>> import vtd_jax
      >>> model = vtd_jax.load("tiny")
      >>> red = np.full((8, 64, 64, 3), (200, 30, 30), np.uint8)
      >>> model.embed_video([red, red], frames=4).shape, model.embed_text("red").shape
      ((2, 128), (128,))

    Attributes:
      model: the VTD-CLIP.
      frames: default of T: that of training, 16 for zero-shot.
      class_names: default labels: those of training, () for zero-shot.
      description: of the model, for tables and pages.
      weights: fingerprint of all weights.
      source: name or path that it was loaded from; "" for one in memory.
    """

    def __init__(
        self,
        model: VTDCLIP,
        *,
        frames: int,
        class_names: Sequence[str] = (),
        description: str = "",
        weights: str = "",
        source: str = "",
        cache: TextCache | None = None,
        devices: Sequence[jax.Device] | None = None,
    ):
        self.model, self.frames, self.class_names = model, frames, tuple(class_names)
        self.description, self.weights, self.source = description, weights, source
        self._cache = TextCache(None) if cache is None else cache
        self._on_devices = DeviceModel(model, devices)
        self._codebooks: dict[tuple[str, ...], Array] = {}
        self._vocabulary: Vocabulary | None = None

    def __repr__(self) -> str:
        return shown(f"<Predictor: {self.description or 'in memory'}; {self.frames} frames>")

    @property
    def size(self) -> int:
        """Side of the frames that the model sees, pixels."""
        return self._on_devices.size

    @property
    def fit(self) -> Fit:
        """How frames are scaled and cropped."""
        return self._on_devices.fit

    @property
    def on_devices(self) -> DeviceModel:
        """The model and its compiled programs."""
        return self._on_devices

    @property
    def chunk(self) -> int:
        """Frames that are encoded at once, over all devices."""
        return self._on_devices.chunk

    @property
    def tokenizer(self) -> Any:
        """Of the CLIP, with `tokenize` and `count_tokens`."""
        return self.model.clip.tokenizer or tokenizer

    @property
    def label_room(self) -> int:
        """Tokens that a label may have: CLIP's context less start, end and prompts or template."""
        config, clip, tokens = self.model.config, self.model.clip, self.tokenizer
        room = clip.config.context_length - tokens.AROUND
        if config.text_prompts:
            # prompts replace the four tokens of "a photo of a", first ones first, where the
            # tokenizer has stand-ins; a full stop ends the text
            least = 4 if clip.tokenizer is None else 0
            return room - max(least, config.text_prompts) - 1
        around = [template.replace("{}", "") for template in config.templates]
        return room - max(map(int, tokens.count_tokens(around)), default=0)

    def predict(
        self,
        video: Any,
        labels: Sequence[str] | None = None,
        *,
        frames: int | None = None,
        vocabulary: Sequence[str] | None = None,
        fps: float | None = None,
        on_error: str = "raise",
        **how: Unpack[How],
    ) -> Prediction | Failure | list[Prediction | Failure] | Iterator[Prediction | Failure]:
        """Scores labels for one video or several.

        Args:
          video: path of a file, or uint8 RGB frames `[N, H, W, 3]`; a list of these, a folder (all
            videos in it, however deep), a glob such as `clips/*.mp4`, or an iterator. Videos may be
            of any length and size. An address (`https://…`, `gs://…`) is copied first.
          labels: K texts; None for the class names of training.
          frames: T, frames sampled from a video; None for `self.frames`.
          vocabulary: words that name frames, as for `explain`; None for the labels. Scores depend
            on them only in a model with fusion, which uses the video token.
          fps: frame rate of arrays.
          on_error: "raise" stops at the first video that cannot be read; "return" returns a
            `Failure` for it, and the results of all others.
          **how: of reading and encoding:
            `batch_frames=N`: frames encoded at once, of several videos; None: as memory allows.
            `deterministic=True`: the same bits for a video whatever is beside it.
            `check="full"`: decodes every frame of a file; "index" goes by its packets.
            `workers=N`: videos decoded at once; 0 decodes when a video's turn has come.
            `processes=True` or False: decodes in processes or in threads; None chooses.
            `download=True` or False: whether addresses may be copied; None asks.

        Returns:
          A `Prediction`; a list of them for a list, a folder or a glob; for an iterator an
          iterator, which takes the memory of a few videos.

        Raises:
          UserError: no labels, or labels that are empty, repeated or too long; a folder or glob
            without videos; an option out of range; with `on_error="raise"` also a file that is not
            a complete video.
        """
        options = dict(frames=frames, vocabulary=vocabulary, fps=fps, on_error=on_error)
        return self._predict(video, labels, how, **options)

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
        **how: Unpack[How],
    ) -> Explanation | Failure | list[Explanation | Failure] | Iterator[Explanation | Failure]:
        """As `predict`, with the words of the frames, their confidences and contributions.

        Args:
          video, labels, frames, fps, on_error, how: as for `predict`; the scores are the same.
          vocabulary: words that name frames, 1 to millions; None for the labels, as in the method.
          runner_ups: further words for each frame, nearest first.
        """
        options = dict(frames=frames, vocabulary=vocabulary, fps=fps, on_error=on_error)
        check_whole("runner_ups", runner_ups, "0 or more", least=0)
        return self._predict(video, labels, how, runner_ups=runner_ups, **options)

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
        on_progress: OnProgress | None = None,
        on_error: str = "raise",
        download: bool | None = None,
    ) -> Timeline | Failure:
        """What a long video shows when; only the result grows with the length of the video.

        A frame is sampled and encoded every `window / T` seconds. T successive frames are a window.

        Args:
          video: path of a file, or an address.
          labels, vocabulary: as for `predict`.
          window: its length in seconds.
          stride: seconds from window to window; None for half a window. It is rounded to 1..T steps
            of `window / T` seconds; `Timeline.stride` is the rounded one.
          frames: T, frames of a window.
          threshold: score, 0..1, from which a window shows a label that is not its best.
          on_progress: called with the seconds done and the length of the video, 0 if unknown.
          on_error, download: as for `predict`.

        Raises:
          UserError: as for `predict`, or a window, stride or threshold out of range.
        """
        from vtd_jax.predict.timeline import Windows, make_timeline

        check_on_error(on_error)
        check_path("video", video, "the path of a file")
        check_call("on_progress", on_progress)
        plan = Windows(self.frames if frames is None else frames, window, stride, threshold)
        job = self._job(labels, vocabulary)
        copy = cast(str | os.PathLike, local(video, download))
        try:
            return make_timeline(self._on_devices, copy, job, plan, on_progress)
        except VideoError as error:
            if on_error == "raise":
                raise
            return Failure(named(video), error)

    def stream(
        self,
        videos: Any,
        labels: Sequence[str] | None = None,
        *,
        frames: int | None = None,
        vocabulary: Sequence[str] | None = None,
        fps: float | None = None,
        runner_ups: int | None = None,
        on_error: str = "return",
        **how: Unpack[How],
    ) -> Iterator[Prediction | Explanation | Failure]:
        """Yields one result a video, in order; takes the memory of a few videos.

        Args:
          videos: as for `predict`; those of an iterator are read as they are needed, a few batches
            ahead. What it raises is raised after the results of all videos before.
          labels, frames, vocabulary, fps, on_error, how: as for `predict`.
          runner_ups: None predicts; a number explains.

        Raises:
          UserError: as for `predict`; options and labels are checked by the call itself.
        """
        check_on_error(on_error)
        check_runner_ups(runner_ups)
        encoding = Encoding.of(self.frames if frames is None else frames, fps, how)
        job = self._job(labels, vocabulary)
        encoded = encode(self._on_devices, as_videos(videos, encoding.download)[0], encoding)
        ahead = encoding.videos_ahead(self._on_devices)
        scored = score_videos(self._on_devices, encoded, job, runner_ups, ahead)
        return self._results(scored, on_error)

    def encode_videos(
        self,
        videos: Any,
        *,
        frames: int | None = None,
        fps: float | None = None,
        **how: Unpack[How],
    ) -> Iterator[Encoded | Failure]:
        """Yields the frames of each video and their features, in order.

        Args:
          videos: as for `stream`.
          frames, fps, how: as for `predict`.

        Raises:
          UserError: an option out of range, a folder or glob without videos.
        """
        encoding = Encoding.of(self.frames if frames is None else frames, fps, how)
        return encode(self._on_devices, as_videos(videos, encoding.download)[0], encoding)

    def encode_words(
        self, labels: tuple[str, ...], on_progress: OnProgress | None = None
    ) -> Float32[Array, "k d"]:
        """The raw codebook of these texts; the last few are cached, long lists also on disk."""
        # a tuple is checked already: it is what `check_labels` returns
        labels = labels if isinstance(labels, tuple) else self._checked(labels, "labels")
        if labels not in self._codebooks:
            codes = self._cache.encode(self.model, labels, on_progress)
            while len(self._codebooks) >= _KEPT:
                self._codebooks.pop(next(iter(self._codebooks)))
            self._codebooks[labels] = self._on_devices.replicate(codes)
        return self._codebooks[labels]

    def encode_vocabulary(
        self, words: Sequence[str], on_progress: OnProgress | None = None
    ) -> Vocabulary:
        """Encodes words that name frames; the last vocabulary is cached.

        Args:
          words: V texts.
          on_progress: called with the number of encoded words and V.
        """
        check_call("on_progress", on_progress)
        kept = self._vocabulary
        if kept is not None and isinstance(words, list | tuple) and kept.words == tuple(words):
            return kept
        words = self._checked(words, "vocabulary")
        self._vocabulary = Vocabulary(words, self._cache.encode(self.model, words, on_progress))
        return self._vocabulary

    def check_labels(self, labels: Sequence[str] | None) -> tuple[str, ...]:
        """The labels to use; those of training for None.

        Raises:
          UserError: no labels, or texts that are empty, repeated or the same to CLIP (Unicode form,
            case, blanks, HTML entities; underscores with learnt prompts).
        """
        if labels is None and not self.class_names:
            raise UserError(
                "labels: none given, and this model has none (zero-shot, or the records of its run "
                "are missing); give the texts to choose from"
            )
        return self._checked(self.class_names if labels is None else labels, "labels")

    def _checked(self, texts: Sequence[str], what: str) -> tuple[str, ...]:
        return check_texts(texts, what, underscores=self.model.config.text_prompts > 0)

    def _job(self, labels: Sequence[str] | None, vocabulary: Sequence[str] | None) -> Job:
        """Checks and encodes labels and vocabulary."""
        checked = self.check_labels(labels)
        codebook = self.encode_words(checked)
        if vocabulary is None:
            return Job(checked, codebook, Vocabulary(checked, codebook, is_labels=True))
        return Job(checked, codebook, self.encode_vocabulary(vocabulary))

    def _predict(self, video: Any, labels: Sequence[str] | None, how: How, **options: Any) -> Any:
        """The result of one video; the list, or iterator, of results of several."""
        check_known(how, How.__annotations__)
        videos, single = as_videos(video, how.get("download"))
        results = self.stream(videos, labels, **options, **how)
        if single:
            return next(results)
        return list(results) if isinstance(videos, Sequence) else results

    def _results(self, scored: Generator[Any, None, None], on_error: str) -> Iterator[Any]:
        with contextlib.closing(scored):
            for one in scored:
                if isinstance(one, Failure) and on_error == "raise":
                    raise one.error
                yield one
