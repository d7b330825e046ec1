"""Where a table's data sets come from: records, or rendered scenes (the embedded default)."""

import contextlib
import dataclasses
import io
import os
from pathlib import Path
from typing import NamedTuple

from experiments.common import program
from vtd_jax.console.progress import Progress
from vtd_jax.console.status import Line
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
# shares of irrelevant frames that table `irrelevant` evaluates
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
                f"--data_dir={data_dir}: no such folder; make records with "
                f"{program.spelled('build_data')} --dataset=NAME --source=DOWNLOADED "
                f"--data_dir={data_dir}"
            )
        self.data_dir = data_dir
        self._found: dict[tuple[str, str], Listed | None] = {}

    def folder(self, dataset: str) -> Path:
        """The folder of a data set's records; it need not exist."""
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
        """Nothing to do: records are built before."""


@dataclasses.dataclass(frozen=True)
class SceneSource:
    """Rendered scenes below a folder; their lists are known before anything is rendered.

    Attributes:
      root: gets `videos/`, lists and `records/`, and the same in `noisy/SHARE/`.
      benchmark: what is rendered.
      noisy: whether to render also clips with every share of irrelevant frames.
    """

    root: Path
    benchmark: SceneBenchmark
    noisy: bool = False

    def folder(self, dataset: str) -> Path:
        """The folder of the records of "scenes" or "scenes 0.3"."""
        share = dataset.removeprefix(SCENES).strip()
        return (self.root / "noisy" / share if share else self.root) / "records"

    def find(self, dataset: str, name: str) -> Listed | None:
        """A list of a data set; None where there is none."""
        made = self._sets().get(dataset)
        if made is None or (listed := made.lists().get(name)) is None:
            return None
        return Listed(len(listed.clips), tuple(made.names()[listed.labels]))

    def prepare(self) -> None:
        """Renders missing clips and builds records; resumes after an interruption."""
        jobs = [(made, self.folder(dataset).parent) for dataset, made in self._sets().items()]
        jobs = [(made, folder) for made, folder in jobs if not _is_whole(made, folder)]
        for made, folder in jobs:
            _claim(made, folder)
        with Progress("rendering and encoding clips", noun="clip") as progress:
            write_scene_sets(jobs, progress=progress.update)
        for made, folder in jobs:
            with Line("building records"):
                build_scenes(made, folder)
            Manifest(_SCENES, dataclasses.asdict(made), whole=True).write(folder / _SETTINGS)

    def _sets(self) -> dict[str, Scenes]:
        shares = SHARES if self.noisy else ()
        noisy = {f"{SCENES} {share}": NoisyScenes(self.benchmark, share) for share in shares}
        return {SCENES: self.benchmark, **noisy}


def _claim(made: Scenes, folder: Path) -> None:
    """Claims the folder for this data set, after removing another rendered one.

    Raises:
      UserError: videos or records of others are there, or links in their place.
      OSError: the other data set cannot be removed.
    """
    for part in (folder / "videos", folder / "records"):
        # finished scenes may be read through a link, but writing through one could replace or adopt
        # files of others
        if part.is_symlink():
            raise UserError(
                f"{part}: is a link where scenes have to be rendered, expected a folder; remove "
                "the link, or give another folder"
            )
    noted = _noted(folder)
    if noted is not None and noted.is_mine(dataclasses.asdict(made)):
        return
    parts = [folder / part for part in ("videos", "records") if os.path.lexists(folder / part)]
    if parts and noted is None:
        raise UserError(
            f"{parts[0]}: exists and is not a rendered data set; move it away, or give another "
            "folder"
        )
    for part in parts:
        remove_tree(part)
    folder.mkdir(parents=True, exist_ok=True)
    Manifest(_SCENES, dataclasses.asdict(made)).write(folder / _SETTINGS)


def _is_whole(made: Scenes, folder: Path) -> bool:
    """Whether the records of exactly this data set are complete."""
    noted = _noted(folder)
    if noted is None or not noted.whole or not noted.is_mine(dataclasses.asdict(made)):
        return False
    folders = record_folders(folder / "records") if (folder / "records").is_dir() else []
    return len(folders) == 1 and set(list_names(folders[0])) == set(made.lists())


def _noted(folder: Path) -> Manifest | None:
    """The manifest of the data set that was rendered here; None if there is none."""
    return read_manifest(
        folder / _SETTINGS,
        _SCENES,
        # earlier versions wrote the settings only; `_is_whole` then checks the records
        legacy=lambda settings: Manifest(_SCENES, settings, whole=True, version=""),
        remedy=f"remove {folder} to render again",
    )


def list_fingerprint(data_dir: str, name: str) -> str:
    """Fingerprint of a list and its videos."""
    for folder in record_folders(data_dir):
        if name in list_names(folder):
            # records of earlier versions have more digits
            return read_stored_list(folder, name).fingerprint[:DIGITS]
    raise UserError(f"{data_dir}: no list {name}")
