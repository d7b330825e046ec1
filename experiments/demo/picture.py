"""The demo's picture: one validation clip with the words of its frames and their confidences."""

from pathlib import Path

import jax
import numpy as np

from vtd_jax.model.vtd_clip import VTDCLIP
from vtd_jax.report.clip_figure import clip_picture
from vtd_jax.scenes.sets import SceneSet
from vtd_jax.train.config import RunConfig
from vtd_jax.video import sampling
from vtd_jax.video.records import open_records
from vtd_jax.video.scaling.fit import Fit


def draw(path: Path, model: VTDCLIP, config: RunConfig, scene_set: SceneSet) -> None:
    """Draws the clearest novel clip that is classified right in spite of many words."""
    records = open_records(config.data.data_dir, config.data.evaluate["novel"])
    names, best = records.class_names, None
    codebook = model.encode_classes(model.class_tokens(names))
    for i in range(0, len(records), 3):
        example = records[i]
        frames = example.frames(sampling.test_indices(example.num_frames, config.data.frames))
        frames = Fit(**model.scaling).views(frames, model.clip.config.image_resolution)[0]
        out = jax.device_get(model(frames[None], codebook))
        words, score = out.assignment[0], float(jax.nn.softmax(out.logits[0])[example.label])
        right = bool(out.logits[0].argmax() == example.label)
        # in this order: right, two frames named right, many different words, a high score
        key = right, min(int((words == example.label).sum()), 2), len(set(words.tolist())), score
        if best is None or key > best[0]:
            best = key, example, frames, out
    _, example, frames, out = best
    label, kept = int(example.label), 100 * (1 - scene_set.irrelevant)
    clip_picture(
        path,
        frames,
        [names[k] for k in out.assignment[0]],
        out.confidence[0],
        np.asarray(jax.nn.softmax(out.logits[0])),
        names,
        label,
        title=(
            f"A novel class, never trained on: {names[label]} ({kept:g} % of the clip's frames "
            "show it)"
        ),
    )
