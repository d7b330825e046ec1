"""Which files of a repository or folder are needed, by their names and sizes alone."""

import posixpath
import re
from collections.abc import Container, Iterable, Mapping, Sequence
from typing import NamedTuple

from vtd_jax.clip.hub.names import is_inside
from vtd_jax.clip.weights.files import FILES
from vtd_jax.errors import UserError
from vtd_jax.printable import listed
from vtd_jax.untrusted.limits import CHECKPOINT_FILES, WEIGHTS_BYTES

INDEX = ".index.json"
# settings of the towers, of images and of texts, read beside weights
BESIDE = (
    "config.json",
    "open_clip_config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "tokenizer_config.json",
    "tokenizer.json",
    "vocab.json",
    "merges.txt",
    # these are of other tokenizers, which is seen by their presence
    "sentencepiece.bpe.model",
    "spiece.model",
    "tokenizer.model",
    "vocab.txt",
)
# of a run, as `vtd_jax.train` writes it, what is read again
_RUN_CONFIG, _CHECKPOINTS = "config.json", "checkpoints/"
_OF_RUN = (_RUN_CONFIG, "training_list.json")
_MOST_BESIDE = 64 * 2**20


class Chosen(NamedTuple):
    """Files to have.

    Attributes:
      path: what the name stands for: a file, or "" for the folder of a run.
      files: all of them, the one last that decides whether the others are complete.
    """

    path: str
    files: tuple[str, ...]


def choose(
    sizes: Mapping[str, int | None],
    file: str,
    where: str,
    *,
    order: Sequence[str] = FILES,
    beside: bool = True,
) -> Chosen:
    """The files of a listing that a name stands for.

    Args:
      sizes: path in the repository -> bytes, None for unknown.
      file: the one that the name has; "" for the weights at the top, or a run.
      where: the name, for messages.
      order: names of weights, the best first.
      beside: whether to take the settings beside the weights, too.

    Raises:
      UserError: it has no such file or no weights, or is too large.
    """
    known = {name: size for name, size in sizes.items() if is_inside(name)}
    if not file and _is_run(known):
        others = [
            name
            for name in known
            if name != _RUN_CONFIG and (name in _OF_RUN or name.startswith(_CHECKPOINTS))
        ]
        if len(others) > CHECKPOINT_FILES:
            raise UserError(
                f"{where}: a run of {len(others):,} files, expected at most {CHECKPOINT_FILES:,}"
            )
        return checked(Chosen("", (*sorted(others), _RUN_CONFIG)), known, where)
    path = file or next((name for name in order if name in known), "")
    if path not in known:
        raise UserError(_absent(known, file, where))
    folder = posixpath.dirname(path)
    settings = [posixpath.join(folder, name) for name in BESIDE] if beside else []
    found = [name for name in settings if name in known and name != path]
    return checked(Chosen(path, (*found, *shards_of(path, known), path)), known, where)


def shards_of(index: str, names: Iterable[str]) -> list[str]:
    """The files `STEM-00001-of-00002.ENDING` of a model cut into several, for its index; [] for a
    file that is no index.
    """
    if not index.endswith(INDEX):
        return []
    stem, ending = posixpath.splitext(index.removesuffix(INDEX))
    shape = re.compile(rf"{re.escape(stem)}-\d{{5}}-of-\d{{5}}{re.escape(ending)}")
    return sorted(name for name in names if shape.fullmatch(name))


def with_shards(chosen: Chosen, shards: Sequence[str], names: Container[str], where: str) -> Chosen:
    """With the files of the same folder that an index names, whatever their names.

    Args:
      chosen: what was chosen, an index.
      shards: names that it says, without a folder.
      names: all that is there.
      where: the name of the weights, for messages.

    Raises:
      UserError: one of them is not there.
    """
    folder = posixpath.dirname(chosen.path)
    paths = [posixpath.join(folder, shard) for shard in shards]
    if lacking := [path for path in paths if path not in names]:
        raise UserError(f"{where}: {chosen.path} names {lacking[0]}, which is not there")
    return chosen._replace(files=tuple(dict.fromkeys((*paths, *chosen.files))))


def checked(chosen: Chosen, sizes: Mapping[str, int | None], where: str) -> Chosen:
    """What was chosen, if it is within the limits of settings and of weights.

    Raises:
      UserError: says which file is too large, or that all are.
    """
    for name in chosen.files:
        is_setting = posixpath.basename(name) in BESIDE and name != chosen.path
        if is_setting and (sizes[name] or 0) > _MOST_BESIDE:
            raise UserError(
                f"{where}: {name} is {sizes[name]:,} bytes, expected at most {_MOST_BESIDE:,}"
            )
    total = sum(sizes[name] or 0 for name in chosen.files)
    if total > WEIGHTS_BYTES:
        raise UserError(
            f"{where}: {total:,} bytes, expected at most {WEIGHTS_BYTES:,}: not a CLIP's"
        )
    return chosen


def _is_run(names: Iterable[str]) -> bool:
    names = set(names)
    has_checkpoints = any(name.startswith(_CHECKPOINTS) for name in names)
    return _RUN_CONFIG in names and has_checkpoints and names.isdisjoint(FILES)


def _is_about(name: str) -> bool:
    """Whether a file is of the repository, not of the model."""
    return name.startswith(".") or posixpath.basename(name) in ("README.md", "LICENSE")


def _absent(names: Iterable[str], file: str, where: str) -> str:
    there = sorted(name for name in names if not _is_about(name))
    holds = listed(there, 6) or "nothing"
    if file:
        return f"{where}: no such file; there: {holds}"
    return (
        f"{where}: no weights, expected one of {', '.join(FILES)}, or name the file; there: {holds}"
    )
