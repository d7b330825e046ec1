"""Features of videos, frames and texts for search: what `Predictor` offers beside labels."""

import bisect
import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, Unpack, cast

import numpy as np
from jaxtyping import Float32

from vtd_jax.cache.text_features import TextCache
from vtd_jax.errors import UserError, setting
from vtd_jax.fields import check_listed, check_switch
from vtd_jax.model.vtd_clip import VTDCLIP
from vtd_jax.predict.batching.options import How
from vtd_jax.predict.device_model import DeviceModel
from vtd_jax.predict.job import Encoded, Failure
from vtd_jax.predict.words import check_readable
from vtd_jax.printable import brief
from vtd_jax.texts import beginning
from vtd_jax.video.clip import check_frames
from vtd_jax.video.clips.arguments import as_videos


class Embeds:
    """The part of `Predictor` that makes features; their cosines are what CLIP compares."""

    model: VTDCLIP
    _cache: TextCache
    _on_devices: DeviceModel

    @property
    def tokenizer(self) -> Any:
        """See `Predictor`."""
        raise NotImplementedError

    @property
    def label_room(self) -> int:
        """See `Predictor`."""
        raise NotImplementedError

    def encode_videos(
        self,
        videos: Any,
        *,
        frames: int | None = None,
        fps: float | None = None,
        **how: Unpack[How],
    ) -> Iterator[Encoded | Failure]:
        """See `Predictor`."""
        raise NotImplementedError

    def encode_frames(self, frames: np.ndarray) -> Float32[np.ndarray, "n d"]:
        """Raw features of single frames or images, as the model computes them.

            model.encode_frames(np.stack([image, image]))  # [2, D]

        Args:
          frames: uint8 RGB `[N, H, W, 3]`, 0..255, of any size and number above 0; scaled and
            cropped as frames of videos are.

        Returns:
          Float32 `[N, D]`, not normalised. Memory beside it is that of one batch.

        Raises:
          UserError: an array of another kind.
        """
        check_frames(frames)
        on_devices = self._on_devices
        size, fit, step = on_devices.size, on_devices.fit, on_devices.chunk
        return np.concatenate(
            [
                on_devices.encode_frames(
                    np.stack([fit.views(frame[None], size)[0, 0] for frame in part])
                )
                for part in (frames[at : at + step] for at in range(0, len(frames), step))
            ]
        )

    def embed_video(
        self,
        video: Any,
        *,
        frames: int | None = None,
        pool: str | None = "mean",
        **how: Unpack[How],
    ) -> Float32[np.ndarray, "*any d"]:
        """Embeddings of videos for retrieval, of unit length: compare them by their dot products.

            texts, videos = model.embed_text(queries), model.embed_video(paths)
            order = np.argsort(-texts @ videos.T, axis=1)  # of every query, the best video first

        They are features of the image tower, with the learnt visual prompts of a tuned model; words
        and fusion, which depend on labels, have no part in them.

        Args:
          video: path of a file, uint8 RGB frames `[N, H, W, 3]`, a list of these, a folder, a glob
            or an iterator, as for `predict`.
          frames: T, frames sampled from a video; None for `self.frames`.
          pool: "mean" is the mean of the frames' unit features, scaled to unit length, as CLIP is
            commonly used for videos; None gives the frames themselves.
          **how: as for `predict`.

        Returns:
          Float32 `[D]`, or `[T, D]` with `pool=None`; for a list of N videos `[N, D]` or
          `[N, T, D]`. Every last axis has length 1.

        Raises:
          UserError: a file that is not a complete video, or an option out of range.
        """
        if not (pool is None or (isinstance(pool, str) and pool == "mean")):
            raise UserError(f'pool={brief(pool)}: expected "mean", or None for a vector a frame')
        videos, single = as_videos(video, how.get("download"))
        found, encoded = [], self.encode_videos(videos, frames=frames, **how)
        with contextlib.closing(cast(Any, encoded)):
            for one in encoded:
                if isinstance(one, Failure):
                    raise one.error
                units = _unit(one.features)
                found.append(units if pool is None else _unit(units.mean(axis=0)))
        if not found:
            raise UserError("video: an empty list, expected one video or more")
        return found[0] if single else np.stack(found)

    def embed_text(
        self, texts: str | Sequence[str], *, truncate: bool = False
    ) -> Float32[np.ndarray, "*any d"]:
        """Embeddings of texts for retrieval, of unit length: the partners of `embed_video`.

        A text is read as a label is: as it is, in the model's templates, or behind the learnt text
        prompts of a tuned model.

            model.embed_text("a dog catches a frisbee")  # [D]

        Args:
          texts: one text or a list, of any number; a text may be there twice.
          truncate: whether a text that is too long is cut at the last word that fits. A text may
            have any length then: the first 4096 characters are looked at, which are more than fit.

        Returns:
          Float32 `[D]` for one text, `[N, D]` for a list of N. Every row has length 1.

        Raises:
          UserError: an empty list, a text that is empty (also to CLIP), not valid Unicode, or too
            long.
        """
        cuts, expected = check_switch("truncate", truncate), "a text or a list of texts"
        given = [texts] if isinstance(texts, str) else check_listed("texts", texts, expected)
        if cuts:
            given = [beginning(text) if isinstance(text, str) else text for text in given]
        check_readable(
            given,
            "texts",
            underscores=self.model.config.text_prompts > 0,
            remedy=f"shorten it, or cut it with {setting('truncate', True)}",
        )
        known = dict.fromkeys(given)
        read = self._cut(list(known)) if cuts else list(known)
        codes = _unit(np.asarray(self._cache.encode(self.model, read)))
        places = {text: place for place, text in enumerate(known)}
        rows = codes[[places[text] for text in given]]
        return rows[0] if isinstance(texts, str) else rows

    def _cut(self, texts: list[str]) -> list[str]:
        """Texts of at most `label_room` tokens."""
        room, counts = self.label_room, self.tokenizer.count_tokens(texts)

        def fitted(pieces: Sequence[str], joint: str) -> str:
            def tokens(count: int) -> int:
                return int(self.tokenizer.count_tokens(joint.join(pieces[:count]))[0])

            return joint.join(pieces[: bisect.bisect(range(1, len(pieces) + 1), room, key=tokens)])

        # a single word that is too long is cut within
        return [
            text if count <= room else fitted(text.split(), " ") or fitted(text.split()[0], "")
            for text, count in zip(texts, counts, strict=True)
        ]


def _unit(rows: Float32[np.ndarray, "*any d"]) -> Float32[np.ndarray, "*any d"]:
    """Rows of length 1; zeros stay zeros."""
    # divided by the largest number first: squares of a feature could leave the range of float32
    rows = rows / np.maximum(np.abs(rows).max(axis=-1, keepdims=True), np.finfo(np.float32).tiny)
    lengths = np.sqrt(np.square(rows).sum(axis=-1, keepdims=True))
    return rows / np.where(lengths == 0, np.float32(1), lengths)
