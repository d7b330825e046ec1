"""Golden cases: the tiny CLIP, clips and settings of a run of the authors' code, with ours."""

import json
import zlib
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx

from vtd_jax.clip.config import CLIPConfig
from vtd_jax.clip.weights.params import clip_from_state
from vtd_jax.clip.weights.tensor_names import tensor_shapes
from vtd_jax.errors import UserError
from vtd_jax.files import replacing
from vtd_jax.model.codebook import class_tokens, trim
from vtd_jax.model.config import ModelConfig
from vtd_jax.model.saved.release_names import from_release, to_release
from vtd_jax.model.vtd_clip import VTDCLIP, Output, learnable
from vtd_jax.outputs import check_suffix
from vtd_jax.printable import brief
from vtd_jax.train import step
from vtd_jax.train.groups import OptimizerConfig
from vtd_jax.train.optimizer import learning_rate, make_optimizer
from vtd_jax.untrusted.arrays import read_npz
from vtd_jax.untrusted.json_text import parse_json, read_json
from vtd_jax.untrusted.limits import SMALL_JSON_BYTES

# field -> the least and the most; golden cases are tiny
_WHOLE = {
    "seed": (0, 2**63 - 1), "layers": (1, 64), "frames": (1, 1024), "batch": (1, 1024),
    "n_ctx_text": (0, 64), "n_ctx_vision": (0, 1024), "depth_text": (0, 64),
    "depth_vision": (0, 64), "epochs": (1, 10**6), "steps": (0, 10_000),
}  # fmt: skip
_NUMBERS = ("lr", "warmup", "cos", "interval")
_OPTIONAL = ("min_lr_factor", "step_factor")
_MOST_PIXELS, _MOST_CLASSES = 2**28, 10_000
_UPDATES_PER_EPOCH = 2
_HEAD = 16


def read_case(path: Path) -> dict[str, Any]:
    """The `case` of a golden file: a JSON object; nothing else in the file is read.

    Raises:
      UserError: no such file, no `case` string, or a field missing or of the wrong type.
    """
    if not path.exists():
        raise UserError(
            f"{path}: no such file, expected a golden .npz with a `case` string or a .json of it"
        )
    if path.suffix == ".json":
        case = read_json(path, dict[str, Any], what="golden case", most=SMALL_JSON_BYTES)
    else:
        text = read_npz(path, "golden .npz").get("case")
        if text is None or text.shape != () or text.dtype.kind != "U":
            raise UserError(
                f"{path}: no golden case in it, expected .npz with a JSON string `case`"
            )
        case = parse_json(str(text), f"{path}: case", dict[str, Any])
    _check_case(case, path)
    return {"name": path.stem} | case


def _check_case(case: Mapping[str, Any], path: Path) -> None:
    for field, (least, most) in _WHOLE.items():
        if type(value := case.get(field)) is not int or not least <= value <= most:
            raise _wrong(path, field, value, f"a whole number from {least} to {most:,}")
    for field in ("prompt_model", "zs_eval"):
        if type(value := case.get(field)) is not bool:
            raise _wrong(path, field, value, "true or false")
    for field in (*_NUMBERS, *(one for one in _OPTIONAL if one in case)):
        if type(value := case.get(field)) not in (int, float) or not abs(value) <= 1e9:
            raise _wrong(path, field, value, "a number")
    classes = case.get("classes")
    if not isinstance(classes, list) or not 0 < len(classes) <= _MOST_CLASSES:
        raise _wrong(path, "classes", classes, f"1 to {_MOST_CLASSES:,} class names")
    if wrong := [name for name in classes if not isinstance(name, str)]:
        raise _wrong(path, "classes", wrong[0], "class names")
    if (pixels := case["batch"] * case["frames"] * 32 * 32) > _MOST_PIXELS:
        raise UserError(
            f"{path}: case fields 'batch' and 'frames' are {pixels:,} pixels, at most "
            f"{_MOST_PIXELS:,}"
        )


def _wrong(path: Path, field: str, value: Any, expected: str) -> UserError:
    return UserError(f"{path}: case field {field!r} is {brief(value)}, expected {expected}")


def run_case(case: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Every quantity of a golden file, by its key (see the golden README), from our own code."""
    model = build_model(case)
    clips, labels = draw_clip(case, 0)
    tokens = class_tokens(case["classes"], model.config.text_prompts)
    values: dict[str, Any] = {"case": json.dumps(dict(case)), "tokens": tokens, "labels": labels}
    parts = step.split(model)
    batch = _batch(clips, labels)
    gradient = jax.jit(jax.value_and_grad(step.loss_fn, has_aux=True), static_argnums=2)
    (loss, (_, output)), grads = gradient(
        parts.learnable, parts.frozen, parts.graphdef, batch, trim(tokens)
    )
    codebook = model.encode_classes(trim(tokens))
    values |= {"text_features": codebook, "loss": loss, **_describe(output, codebook)}
    values |= _norms_and_heads("grad", to_release(grads))
    values["trainable"] = np.array(list(to_release(parts.learnable)))
    if case["prompt_model"] and not case["zs_eval"]:
        values |= _train(case, parts, tokens)
    return {key: np.asarray(value) for key, value in values.items()}


def write_values(path: Path, values: Mapping[str, np.ndarray]) -> None:
    """Writes an .npz atomically."""
    check_suffix(path, ".npz", where=f"--out={path}")
    if not path.parent.is_dir():
        raise UserError(f"--out={path}: there is no folder {path.parent}; make it first")
    with replacing(path) as part:
        np.savez_compressed(part, **values)


def draw(seed: int, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The seeded weight of a PyTorch name; the first rule of the golden README that fits."""
    x = np.random.default_rng([seed, zlib.crc32(name.encode())]).standard_normal(
        shape, dtype=np.float32
    )
    last = name.split(".")[-1]
    if name == "logit_scale":
        return np.array(np.log(100), np.float32)
    if "ln_" in name and name.endswith(".weight"):
        return 1 + np.float32(0.1) * x
    rules = (
        (last in ("bias", "in_proj_bias"), 0.02),
        (name == "token_embedding.weight", 0.3),
        ("positional_embedding" in name, 0.1),
        ("VPT" in name or name.endswith("ctx"), 0.2),
    )
    for fits, factor in rules:
        if fits:
            return np.float32(factor) * x
    if len(shape) >= 2:
        gain = 0.5 if name.startswith("lrf.") else 1.2
        fan_in = shape[0] if name.endswith("proj") else int(np.prod(shape[1:]))
        return (gain * x / np.sqrt(fan_in)).astype(np.float32)
    return np.float32(0.3) * x


def draw_clip(case: Mapping[str, Any], n: int) -> tuple[np.ndarray, np.ndarray]:
    """Clip batch n: normalised float32 frames `[B, T, 32, 32, 3]`, and int32 labels `[B]`."""
    rng = np.random.default_rng([case["seed"], 777, n])
    base = rng.standard_normal((case["batch"], 1, 3, 32, 32), dtype=np.float32)
    per = rng.standard_normal((case["batch"], case["frames"], 3, 32, 32), dtype=np.float32)
    labels = rng.integers(0, len(case["classes"]), case["batch"])
    return np.moveaxis(base + np.float32(0.7) * per, 2, -1), labels.astype(np.int32)


def build_model(case: Mapping[str, Any]) -> VTDCLIP:
    """The case's tiny CLIP with its prompts and fusion block, every weight drawn from the seed."""
    config = CLIPConfig(512, 32, case["layers"], 64, 8, 64, text_layers=case["layers"])
    clip = clip_from_state(
        config, {name: draw(case["seed"], name, s) for name, s in tensor_shapes(config).items()}
    )
    visual = case["prompt_model"] and case["n_ctx_vision"] and case["depth_vision"]
    textual = case["prompt_model"] and not case["zs_eval"]
    model = VTDCLIP(
        clip,
        ModelConfig(
            text_prompts=case["n_ctx_text"] if textual else 0,
            text_depth=min(case["depth_text"], case["layers"]),
            visual_prompts=case["n_ctx_vision"] if visual else 0,
            visual_depth=min(case["depth_vision"], case["layers"]) if visual else 0,
            ties=case.get("ties", "release"),
        ),
        rngs=nnx.Rngs(0),
    )
    named = to_release(learnable(model))
    words = textual and case["n_ctx_text"] <= 4
    drawn = {
        name: value
        if words and name == "prompt_learner.ctx"
        else draw(case["seed"], name, value.shape)
        for name, value in named.items()
    }
    nnx.update(model, from_release(learnable(model), drawn))
    return model


def _batch(clips: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    return {"frames": clips, "label": labels, "weight": np.ones(len(labels), np.float32)}


def _describe(output: Output, codebook: jax.Array) -> dict[str, Any]:
    """The discretization's and fusion's results under the golden keys."""
    difference = np.asarray(output.frame_features, np.float64)[:, :, None] - np.asarray(
        codebook, np.float64
    )
    nearest = np.sort(np.square(difference).sum(-1), axis=-1)[..., :2]
    return {
        "frame_features": output.frame_features,
        "frame_assignment": np.asarray(output.assignment, np.int32),
        "assignment_margin": np.diff(nearest)[..., 0] / nearest[..., 0]
        if nearest.shape[-1] > 1
        else np.inf,
        "confidence": output.confidence,
        "video_token": output.video_token[:, 0],
        "logits": output.logits,
    }


def _norms_and_heads(prefix: str, named: Mapping[str, np.ndarray]) -> dict[str, Any]:
    norms = {
        f"{prefix}_norm/{name}": np.linalg.norm(np.ravel(x).astype(np.float64))
        for name, x in named.items()
    }
    return norms | {f"{prefix}_head/{name}": np.ravel(x)[:_HEAD] for name, x in named.items()}


def _train(case: Mapping[str, Any], parts: step.Split, tokens: np.ndarray) -> dict[str, Any]:
    """The case's AdamW updates, then what the tuned model says of clip 0 and of three views."""
    config = OptimizerConfig(
        lr=case["lr"], epochs=case["epochs"], warmup_epochs=case["warmup"],
        cosine_epochs=case["cos"], step_interval_epochs=case["interval"],
        min_lr_factor=case.get("min_lr_factor", 0.1), step_factor=case.get("step_factor", 0.5),
    )  # fmt: skip
    optimizer = make_optimizer(config, _UPDATES_PER_EPOCH)
    trimmed = trim(tokens)
    update = jax.jit(partial(step.train_step, parts.graphdef, optimizer))
    state, opt_state, losses = parts.learnable, optimizer.init(parts.learnable), []
    for n in range(case["steps"]):
        state, opt_state, sums = update(
            state, opt_state, parts.frozen, _batch(*draw_clip(case, n + 1)), trimmed, None
        )
        losses.append(sums["loss"] / sums["count"])
    rates = [learning_rate(config, _UPDATES_PER_EPOCH)(u) for u in range(case["steps"])]
    logits = _forward(parts.graphdef, state, parts.frozen, trimmed)
    views = [jax.nn.softmax(logits(draw_clip(case, n)[0])) for n in (100, 101, 102)]
    return {
        "train_losses": np.array(losses),
        "train_lrs": np.array(rates),
        "logits_after": logits(draw_clip(case, 0)[0]),
        "multiview_scores": sum(views),
        **_norms_and_heads("after", to_release(state)),
    }


def _forward(
    graphdef: Any, state: nnx.State, frozen: nnx.State, tokens: np.ndarray
) -> Callable[[Any], jax.Array]:
    def forward(clips):
        model = nnx.merge(graphdef, state, frozen)
        return model(clips, model.encode_classes(tokens)).logits

    return jax.jit(forward)
