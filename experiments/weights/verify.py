"""Says what weights are, and whether our port gives the numbers that were published for them."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Float, UInt8

import vtd_jax
from experiments.weights import pictures
from experiments.weights.published import PUBLISHED, TOKENS, Picture
from vtd_jax.clip.config import CLIPConfig
from vtd_jax.clip.hub.names import TINY
from vtd_jax.clip.hub.openai import OPENAI, by_hash
from vtd_jax.clip.hub.resolve import resolve
from vtd_jax.clip.model import CLIP
from vtd_jax.clip.tokenizer import tokenize
from vtd_jax.clip.weights.checkpoints import TINY_CLIP, read_checkpoint
from vtd_jax.clip.weights.params import clip_from_state
from vtd_jax.errors import UserError
from vtd_jax.model.preprocess import scaling
from vtd_jax.model.saved.fingerprint import weights_fingerprint
from vtd_jax.terminal import say, show_table
from vtd_jax.untrusted.regular_files import open_regular
from vtd_jax.video.scaling.fit import Fit


class Check(NamedTuple):
    """A published number, or several of one picture, and ours."""

    what: str
    expected: str
    ours: str
    tolerance: str
    passed: bool


def verify(source: str, folder: str | None) -> str:
    """Prints a table of checks and a line to paste into an issue; returns the closing line.

    Args:
      source: a name or a path.
      folder: with the pictures that are not in scikit-image; None for none.

    Raises:
      UserError: weights that cannot be read, or a number that is not the published one.
    """
    path = TINY_CLIP if source == TINY else resolve(source).path
    config, state = read_checkpoint(source)
    clip = clip_from_state(config, state, dtype="float32")
    known, digest = None, ""
    if path.is_file():
        digest = sha256_of(path)
        known = by_hash(digest)
    count = parameters(state)
    place = Path(folder) if folder is not None else None
    # MetaCLIP's, DFN's and LAION's have the sizes of OpenAI's, often with another activation
    openais = config.activation == "quick_gelu"
    published = PUBLISHED.get(config.architecture, ()) if openais else ()
    checks, lacking = check_all(clip, config, count, place, published)
    fingerprint = weights_fingerprint(nnx.state(clip))
    for line in lacking:
        say(f"not checked: {line}")
    rows = [(*check[:4], "pass" if check.passed else "FAIL") for check in checks]
    columns = ("check", "published", "ours", "tolerance", "result")
    title = f"{source}: {config.architecture}, {config.activation}, {known_as(known, digest)}"
    show_table(title, columns, rows, whole=("result",))
    passed = sum(check.passed for check in checks)
    compared_any = len(lacking) < len(published)
    alike = config.architecture if compared_any and passed == len(checks) else None
    if theirs := OPENAI.get(known or alike or ""):
        say(f"ImageNet top-1, zero-shot, published, not measured here: {theirs.top1:.2f} %")
    lacks = f"; {len(lacking)} could not be made" if lacking else ""
    line = (
        f"vtd_jax {vtd_jax.__version__}, jax {jax.__version__} on {jax.default_backend()}: "
        f"{config.architecture} {config.activation}, SHA-256 {digest or 'of a folder'}, "
        f"fingerprint {fingerprint}: {passed} of {len(checks)} checks passed{lacks}"
    )
    say(f"for an issue: {line}")
    failed = [check.what for check in checks if not check.passed]
    if failed:
        reason = (
            f"these are OpenAI's {known}, so vtd_jax is wrong on this machine: please report it"
            if known
            else f"either these are not OpenAI's {config.architecture} (others have its sizes: "
            "MetaCLIP, DFN), or vtd_jax is wrong here"
        )
        raise UserError(f"{source}: {', '.join(failed)} not as published: {reason}")
    made = f"{passed} of {len(checks)} checks passed{lacks}"
    if not published:
        whose = f"{config.architecture} with {config.activation}"
        return f"{source}: no features are published for {whose}" + (f"; {made}" if checks else "")
    return f"{source}: {made}"


def check_all(
    clip: CLIP,
    config: CLIPConfig,
    count: int,
    folder: Path | None,
    published: Sequence[Picture],
) -> tuple[list[Check], list[str]]:
    """The checks that can be made here, and a line for each that cannot."""
    text, expected = TOKENS
    ours = tuple(int(token) for token in tokenize([text])[0] if token)
    checks = []
    if config.design.tokenizer == "clip":
        right = ours == expected
        checks.append(Check(f"tokens of {text!r}", _listed(expected), _listed(ours), "", right))
    if config.architecture in OPENAI and config.activation == "quick_gelu":
        there = OPENAI[config.architecture].parameters
        checks.append(Check("parameters", f"{there:,}", f"{count:,}", "", count == there))
    lacking = []
    for picture in published:
        path = pictures.find(picture, folder)
        if isinstance(path, str):
            lacking.append(f"{picture.file} ({picture.source}): {path}")
            continue
        fit = Fit(**scaling("clip", "clip", config.preprocessing))
        image = pictures.read(path, picture)
        made = pictures.square(image, config.image_resolution, fit, picture.rgb_first)
        checks.append(compared(picture, numbers(clip, config, made, picture)))
    return checks, lacking


def compared(picture: Picture, found: Float[np.ndarray, " k"]) -> Check:
    """Ours beside the published ones, each within its tolerance."""
    expected = np.asarray(picture.values)
    right = np.abs(found - expected) <= picture.atol + picture.rtol * np.abs(expected)
    digits = {"cosines": 3, "logits": 4, "probabilities": 6}[picture.kind]
    relative = f" + {picture.rtol:.0%}" if picture.rtol else ""
    return Check(
        f"{picture.file}, {picture.kind} ({picture.source})",
        " ".join(f"{value:.{digits}f}" for value in expected),
        " ".join(f"{value:.{digits}f}" for value in found),
        f"{picture.atol:g}{relative}",
        bool(right.all()),
    )


def numbers(
    clip: CLIP, config: CLIPConfig, square: UInt8[np.ndarray, "n n 3"], picture: Picture
) -> Float[np.ndarray, " k"]:
    """What our towers give for a prepared picture and its texts, of the picture's kind."""
    prepared = config.preprocessing
    mean, std = (np.asarray(x, np.float32) for x in (prepared.mean, prepared.std))
    images = (square[None].astype(np.float32) / 255 - mean) / std
    tokens = jnp.asarray(tokenize(picture.texts, context_length=config.context_length))
    seen, read = clip.encode_images(jnp.asarray(images)), clip.encode_text(tokens)
    seen, read = (x / jnp.linalg.norm(x, axis=-1, keepdims=True) for x in (seen, read))
    cosines = (seen @ read.T)[0]
    if picture.kind == "cosines":
        return np.asarray(cosines, np.float64)
    logits = jnp.exp(clip.logit_scale[...]) * cosines
    return np.asarray(logits if picture.kind == "logits" else jax.nn.softmax(logits), np.float64)


def parameters(state: Mapping[str, np.ndarray]) -> int:
    """Numbers that were learnt: without the running statistics of batch norms."""
    return sum(math.prod(array.shape) for name, array in state.items() if ".running_" not in name)


def sha256_of(path: Path) -> str:
    """Hex digits of a file's hash."""
    with open_regular(path, "file of weights") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def known_as(name: str | None, digest: str) -> str:
    """What a hash says."""
    if name is not None:
        return f"the very file of OpenAI's {name}"
    return f"none of OpenAI's nine files (SHA-256 {digest})" if digest else "a folder"


def _listed(values: Sequence[int]) -> str:
    return " ".join(map(str, values))
