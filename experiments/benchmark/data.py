"""Rendered clips as records of both storages, to measure the input pipeline."""

import shutil
from pathlib import Path

import numpy as np

from vtd_jax.scenes.render import class_names, render_clip, write_mp4
from vtd_jax.video.ingest.config import BuildConfig
from vtd_jax.video.ingest.records import build_records
from vtd_jax.video.records import Records, open_records

# a Kinetics-like clip: ten seconds at 30 frames a second, 340×256, H.264
FRAMES, WIDTH, HEIGHT, FPS = 300, 340, 256, 30
CLIPS, DIFFERENT = 8, 2


def rendered_records(folder: Path) -> dict[str, Records]:
    """Eight clips (two different ones, copied) as records, by storage: "jpeg" and "video"."""
    videos = folder / "videos"
    videos.mkdir()
    for i in range(CLIPS):
        if i < DIFFERENT:
            frames, _ = render_clip(
                class_names()[i], np.random.default_rng(i), frames=FRAMES, size=WIDTH
            )
            write_mp4(videos / f"{i}.mp4", frames[:, :HEIGHT], FPS)
        else:
            shutil.copy(videos / f"{i % DIFFERENT}.mp4", videos / f"{i}.mp4")
    lists = {}
    for storage in ("jpeg", "video"):
        listed, labels = folder / f"{storage}.txt", folder / "labels.csv"
        listed.write_text("".join(f"{i}.mp4 {i % DIFFERENT}\n" for i in range(CLIPS)))
        labels.write_text("id,name\n0,one\n1,two\n")
        lists[storage] = ((str(listed), str(labels)),)
        config = BuildConfig(
            name=storage, lists=lists[storage], video_dir=str(videos), storage=storage
        )
        build_records(config, folder / "records")
    return {storage: open_records(folder / "records", storage) for storage in lists}
