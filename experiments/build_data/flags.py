"""The flags of `build_data`, and the config that they make."""

from pathlib import Path

from absl import flags

from experiments.build_data import hub
from experiments.common import download_flag, limit_flags
from vtd_jax.errors import UserError
from vtd_jax.video.ingest.config import DATASETS, BuildConfig, default_storage

DATASET = flags.DEFINE_enum(
    "dataset", "video_folder", DATASETS, "which official layout, or anyone's videos"
)
SOURCE = flags.DEFINE_string(
    "source",
    "",
    "folder of the official download, or of class sub-folders; hf:ORG/DATASET[@REVISION] for a "
    "data set of the Hugging Face Hub",
)
VIDEO_DIR = flags.DEFINE_string(
    "video_dir", "", "folder that the videos lie in, at any depth; --source if not given"
)
ALLOW_OUTSIDE = flags.DEFINE_bool(
    "allow_outside", False, "let lists name videos outside --video_dir, as ../a.mp4"
)
LIST = flags.DEFINE_multi_string(
    "list", [], "list of videos: `file class_id` lines; may be given several times"
)
LABELS = flags.DEFINE_multi_string(
    "labels",
    [],
    "labels: `id,name` rows, or one name a line; one file for all lists, or one for each",
)
SPLITS = flags.DEFINE_string(
    "splits", "", "folder of published lists (datasets_splits/ and labels/ of ViFi-CLIP)"
)
ONLY = flags.DEFINE_list("only", [], "names of the lists to make, with * and ?; all if not given")
HOLDOUT = flags.DEFINE_float(
    "holdout", 0.0, "of a folder of class sub-folders: share of each class for validation"
)
DATA_DIR = flags.DEFINE_string("data_dir", None, "folder for records, made if need be")
NAME = flags.DEFINE_string(
    "name", None, "name of the records; if not given, of the list, the folder or the storage"
)
STORAGE = flags.DEFINE_enum(
    "storage", None, ["jpeg", "video"], "JPEGs, or the original files; by data set if not given"
)
SHORT_SIDE = flags.DEFINE_integer(
    "short_side", 256, "largest short side of stored JPEGs, pixels", lower_bound=1
)
MAX_FRAMES = flags.DEFINE_integer(
    "max_frames", 0, "most JPEGs a video, evenly spaced; 0 keeps all", lower_bound=0
)
ON_ERROR = flags.DEFINE_enum(
    "on_error", "fail", ["fail", "skip"], "what to do about a missing or bad video"
)
CHECK_ONLY = flags.DEFINE_bool(
    "check_only", False, "decode every video, print what is wrong, write no records"
)
REPORT = flags.DEFINE_string(
    "report", None, "with --check_only: write what was found here, as .json or .csv"
)
OVERWRITE = flags.DEFINE_bool(
    "overwrite", False, "replace records of the same name once the new ones are whole"
)
WORKERS = flags.DEFINE_integer(
    "workers", 0, "videos decoded at a time; 0 means one a core", lower_bound=0
)
SHARD_MB = flags.DEFINE_float(
    "shard_mb", 384.0, "size of a file of records to aim at, MiB", lower_bound=1.0
)
SEED = flags.DEFINE_integer(
    "seed", 0, "fixes the order of the records and the draws of own splits", lower_bound=0
)
BEAM_RUNNER = flags.DEFINE_string(
    "beam_runner", None, "Apache Beam runner: DirectRunner, FlinkRunner, …"
)
BEAM_OPTIONS = flags.DEFINE_string(
    "beam_options", None, "options of the runner: name=value,name=value"
)
flags.adopt_module_key_flags(limit_flags)
flags.adopt_module_key_flags(download_flag)


def read_config() -> BuildConfig:
    """The config of the flags."""
    if not (SOURCE.value or LIST.value or SPLITS.value):
        raise UserError(
            "nothing to build from: give --source=FOLDER, or --list, --labels and --video_dir; "
            "see --help"
        )
    # --list= is what an unset shell variable leaves
    if "" in LIST.value or (LABELS.value and not LIST.value):
        raise UserError(
            "--list is missing or empty: name the file of the list that --labels belongs to"
        )
    labels = LABELS.value or [""]
    if len(labels) == 1:
        labels = labels * len(LIST.value)
    if len(labels) != len(LIST.value):
        raise UserError(
            f"{len(LIST.value)} --list and {len(labels)} --labels: give one for all lists, or one "
            "for each"
        )
    if not (SOURCE.value or VIDEO_DIR.value):
        raise UserError(
            "--video_dir is missing: name the folder that the videos of the lists lie in"
        )
    same = (
        DATASET, SOURCE, VIDEO_DIR, ALLOW_OUTSIDE, SPLITS, HOLDOUT, SHORT_SIDE, MAX_FRAMES,
        ON_ERROR, WORKERS, SEED, SHARD_MB,
    )  # fmt: skip
    return BuildConfig(
        name=NAME.value or default_name(),
        lists=tuple(zip(LIST.value, labels)),
        only=tuple(ONLY.value),
        storage=STORAGE.value or "",
        **{flag.name: flag.value for flag in same},
    )


def default_name() -> str:
    """The name of the list or folder; for a benchmark's data set, that of its storage."""
    if DATASET.value == "video_folder":
        if LIST.value:
            return Path(LIST.value[0]).stem
        if hub.is_hub(SOURCE.value):
            return hub.short_name(SOURCE.value)
        return Path(SOURCE.value or SPLITS.value).resolve().name
    storage = STORAGE.value or default_storage(DATASET.value, MAX_FRAMES.value, SHORT_SIDE.value)
    return storage + (str(MAX_FRAMES.value) if MAX_FRAMES.value else "")
