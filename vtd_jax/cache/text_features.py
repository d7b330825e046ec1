"""Text features of word lists, kept on disk: a million words take an hour to encode."""

import functools
import mmap
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx
from jaxtyping import Float

from vtd_jax.cache.folder import check_ours
from vtd_jax.cache.shards import ENDING, make_folder, read_rows, write_rows
from vtd_jax.errors import UserError
from vtd_jax.files import cache_folder
from vtd_jax.fingerprints import fingerprint, fingerprint_all
from vtd_jax.model.vtd_clip import VTDCLIP
from vtd_jax.terminal import warn

# words per file
SHARD = 8192
# shorter lists are encoded faster than they are read from disk
LEAST = 256

# part of every file's name; counts up when the meaning of files changes
_FORMAT = 3
# what messages call the rows
_WHAT = "text features"
# words per compiled call (for short lists the next power of two); lengths are padded to a multiple
# of _POSITIONS, which limits the number of programs
_BATCH, _POSITIONS = 256, 8


class TextCache:
    """Codebooks of word lists, stored under the fingerprint of everything that they depend on.

    A file has 8192 words, so that adding words at the end keeps the earlier files, and an
    interrupted encoding resumes. Lists of fewer than 256 words are never written. Files of earlier
    formats are ignored.

    Attributes:
      folder: of the files, see `cache_folder`; made when first needed.
    """

    def __init__(self, folder: str | os.PathLike | None = None):
        self.folder = cache_folder(folder)
        self._known: tuple[list[Any], str] = ([], "")

    def encode(
        self,
        model: VTDCLIP,
        words: Sequence[str],
        progress: Callable[[int, int], object] | None = None,
    ) -> Float[np.ndarray, "k d"]:
        """The codebook of `words`: raw float32 features `encode_classes(class_tokens(words))`.

        They are equal up to rounding (1e-6 of a feature's length): texts are padded differently.

        Args:
          model: read only; the features depend on its text tower, text prompts and templates.
          words: K words or phrases.
          progress: called with the words done and K, after every encoded batch or read file.

        Returns:
          `[K, D]`, which takes little more memory than its K·D·4 bytes. It is aligned to 64 bytes,
          so that `vocabulary.nearest` reads it in place.

        Raises:
          UserError: no words, one that is too long, or a folder that cannot be written.
        """
        count, width = len(words), model.clip.config.embed_dim
        progress = progress or (lambda done, count: None)
        if not count:
            raise UserError("no words to encode: give one or more")
        kept = count >= LEAST and self._is_ours()
        if kept:
            make_folder(self.folder, _WHAT)
        # a map starts at a page, and takes memory only as rows are filled
        out = np.frombuffer(mmap.mmap(-1, count * width * 4), np.float32).reshape(count, width)
        for first in range(0, count, SHARD):
            part = list(words[first : first + SHARD])
            rows = out[first : first + len(part)]
            file = self._file(model, part) if kept else None
            known = None if file is None else read_rows(file, rows.shape, _WHAT)
            if known is not None:
                rows[:] = known
                progress(first + len(part), count)
                continue
            encode_texts(
                model, part, rows, lambda done, at=first: progress(at + done, count), first
            )
            if file is not None:
                write_rows(file, rows, _WHAT)
        return out

    def _is_ours(self) -> bool:
        """Whether only this user can write to the folder; otherwise warns."""
        try:
            check_ours(self.folder)
        except UserError as error:
            warn(f"text features are neither read nor kept: {error}")
            return False
        return True

    def _file(self, model: VTDCLIP, words: list[str]) -> Path:
        """The file of a part of a list, named by everything that its features depend on."""
        return self.folder / f"text-{fingerprint([self._weights(model), words])}{ENDING}"

    def _weights(self, model: VTDCLIP) -> str:
        """The fingerprint of the text tower, its prompts and settings, kept for the last model."""
        prompts = [] if model.text_prompts is None else [model.text_prompts[...]]
        leaves = jax.tree_util.tree_leaves_with_path(nnx.state(model.clip.text))
        arrays = [leaf for _, leaf in leaves] + prompts
        before, name = self._known
        # arrays of a model never change in place, so the same objects have the same fingerprint
        if len(before) == len(arrays) and all(a is b for a, b in zip(before, arrays, strict=True)):
            return name
        settings, tower = model.config, model.clip.config
        about = [
            _FORMAT,
            settings.text_prompts,
            settings.templates,
            repr(tower),
            str(model.clip.text.dtype),
        ]
        # of CLIP's own the version of the format says it
        about += [] if model.clip.tokenizer is None else [repr(model.clip.tokenizer)]
        about += [jax.tree_util.keystr(path) for path, _ in leaves]
        name = fingerprint_all([about, *(jax.device_get(array) for array in arrays)])
        self._known = (arrays, name)
        return name


def encode_texts(
    model: VTDCLIP,
    words: Sequence[str],
    rows: Float[np.ndarray, "k d"],
    progress: Callable[[int], object] = lambda done: None,
    first: int = 0,
) -> None:
    """Fills `rows` with the codebook of `words`, in batches of one size and few lengths, to compile
    few programs.

    Args:
      model: read only.
      words: K words or phrases.
      rows: float32, changed in place.
      progress: called with the words done, after every batch.
      first: index of the first word in the whole list, for messages.

    Raises:
      UserError: a word that is too long.
    """
    try:
        tokens = model.class_tokens(words)
    except UserError as error:
        # the error quotes the text, which says enough of a single one
        place = f"among words {first + 1} to {first + len(words)}: " if len(words) > 1 else ""
        raise UserError(f"{place}{error}") from None
    graphdef, state = nnx.split(model.rounded())
    encode, size = _encoder(graphdef), min(_BATCH, 1 << (len(words) - 1).bit_length())
    longest = model.clip.config.context_length
    if model.clip.config.design.causal:
        lengths = tokens.argmax(axis=-1).reshape(len(words), -1).max(axis=1) + 1
    else:
        lengths = np.full(len(words), longest)
    # words of similar lengths share a batch, which saves padding
    order = np.argsort(lengths, kind="stable")
    for start in range(0, len(words), size):
        chosen = order[start : start + size]
        # repeats words to fill the last batch
        batch = np.resize(chosen, size)
        length = min(-(-lengths[batch].max() // _POSITIONS) * _POSITIONS, longest)
        missing = max(length - tokens.shape[-1], 0)
        texts = np.pad(tokens[batch, ..., :length], [(0, 0)] * (tokens.ndim - 1) + [(0, missing)])
        rows[chosen] = np.asarray(encode(texts, state))[: len(chosen)]
        progress(min(start + size, len(words)))


@functools.lru_cache(maxsize=16)
def _encoder(graphdef: Any) -> Callable[..., Any]:
    """The compiled function of one kind of model; takes `(tokens, state)`."""
    return jax.jit(lambda tokens, state: nnx.merge(graphdef, state).encode_classes(tokens))
