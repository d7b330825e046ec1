"""Where a table's data sets come from: records that somebody built, or rendered scenes, the
embedded default.
"""

import contextlib
import dataclasses
import io
import os
from pathlib import Path
from typing import NamedTuple

from vtd_jax.console.status import Line, counting
from vtd_jax.errors import UserError
from vtd_jax.files import remove_tree
from vtd_jax.fingerprints import DIGITS
from vtd_jax.manifest import Manifest, read_manifest
from vtd_jax.scenes.benchmark import NoisyScenes, SceneBenchmark
from vtd_jax.scenes.sets import Scenes, write_scene_sets
from vtd_jax.video.ingest.config import BuildConfig
from vtd_jax.video.ingest.records import build_records
from vtd_jax.video.records import open_records, record_folders
from vtd_jax.video.stored_lists import list_names, read_stored_list

SCENES = "scenes"
# shares of irrelevant frames that the trained models are shown in the end
SHARES = tuple(round(0.1 * i, 1) for i in range(10))
_SETTINGS, _SCENES = "scenes.json", "rendered scenes"


def build_scenes(made: Scenes, folder: Path) -> None:
    """Records of a rendered data set, with all of its lists, in `folder/records`."""
    lists = [
        (str(folder / f"{n}.txt"), str(folder / f"{one.labels}_labels.csv"))
        for n, one in made.lists().items()
    ]
    config = BuildConfig(name=SCENES, lists=tuple(lists), video_dir=str(folder / "videos"))
    with contextlib.redirect_stderr(io.StringIO()):
        build_records(config, folder / "records")


class Listed(NamedTuple):
    """A list: how many videos, and its class names."""

    videos: int
    class_names: tuple[str, ...]


class RecordSource:
    """Records under a data folder, as `experiments.build_data --data_dir` writes them.

    Attributes:
      data_dir: the folder; a data set's records lie in `DATASET/` or `video_folder/DATASET/` below
        it.
    """

    def __init__(self, data_dir: Path):
        if not data_dir.is_dir():
            raise UserError(
                f"--data_dir={data_dir}: no such folder; make records with experiments.build_data"
            )
        self.data_dir = data_dir
        self._found: dict[tuple[str, str], Listed | None] = {}

    def folder(self, dataset: str) -> Path:
        """Where the records of a data set lie, whether there are any or not."""
        own, other = self.data_dir / dataset, self.data_dir / "video_folder" / dataset
        return own if own.is_dir() or not other.is_dir() else other

    def find(self, dataset: str, name: str) -> Listed | None:
        """A list of a data set; None where it is not there."""
        if (dataset, name) not in self._found:
            self._found[dataset, name] = self._read(self.folder(dataset), name)
        return self._found[dataset, name]

    @staticmethod
    def _read(folder: Path, name: str) -> Listed | None:
        if not folder.is_dir() or not any(name in list_names(at) for at in record_folders(folder)):
            return None
        stored = open_records(folder, name).stored
        return Listed(len(stored.records), stored.class_names)

    def prepare(self) -> None:
        """Records are there already."""


@dataclasses.dataclass(frozen=True)
class SceneSource:
    """Rendered scenes below a folder; their lists are known before anything is rendered.

    Attributes:
      root: gets `videos/`, lists and `records/`, and for the noisy ones `noisy/SHARE/` with the
        same.
      benchmark: what is rendered.
      noisy: whether the clips of every share of irrelevant frames are wanted as well.
    """

    root: Path
    benchmark: SceneBenchmark
    noisy: bool = False

    def folder(self, dataset: str) -> Path:
        """Where the records of "scenes" or of "scenes 0.3" lie."""
        share = dataset.removeprefix(SCENES).strip()
        return (self.root / "noisy" / share if share else self.root) / "records"

    def find(self, dataset: str, name: str) -> Listed | None:
        """A list of a data set; None where there is none."""
        made = self._sets().get(dataset)
        listed = made.lists().get(name) if made else None
        return (
            None
            if listed is None
            else Listed(len(listed.clips), tuple(made.names()[listed.labels]))
        )

    def prepare(self) -> None:
        """Renders what is not there, and builds records; what an interruption left is used."""
        jobs = [(made, self.folder(dataset).parent) for dataset, made in self._sets().items()]
        jobs = [(made, folder) for made, folder in jobs if not _is_whole(made, folder)]
        for made, folder in jobs:
            _claim(made, folder)
        with counting("rendering and encoding clips") as told:
            write_scene_sets(jobs, progress=told)
        for made, folder in jobs:
            with Line("building records"):
                build_scenes(made, folder)
            Manifest(_SCENES, dataclasses.asdict(made), whole=True).write(folder / _SETTINGS)

    def _sets(self) -> dict[str, Scenes]:
        noisy = (
            {f"{SCENES} {share}": NoisyScenes(self.benchmark, share) for share in SHARES}
            if self.noisy
            else {}
        )
        return {SCENES: self.benchmark, **noisy}


def _claim(made: Scenes, folder: Path) -> None:
    """Makes the folder this data set's; what another one of ours left there goes before it is said
    whose it is.

    Raises:
      UserError: there are videos or records that are none of ours, or links where they would be
        written.
      OSError: what another one left cannot be removed.
    """
    for part in (folder / "videos", folder / "records"):
        # what is whole may be read through a link; through one, others' files would be taken for
        # ours, or written over
        if part.is_symlink():
            raise UserError(
                f"{part}: a link, and what is below it has to be rendered anew, expected a "
                "folder; remove the link, or give another folder"
            )
    there = _noted(folder)
    if there is not None and there.is_mine(dataclasses.asdict(made)):
        return
    parts = [folder / part for part in ("videos", "records") if os.path.lexists(folder / part)]
    if parts and there is None:
        raise UserError(
            f"{parts[0]}: is there already, and no rendered data set; move it away, or give "
            "another folder"
        )
    for part in parts:
        remove_tree(part)
    folder.mkdir(parents=True, exist_ok=True)
    Manifest(_SCENES, dataclasses.asdict(made)).write(folder / _SETTINGS)


def _is_whole(made: Scenes, folder: Path) -> bool:
    """Whether records of just this data set are complete."""
    noted = _noted(folder)
    if noted is None or not noted.whole or not noted.is_mine(dataclasses.asdict(made)):
        return False
    there = record_folders(folder / "records") if (folder / "records").is_dir() else []
    return len(there) == 1 and set(list_names(there[0])) == set(made.lists())


def _noted(folder: Path) -> Manifest | None:
    """What a folder says of the data set that was rendered there; None where it says nothing."""
    return read_manifest(
        folder / _SETTINGS,
        _SCENES,
        # earlier versions noted the settings alone, and left it to the records whether all was made
        legacy=lambda settings: Manifest(_SCENES, settings, whole=True, version=""),
        remedy=f"remove {folder} to render again",
    )


def list_fingerprint(data_dir: str, name: str) -> str:
    """What a list and the videos in it are; changes with either."""
    for folder in record_folders(data_dir):
        if name in list_names(folder):
            # records of earlier versions have more digits of it
            return read_stored_list(folder, name).fingerprint[:DIGITS]
    raise UserError(f"{data_dir}: no list {name}")
