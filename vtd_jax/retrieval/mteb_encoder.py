"""A model as an encoder of MTEB, the benchmark of embeddings whose part for videos is MVEB."""

import contextlib
import os
import re
import tempfile
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from jaxtyping import Array, Float32

from vtd_jax.clip.hub.names import is_name
from vtd_jax.errors import UserError
from vtd_jax.fields import check_whole
from vtd_jax.installed.extras import need
from vtd_jax.predict.job import Failure
from vtd_jax.predict.loading import load
from vtd_jax.predict.predictor import Predictor
from vtd_jax.predict.programs import Vocabulary
from vtd_jax.printable import brief

# tasks that give the model the texts of the labels, and ask for its scores of all of them
_ZERO_SHOT = ("ZeroShotClassification", "VideoZeroshotClassification")
# videos that are scored at once
_BATCH = 64
_NAME = re.compile(r"[^A-Za-z0-9.-]+")


class MTEBEncoder:
    """What `mteb.evaluate` takes: texts and videos in, embeddings and their similarities out.

        model = MTEBEncoder("ViT-B/16", download=True)
        mteb.evaluate(model, tasks=mteb.get_tasks(["HMDB51ZeroShot"]))

    In tasks of zero-shot classification the scores are those of `Predictor.predict`: MTEB has the
    model encode all labels, then the videos, and compare them by `similarity`. A video is then all
    of its frame features, and `similarity` gives the logits of the whole method, with the labels as
    codebook. In all other tasks a video is one vector before any label is known, so words, video
    token and fusion have no part in it: it is the mean of the unit features of its frames, of the
    tower with the learnt visual prompts, as of `Predictor.embed_video`. A text is
    `Predictor.embed_text` of it, cut where it is too long. Their similarity is the cosine.

    Attributes:
      predictor: the model.
      frames: T.
      mteb_model_meta: what MTEB stores beside results: name, fingerprint of the weights, T.
    """

    def __init__(
        self,
        model_name: str | os.PathLike | Predictor,
        revision: str | None = None,
        *,
        device: Any = None,
        frames: int | None = None,
        **options: Any,
    ):
        """Loads a model.

        Args:
          model_name: a source of `vtd_jax.load`, or what it returned.
          revision: None; MTEB passes one, and weights are named with theirs.
          device: None; JAX's devices are those of `devices=`.
          frames: T, 2 or more; None for the model's own.
          **options: of `vtd_jax.load`.

        Raises:
          UserError: mteb is not installed, or as `vtd_jax.load` does.
        """
        need("mteb", "MTEBEncoder")
        if revision is not None or device is not None:
            raise UserError(
                f"revision={brief(revision)}, device={brief(device)}: name weights with their "
                "revision, as hf:ORG/MODEL@REVISION, and give JAX's devices as devices="
            )
        if not isinstance(model_name, Predictor):
            model_name = load(model_name, **options)
        elif options:
            raise UserError(f"{next(iter(options))}: options are for a source, not for a model")
        self.predictor = model_name
        frames = model_name.frames if frames is None else frames
        # with one, frames could not be distinguished from a vector
        self.frames = check_whole("frames", frames, "2 or more", least=2)
        self.mteb_model_meta = _meta(model_name, self.frames)

    def encode(
        self,
        inputs: Any,
        *,
        task_metadata: Any,
        hf_split: str,
        hf_subset: str,
        prompt_type: Any = None,
        **kwargs: Any,
    ) -> Float32[np.ndarray, "n d"]:
        """Embeddings of texts or videos.

        Args:
          inputs: a DataLoader of MTEB, whose batches have "text", or "video".
          task_metadata: of the task; its type decides what a video is.
          hf_split, hf_subset, prompt_type: not used.
          **kwargs: `batch_size` is that of videos in memory; others are not used.

        Returns:
          Float32 `[N, D]`; of videos in zero-shot classification `[N, T · D]`.

        Raises:
          UserError: neither texts nor videos, or both in one; a video that is not whole.
        """
        columns = set(getattr(inputs.dataset, "column_names", ())) & {"text", "video"}
        if len(columns) != 1:
            raise UserError(
                f"{task_metadata.name}: inputs of {sorted(columns) or 'another kind'}, expected "
                "texts, or videos; this model has no embedding of both together"
            )
        is_scored = task_metadata.type in _ZERO_SHOT and "video" in task_metadata.modalities
        if columns == {"text"}:
            texts = [text for batch in inputs for text in batch["text"]]
            return self._codebook(texts) if is_scored else self._texts(texts)
        size = int(kwargs.get("batch_size") or _BATCH)
        with contextlib.closing(_parts(inputs, size)) as parts:
            return np.concatenate([self._videos(part, is_scored) for part in parts])

    def similarity(self, embeddings1: Any, embeddings2: Any) -> Any:
        """Similarities of all pairs: cosines, or the model's logits.

        Args:
          embeddings1: `[N, D]`; or `[N, T · D]`, videos of a task of zero-shot classification.
          embeddings2: `[M, D]`; with such videos the codebook of all labels.

        Returns:
          A tensor of PyTorch `[N, M]`.
        """
        from mteb.similarity_functions import cos_sim, dot_score

        if np.ndim(embeddings1) < 2 or embeddings1.shape[1] != self.frames * embeddings2.shape[-1]:
            return cos_sim(embeddings1, embeddings2)
        logits = self._logits(np.asarray(embeddings1), np.asarray(embeddings2))
        # as a tensor: this package imports no PyTorch
        return dot_score(logits, np.eye(logits.shape[1], dtype=np.float32))

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> Any:
        """Cosines of corresponding rows.

        Args:
          embeddings1, embeddings2: `[N, D]`.

        Returns:
          A tensor of PyTorch `[N]`.
        """
        from mteb.similarity_functions import pairwise_cos_sim

        return pairwise_cos_sim(embeddings1, embeddings2)

    def _texts(self, texts: Sequence[str]) -> Float32[np.ndarray, "n d"]:
        return self.predictor.embed_text(texts, truncate=True)

    def _codebook(self, texts: Sequence[str]) -> Float32[np.ndarray, "k d"]:
        """The raw codes of labels, as the method compares frames with them."""
        return np.asarray(self.predictor.encode_words(self.predictor.check_labels(texts)))

    def _videos(self, videos: Sequence[Path], is_scored: bool) -> Float32[np.ndarray, "n d"]:
        if not is_scored:
            return self.predictor.embed_video(list(videos), frames=self.frames)
        rows = []
        for one in self.predictor.encode_videos(list(videos), frames=self.frames):
            if isinstance(one, Failure):
                raise one.error
            rows.append(np.ravel(one.features))
        return np.stack(rows)

    def _logits(
        self, videos: Float32[np.ndarray, "n d"], codes: Float32[np.ndarray, "k e"]
    ) -> Float32[np.ndarray, "n k"]:
        """The method's logits of encoded videos for labels."""
        on_devices = self.predictor.on_devices
        codebook = cast(Array, on_devices.replicate(codes.astype(np.float32)))
        words = Vocabulary(tuple(map(str, range(len(codes)))), codebook, is_labels=True)
        features = videos.reshape(len(videos), self.frames, codes.shape[1])
        parts = [features[at : at + _BATCH] for at in range(0, len(features), _BATCH)]
        return np.concatenate([on_devices.logits(part, codebook, words) for part in parts])


def _parts(inputs: Any, size: int) -> Generator[Sequence[Path], None, None]:
    """The videos of a DataLoader, `size` at a time; files of bytes are there until the next."""
    import datasets

    found = inputs.dataset
    # as they were encoded: MTEB's own decoder, torchcodec, is not needed, and frames are those that
    # this package's commands see
    if isinstance(found.features["video"], datasets.Video):
        found = found.cast_column("video", datasets.Video(decode=False))
    for start in range(0, len(found), size):
        with tempfile.TemporaryDirectory() as folder:
            rows = found[start : start + size]["video"]
            yield [
                _video(row, Path(folder, f"video {start + place}.mp4"))
                for place, row in enumerate(rows)
            ]


def _video(value: Any, place: Path) -> Path:
    """A video of a data set as a file; bytes are written to `place`."""
    if isinstance(value, bytes):
        value = {"bytes": value}
    if isinstance(value, dict) and value.get("bytes"):
        place.write_bytes(value["bytes"])
        return place
    if isinstance(value, dict) and value.get("path"):
        return Path(value["path"])
    raise UserError(f"{place.stem}: {type(value).__name__}, expected bytes, or the path of a file")


def _meta(predictor: Predictor, frames: int) -> Any:
    """What MTEB stores beside results."""
    from mteb.models.model_meta import ModelMeta, ScoringFunction

    config = predictor.model.config
    tuned = bool(config.fusion or config.visual_prompts or config.text_prompts)
    source = predictor.source
    if not is_name(source):
        # results are passed on: folders of this machine are not in them
        source = Path(source).name or "in-memory"
    return ModelMeta(
        loader=None,
        name=f"vtd-jax/{_NAME.sub('-', source).strip('-.')}",
        # other weights never take the results of these
        revision=predictor.weights or None,
        release_date=None,
        languages=["eng-Latn"],
        n_parameters=None,
        memory_usage_mb=None,
        max_tokens=float(predictor.model.clip.config.context_length),
        embed_dim=predictor.model.clip.config.embed_dim,
        license=None,
        open_weights=None,
        public_training_code=None,
        public_training_data=None,
        framework=["JAX"],
        similarity_fn_name=ScoringFunction.COSINE,
        use_instructions=False,
        training_datasets=None,
        modalities=["text", "video"],
        experiment_kwargs={
            "frames": frames,
            "pooling": config.pooling,
            "preprocess": predictor.model.preprocess,
            "tuned": tuned,
        },
    )
