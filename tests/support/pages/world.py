"""What the documents' commands find: small files under the names that the pages use.

`SUBSTITUTIONS`, `MORE` and `NAMES` are all that is changed of a block before it runs; `GIVEN` is
what a page takes for granted.
"""

import contextlib
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

from support import layouts
from support.helpers import random_state
from support.hosts.two_processes import free_port
from support.pages import shell
from support.pages.blocks import ROOT
from support.video_files import make_video
from support.weights import torch_files
from support.weights.rival_files import vifi_state, write_vifi
from vtd_jax.clip.config import CLIPConfig
from vtd_jax.clip.hub import verified
from vtd_jax.clip.hub.openai import OPENAI
from vtd_jax.scenes.render import write_mp4
from vtd_jax.scenes.sets import SceneSet

# of a block's text: a pattern -> what stands there while it runs
SUBSTITUTIONS = {
    # processes of two sessions must not meet
    r"localhost:1234": f"localhost:{free_port()}",
    # folders that the pages give by their full path lie in the block's own folder
    r"(?<![\w.])/data/": "downloads/",
    r"(?<![\w.])/mnt/data/": "",
    # two simulated devices a process, and compiled as in every test
    r"XLA_FLAGS=(--\S+)=4": r'XLA_FLAGS="$XLA_FLAGS \1=2"',
    # a server that runs until it is stopped, at a port that others may have
    r"\.serve_forever\(\)": ".server_close()",
    r'\("127\.0\.0\.1", 8000\)': '("127.0.0.1", 0)',
}
# command of `vtd` -> arguments behind those of the block, where it has this flag: one epoch on a
# dozen videos with the small CLIP
_SHORT = [
    "--config.optimizer.epochs=1",
    "--config.optimizer.gradient_accumulation_steps=1",
    "--config.data.batch_size=2",
    "--config.data.workers=0",
    "--config.memory.layers=scan",
    "--config.clip.architecture=",
]
MORE = {
    "train": ("--config", _SHORT),
    "evaluate": ("--config", _SHORT[3:]),
    "reproduce": ("--table", [one.replace("--config.", "--set=") for one in _SHORT[:3]]),
}
# what a reader has at hand where a block of Python begins
NAMES = {"frames": np.zeros((1, 2, 32, 32, 3), np.uint8)}

# as deep as ViT-B/16, so that prompts of 12 layers fit
SMALL = CLIPConfig(32, 32, 12, 64, 16, 64, text_layers=12)
_ZERO_SHOT = "zero_shot:hmdb51,lists=base_to_novel"
_ON_HMDB51 = "--config.clip.path=ViT-B/16 --config.data.data_dir=records/hmdb51"
# what an earlier page, or a reader's own work, has made -> how it is made here, and of what
GIVEN = {
    "records/hmdb51": (
        "vtd build-data --dataset=hmdb51 --source=/data/hmdb51 --data_dir=records",
        (),
    ),
    "records/ucf101": (
        "vtd build-data --dataset=ucf101 --source=/data/ucf101 --data_dir=records",
        (),
    ),
    "records/kinetics400": (
        "vtd build-data --dataset=kinetics400 --source=/data/kinetics400 --data_dir=records",
        (),
    ),
    "runs/hmdb51": (
        f"vtd train --config=base_to_novel:hmdb51 --workdir=runs/hmdb51 {_ON_HMDB51}",
        ("records/hmdb51",),
    ),
    "runs/clip": (
        f"vtd evaluate --config={_ZERO_SHOT} --workdir=runs/clip {_ON_HMDB51}",
        ("records/hmdb51",),
    ),
    "demo_output/seed100/run6": (
        "cp -r runs/hmdb51 demo_output/seed100/run6",
        ("runs/hmdb51",),
    ),
    "hmdb51.safetensors": (
        "vtd export --workdir=runs/hmdb51 --out=hmdb51.safetensors",
        ("runs/hmdb51",),
    ),
    "authors.pth": ("vtd export --workdir=runs/hmdb51 --out=authors.pth", ("runs/hmdb51",)),
}
# runs that a page only compares are copies
_RUN_OF = dict.fromkeys(("a_s1", "a_s2", "b_s1", "b_s2"), "runs/hmdb51") | {
    "tables/runs/base_to_novel_hmdb51_16shot_s1": "runs/hmdb51",
    "tables/runs/zero_shot_hmdb51_halves_mean": "runs/clip",
}
for _name, _run in _RUN_OF.items():
    GIVEN[f"runs/{_name}"] = (f"mkdir -p runs/tables/runs; cp -r {_run} runs/{_name}", (_run,))


# a file of a reader's own
_MY_CONFIG = """
from experiments.configs import base_to_novel

def get_config(text):
    config = base_to_novel.get_config("hmdb51")
    config.clip.path, config.data.data_dir = "ViT-B/16", "records/hmdb51"
    return config
"""


class World:
    """The files of all pages, made once a session; and what is in `GIVEN`, made when it is wanted.

    Attributes:
      folder: `files/` has what every page finds; `cache/` and `home/` belong to the commands.
    """

    def __init__(self, folder: Path, own: Path):
        """Makes the files where no other process of the session has.

        Args:
          folder: shared by the processes of a session.
          own: of this process, for its programs.
        """
        self.folder = folder
        folder.mkdir(exist_ok=True)
        self._lock = FileLock(folder / "lock")
        programs = shell.write_programs(own, MORE)
        self.env = shell.environment(programs, folder / "cache", folder / "home")
        with self._lock:
            if not (folder / "ready").exists():
                (folder / "home").mkdir()
                _write_weights(folder / "cache", folder / "files")
                _write_files(folder / "files")
                (folder / "ready").touch()

    def copy(self, wanted: tuple[str, ...], folder: Path) -> Path:
        """A folder for the blocks of a page, with these of `GIVEN`."""
        shutil.copytree(self.folder / "files", folder, symlinks=True)
        for name in wanted:
            made = self._made(name)
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            if made.is_dir():
                shutil.copytree(made, folder / name, dirs_exist_ok=True)
            else:
                shutil.copy(made, folder / name)
        return folder

    def _made(self, name: str) -> Path:
        text, needs = GIVEN[name]
        for one in needs:
            self._made(one)
        folder = self.folder / "made"
        with self._lock:
            if not folder.exists():
                shutil.copytree(self.folder / "files", folder, symlinks=True)
            if not (folder / name).exists():
                shell.run(substituted(text), folder, self.env)
        return folder / name

    @contextlib.contextmanager
    def here(self, folder: Path) -> Iterator[None]:
        """Blocks of Python find the folder and the weights."""
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            for name in ("VTD_JAX_CACHE", "HOME", "HF_HUB_OFFLINE"):
                patch.setenv(name, self.env[name])
            yield


def substituted(text: str) -> str:
    """A block as it runs."""
    for pattern, there in SUBSTITUTIONS.items():
        text = re.sub(pattern, there, text)
    return text


def _write_weights(cache: Path, files: Path) -> None:
    """A small CLIP in the place of OpenAI's ViT-B/16, noted as the right one; and as a file."""
    state = random_state(SMALL)
    state["logit_scale"] = np.float32(3.0)
    path = cache / "weights" / "openai" / OPENAI["ViT-B/16"].file
    path.parent.mkdir(parents=True)
    torch_files.save(path, torch_files.script_module(state))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VTD_JAX_CACHE", str(cache))
        verified.note(path, OPENAI["ViT-B/16"].sha256)
    files.mkdir()
    os.link(path, files / "ViT-B-16.pt")
    os.link(path, files / "my_file.pt")
    # ViFi-CLIP's, tuned from it
    write_vifi(files / "vifi.pth", vifi_state(state, SMALL))
    (files / "checkpoints" / "vifi").mkdir(parents=True)
    os.link(files / "vifi.pth", files / "checkpoints" / "vifi" / "base_to_novel_hmdb51_s1.pth")


def _write_files(folder: Path) -> None:
    """Videos, labels and lists under the pages' names."""
    videos = {"clip.mp4": 8, "another.avi": 8, "match.mp4": 60}
    videos |= dict.fromkeys(("a.mp4", "b.mp4", "example.mp4", "more/new.mp4"), 7)
    for i in range(3):
        for label in ("arm wrestling", "hugging"):
            videos[f"clips/{label}/{i}.mp4"] = 6 + i
            videos[f"big/{label} {i}.mp4"] = 6 + i
    for i in range(6):
        for label in ("left turn", "right turn"):
            videos[f"my_videos/{label}/{i}.mp4"] = 6 + i
            videos[f"videos/{label} {i}.mp4"] = 6 + i
    for name, frames in videos.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        # half a minute for those of 60
        rate = 2 if frames == 60 else 25
        make_video(folder / name, frames, width=32, height=24, rate=rate)
    _write(folder / "labels.txt", ["arm wrestling", "hugging", "playing chess"])
    _write(folder / "words.txt", [f"word {i}" for i in range(300)])
    _write(folder / "labels.csv", ["id,name", "0,arm wrestling", "1,hugging"])
    _write(folder / "videos" / "labels.csv", ["id,name", "0,left turn", "1,right turn"])
    for name, numbers in {"train": (0, 1), "val": (2,)}.items():
        rows = [f"{label}/{i}.mp4 {k}" for k, label in enumerate(("arm wrestling", "hugging"))
                for i in numbers]  # fmt: skip
        _write(folder / f"{name}.txt", rows)
        rows = [f"{label} {i}.mp4 {k}" for k, label in enumerate(("left turn", "right turn"))
                for i in (numbers if name == "val" else range(6))]  # fmt: skip
        _write(folder / "videos" / f"{name}.txt", rows)
    _write_downloads(folder / "downloads")
    _write_splits(folder / "ViFi-CLIP", folder / "downloads" / "hmdb51")
    _write_demo(folder / "demo_output" / "seed100")
    (folder / "my_config.py").write_text(_MY_CONFIG)
    # TFDS's command takes the builders of a checkout
    (folder / "data").symlink_to(ROOT / "data")


def _write_downloads(folder: Path) -> None:
    makers: dict[str, Callable[[Path], Path]] = {
        "hmdb51": layouts.make_hmdb51,
        "ucf101": layouts.make_ucf101,
        "ssv2": layouts.make_ssv2,
        "kinetics400": layouts.make_kinetics400,
    }
    for name, make in makers.items():
        make(folder / name)


def _write_splits(folder: Path, hmdb51: Path) -> None:
    """Lists as ViFi-CLIP publishes them, of the small HMDB-51."""
    names = [name.replace("_", " ") for name in layouts.HMDB51[:5]]
    halves = {"base": names[::2], "novel": names[1::2]}
    for stem, chosen in {"": names, "_base": halves["base"], "_novel": halves["novel"]}.items():
        rows = [f"{i},{name}" for i, name in enumerate(chosen)]
        _write(folder / "labels" / f"hmdb_51{stem}_labels.csv", ["id,name", *rows])
    trains = dict.fromkeys(("base_train", *(f"fs_base_s{i}_train" for i in (1, 2, 3))), "base")
    lists = folder / "datasets_splits" / "base2novel_splits" / "hmdb_splits"
    for name, half in {**trains, "base_val": "base", "novel_val": "novel"}.items():
        rows = []
        for i, label in enumerate(halves[half]):
            files = sorted(
                file.name for file in (hmdb51 / "hmdb51_org" / label.replace(" ", "_")).iterdir()
            )
            rows += [f"{file} {i}" for file in (files[2:] if "train" in name else files[:2])]
        _write(lists / f"{name}.txt", rows)


def _write_demo(folder: Path) -> None:
    """Two clips of `make demo`, and the labels, where the demo writes them."""
    scenes = SceneSet(100)
    (folder / "videos").mkdir(parents=True)
    for label in (2, 3):
        frames, _ = scenes.render(("novel_val", label, 0))
        write_mp4(folder / "videos" / f"novel_val_{label:03d}_000.mp4", frames)
    rows = [f"{i},{name}" for i, name in enumerate(scenes.names()["novel"])]
    _write(folder / "novel_labels.csv", ["id,name", *rows])


def _write(path: Path, rows: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{row}\n" for row in rows))
