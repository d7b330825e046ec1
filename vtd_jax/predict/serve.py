"""Writes a model with fixed labels as a folder that runs without this package.

    write_served("clips.served", model, ["arm wrestling", "hugging"], frames=16)
    python clips.served/predict.py clip.mp4    # on a machine without vtd_jax

Such a folder is code: do not run the `predict.py` or the program of a stranger. This package runs
neither; it reads `about.json` only to recognise a folder that it wrote.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import export
from jaxtyping import Array, Float, Float32

import vtd_jax
from vtd_jax.cache.text_features import encode_texts
from vtd_jax.clip.compute import Compute
from vtd_jax.errors import UserError
from vtd_jax.files import remove_tree
from vtd_jax.finite import check_finite
from vtd_jax.model.normalization import statistics
from vtd_jax.model.vtd_clip import VTDCLIP
from vtd_jax.outputs import STEM_BYTES, check_suffix, shortened
from vtd_jax.predict.words import check_texts
from vtd_jax.printable import listed
from vtd_jax.trees import flatten_arrays
from vtd_jax.untrusted.json_text import read_json
from vtd_jax.untrusted.limits import SMALL_JSON_BYTES
from vtd_jax.video.augment import crop_short_side
from vtd_jax.video.scaling.fit import Fit

SUFFIX = ".served"
KIND = "vtd_jax.served"
FORMAT = 1
PLATFORMS = ("cpu", "cuda", "tpu")
PROGRAM, WEIGHTS, ABOUT, EXAMPLE = "program.jaxexport", "weights.npz", "about.json", "predict.py"
CODEBOOK = "codebook"
_OUTPUTS = {
    "scores": "probability of every label for every video, softmax of the logits",
    "logits": "before the softmax",
    "assignment": "index in labels of the label that names each frame",
    "confidence": "how much every frame counts for every label; sums to 1 over the frames",
}


def write_served(
    path: str | os.PathLike,
    model: VTDCLIP,
    labels: Sequence[str],
    frames: int,
    *,
    about: Mapping[str, Any] | None = None,
    platforms: Sequence[str] = PLATFORMS,
    codebook: Float[Array, "k d"] | Float[np.ndarray, "k d"] | None = None,
) -> dict[str, Any]:
    """Writes the folder: `program.jaxexport`, `weights.npz`, `about.json` and `predict.py`.

    The program maps weights and uint8 frames `[b, T, R, R, 3]`, any b, to `scores [b, K]`
    (softmax), `logits [b, K]`, `assignment` int32 `[b, T]` and `confidence [b, T, K]`. Labels are
    fixed, so it has no text tower.

    Args:
      path: ends in `.served`. Written whole or not at all; replaces an earlier served model, and
        nothing else.
      model: read only.
      labels: K different texts.
      frames: T, frames of a video.
      about: `origin` of the model in `about.json`, JSON-able.
      platforms: to compile the program for: "cpu", "cuda", "rocm" or "tpu"; they need not be
        present.
      codebook: raw codes of the labels; None encodes the labels.

    Returns:
      The content of `about.json`.

    Raises:
      UserError: an invalid path, label, number of frames or platform; weights that are not finite;
        a failed write.
    """
    path = Path(path)
    check_served(path, frames, platforms)
    labels = check_texts(labels, "labels", underscores=model.config.text_prompts > 0)
    if codebook is None:
        codebook = encode_labels(model, labels)
    program, weights = served_program(model)
    weights |= {CODEBOOK: np.asarray(codebook, np.float32)}
    for name, array in weights.items():
        check_finite(array, f"{path}: {name}", "nothing worth serving")
    exported = export_program(
        program, weights, frames, model.clip.config.image_resolution, platforms
    )
    content = _describe(model, labels, frames, weights, exported) | {"origin": dict(about or {})}
    try:
        with _replacing_folder(path) as folder:
            serialized = bytes(exported.serialize())
            content["program_sha256"] = hashlib.sha256(serialized).hexdigest()
            (folder / PROGRAM).write_bytes(serialized)
            np.savez(folder / WEIGHTS, **weights)
            shutil.copyfile(Path(__file__).with_name("serve_example.py"), folder / EXAMPLE)
            # the digest is of what a reader gets: all keys are texts
            read = json.dumps(json.loads(json.dumps(content)), sort_keys=True)
            content["about_sha256"] = hashlib.sha256(read.encode()).hexdigest()
            # the path of a CLIP may hold bytes that are not UTF-8
            text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
            (folder / ABOUT).write_text(text, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror or error}") from None
    return content


def check_served(path: Path, frames: int, platforms: Sequence[str]) -> None:
    """Checks arguments of `write_served` before anything is computed.

    Raises:
      UserError: an invalid argument; says what was expected.
    """
    _check_place(path)
    if frames < 1:
        raise UserError(f"frames={frames}: expected at least 1 frame a video")
    known = (*PLATFORMS, "rocm")
    wrong = [platform for platform in platforms if platform not in known]
    if wrong or not platforms or len(set(platforms)) < len(platforms):
        raise UserError(
            f"platforms={','.join(platforms)}: expected one or more of {', '.join(known)}, each "
            "once"
        )


def encode_labels(model: VTDCLIP, labels: Sequence[str]) -> Float32[np.ndarray, "k d"]:
    """Raw codes of the labels.

    Raises:
      UserError: a label that is too long.
    """
    codes = np.empty((len(labels), model.clip.config.embed_dim), np.float32)
    encode_texts(model, labels, codes)
    return codes


def served_program(model: VTDCLIP) -> tuple[Callable[..., dict[str, Array]], dict[str, np.ndarray]]:
    """The program of a folder, and its weights by name, without the codebook.

    Returns:
      `program(weights, frames)`, see `write_served`, and float32 arrays.
    """
    # a copy without rematerialization, which only training needs, and in a spelling that every
    # platform takes: one program may be for several
    bare = model.with_compute(Compute(attention="xla", platform="cpu"))
    del bare.clip.text, bare.clip.logit_scale
    bare.clip.logit_bias = bare.clip.tokenizer = bare.text_prompts = None
    graphdef, state = nnx.split(bare)
    arrays, tree = flatten_arrays(state), jax.tree.structure(state)
    names = list(arrays)

    def program(weights: dict[str, Array], frames: Array) -> dict[str, Array]:
        state = jax.tree.unflatten(tree, [weights[name] for name in names])
        out = nnx.merge(graphdef, state)(frames, weights[CODEBOOK])
        return {
            "scores": jax.nn.softmax(out.logits, axis=-1),
            "logits": out.logits,
            "assignment": out.assignment.astype(jnp.int32),
            "confidence": out.confidence,
        }

    return program, {name: np.asarray(array, np.float32) for name, array in arrays.items()}


def export_program(
    program: Callable[..., dict[str, Array]],
    weights: Mapping[str, np.ndarray],
    frames: int,
    size: int,
    platforms: Sequence[str],
) -> export.Exported:
    """Lowers the program for every platform, for any number of videos of T frames, R × R pixels."""
    (batch,) = export.symbolic_shape("b")
    shapes = {
        name: jax.ShapeDtypeStruct(array.shape, array.dtype) for name, array in weights.items()
    }
    images = jax.ShapeDtypeStruct((batch, frames, size, size, 3), jnp.uint8)
    return export.export(jax.jit(program), platforms=tuple(platforms))(shapes, images)


def _scale(fit: Fit, size: int, short_side: int) -> str:
    """How frames are scaled, in words."""
    rounded = "to the nearest whole" if fit.is_release else "rounded down"
    scale = f"short side to {short_side} pixels, the other {rounded}"
    if fit.squash:
        scale = f"to {size} × {size} pixels whatever its proportions"
    how = (
        f"{fit.interpolation} with smoothing (as Pillow before 12.2: first along the rows, "
        "rounded to uint8, then along the columns; later ones shrink tall images otherwise)"
    )
    if fit.is_release:
        how = "bilinear without smoothing (OpenCV's INTER_LINEAR)"
    return f"turned as the file asks, {scale}, {how}"


def _describe(
    model: VTDCLIP,
    labels: Sequence[str],
    frames: int,
    weights: Mapping[str, np.ndarray],
    exported: export.Exported,
) -> dict[str, Any]:
    """The content of `about.json` but for digests and origin."""
    clip, config = model.clip.config, model.config
    fit, size = Fit(**model.scaling), clip.image_resolution
    short_side = crop_short_side(size) if fit.is_release else size
    mean, deviation = statistics(config.normalization, clip.preprocessing)
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(name.encode() + weights[name].tobytes())
    (_, images), outputs = exported.in_tree.unflatten(exported.in_avals)[0], exported.out_avals
    outputs = exported.out_tree.unflatten(outputs)
    return {
        "kind": KIND,
        "format": FORMAT,
        "labels": list(labels),
        "frames": frames,
        "size": size,
        "short_side": short_side,
        "preprocessing": {
            "frames": (
                f"the centre of each of {frames} uniform segments of the n frames that decode: "
                f"place (2 i + 1) n // {2 * frames} for i = 0 … {frames - 1}; they repeat where a "
                "video has fewer"
            ),
            "scale": _scale(fit, size, short_side),
            "crop": f"the middle {size} × {size} pixels",
            "values": "RGB, 0 to 255, uint8; mean and deviation are taken off in the program",
            "preprocess": fit.preprocess,
            "interpolation": "bilinear" if fit.is_release else fit.interpolation,
            "squash": fit.squash,
            "mean": [x / 255 for x in mean],
            "deviation": [x / 255 for x in deviation],
        },
        "inputs": {
            "weights": f"{WEIGHTS}: name -> float32 array, {len(weights)} of them",
            "frames": _shape(images),
        },
        "outputs": {
            name: {**_shape(outputs[name]), "what": what} for name, what in _OUTPUTS.items()
        },
        "architecture": clip.architecture,
        "dtype": str(getattr(model.clip.visual, "dtype", "float32")),
        "temperature": config.temperature,
        "model": dataclasses.asdict(config),
        "weights_sha256": digest.hexdigest(),
        "platforms": list(exported.platforms),
        "calling_convention_version": exported.calling_convention_version,
        "jax": jax.__version__,
        "vtd_jax": vtd_jax.__version__,
    }


def _shape(array: jax.core.ShapedArray) -> dict[str, Any]:
    """Shape and dtype; b is the number of videos."""
    return {
        "shape": [side if isinstance(side, int) else str(side) for side in array.shape],
        "dtype": array.dtype.name,
    }


def _check_place(path: Path) -> None:
    """Refuses an existing path unless it is a served model, without any other files."""
    check_suffix(path, SUFFIX)
    if not os.path.lexists(path):
        return
    try:
        ours = read_json(path / ABOUT, dict[str, Any], most=SMALL_JSON_BYTES).get("kind") == KIND
    except UserError:
        ours = False
    if not ours or path.is_symlink():
        raise UserError(
            f"{path}: exists and is not a served model; give another name, or move it away"
        )
    # Python writes __pycache__ where the example is imported
    known = {PROGRAM, WEIGHTS, ABOUT, EXAMPLE, "__pycache__"}
    others = sorted(file.name for file in path.iterdir() if file.name not in known)
    if others:
        raise UserError(
            f"{path}: other files in it would be lost ({listed(others, 3)}); move them away"
        )


@contextlib.contextmanager
def _replacing_folder(path: Path) -> Iterator[Path]:
    """A temporary sibling that replaces `path` when the block ends without an error."""
    # names that cannot be guessed, as in `files.replacing`
    stem = path.stem
    if len(os.fsencode(stem)) > STEM_BYTES:
        stem = shortened(stem, STEM_BYTES)
    temporary, before = (
        path.with_name(f".{stem}.{secrets.token_hex(6)}.{part}") for part in ("part", "before")
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.mkdir()
        yield temporary
        if path.exists():
            path.rename(before)
        try:
            temporary.rename(path)
        except OSError:
            if before.exists():
                before.rename(path)
            raise
    finally:
        remove_tree(temporary, must=False)
        # not if the rename failed: then it is the only copy
        if path.exists():
            remove_tree(before, must=False)
