"""Which lists a build makes: given ones, official ones, and own splits where neither exist."""

from collections.abc import Callable, Iterable
from fnmatch import fnmatch
from pathlib import Path

from vtd_jax.errors import UserError, setting
from vtd_jax.video.ingest.config import BuildConfig
from vtd_jax.video.lists.catalog import Problem, VideoList, read_labels, read_list
from vtd_jax.video.lists.label_rows import refuse_alike
from vtd_jax.video.lists.locate import class_folders
from vtd_jax.video.lists.official import official_lists
from vtd_jax.video.lists.official_files import NoAnnotations
from vtd_jax.video.lists.protocols import held_out, labels_for, own_splits, published_lists

# own splits are made a whole protocol at a time: halves of different origin could overlap
PROTOCOL_LISTS = (("base_*", "fs_base_*", "novel_*"), ("train1_few_shot_*",))


def given_list(
    list_file: str | Path, labels_file: str | Path = "", problems: list[Problem] | None = None
) -> VideoList:
    """Reads a list in the interchange format and its labels.

    Args:
      list_file: `file class_id` lines; the list's name is the file's stem.
      labels_file: the list's labels, see `read_labels`; empty looks for them where published trees
        keep them.
      problems: as for `read_list`.

    Raises:
      UserError: no such file, a malformed line, no label file, or one without ids where it is not
        clear how they count.
    """
    labels = labels_file or labels_for(Path(list_file))
    if not labels:
        raise UserError(
            f"{list_file}: no label file found for this list; name its id,name CSV with "
            f"{setting('labels')}"
        )
    if Path(list_file).name.startswith("."):
        raise UserError(
            f"{list_file}: a list is named after its file; give it a name without a leading dot"
        )
    names = read_labels(labels)
    entries = read_list(list_file, names, problems)
    if names.counted and entries and min(entry.label for entry in entries) > 0:
        raise UserError(
            f"{labels}: has no ids, and no video of {list_file} has id 0, so ids may count from 0 "
            "or from 1; write rows of the form id,name"
        )
    return VideoList(Path(list_file).stem, tuple(entries), names.names, "given", str(list_file))


def gather_lists(
    config: BuildConfig, source: Path, problems: list[Problem] | None = None
) -> list[VideoList]:
    """The lists of a config, each name once; what was given comes before what is official.

    Args:
      config: what to build.
      source: folder of the official download, or of videos.
      problems: gets what is wrong with single lines of given lists; None raises at the first.

    Raises:
      UserError: nothing to build from, two given lists of one name, or an `only` that matches
        nothing.
    """
    names: dict[str, None] = {}

    def wanted(name: str) -> bool:
        names[name] = None
        return not config.only or matches(name, config.only)

    lists = _given(config, problems, wanted)
    if config.dataset == "video_folder":
        found = [] if names else _folder(config, source, problems)
    else:
        found = _official(config, source, set(names), needed=not names)
    lists += [listed for listed in found if wanted(listed.name)]
    for pattern in config.only:
        if not any(fnmatch(name, pattern) for name in names):
            raise UserError(
                f"{setting('only', pattern)}: no list has this name; there are {', '.join(names)}"
            )
    for listed in lists:
        # classes with the same text would have the same code
        refuse_alike(
            listed.class_names, range(1, len(listed.class_names) + 1), listed.source, "class"
        )
    return lists


def _given(
    config: BuildConfig, problems: list[Problem] | None, wanted: Callable[[str], bool]
) -> list[VideoList]:
    """Lists by path, and those of a published tree; only the wanted ones are read."""
    lists = [given_list(*pair, problems) for pair in config.lists if wanted(Path(pair[0]).stem)]
    if config.splits:
        lists += published_lists(config.dataset, Path(config.splits), problems, wanted)
    first: dict[str, VideoList] = {}
    for listed in lists:
        if listed.name in first:
            raise UserError(
                f"{listed.source}: a list named {listed.name} was read from "
                f"{first[listed.name].source} already; rename one of the files"
            )
        first[listed.name] = listed
    return lists


def _folder(config: BuildConfig, source: Path, problems: list[Problem] | None) -> list[VideoList]:
    """The list of a plain folder: list.txt with labels, or class folders; may be held out."""
    if not source.is_dir():
        raise UserError(f"{source}: there is no such folder; check {setting('source')}")
    paths = (source / "labels.csv", source / "labels.txt")
    labels = next(filter(Path.is_file, paths), None)
    if labels is not None and (source / "list.txt").is_file():
        listed = given_list(source / "list.txt", labels, problems)
    else:
        listed = class_folders(source)
    return held_out(listed, config.holdout, config.seed) if config.holdout else [listed]


def _official(config: BuildConfig, source: Path, given: set[str], needed: bool) -> list[VideoList]:
    """The official lists, and own splits of the protocols without given lists."""
    try:
        official = official_lists(config.dataset, source)
    except NoAnnotations:
        if needed:
            raise
        return []
    own = own_splits(config.dataset, official, config.seed)
    ended = protocols_of(given)
    own = [listed for listed in own if not matches(listed.name, ended)]
    return [listed for listed in (*official, *own) if listed.name not in given]


def protocols_of(names: Iterable[str]) -> list[str]:
    """The patterns of all lists of the protocols that any of these lists belongs to."""
    used = [
        patterns for patterns in PROTOCOL_LISTS if any(matches(name, patterns) for name in names)
    ]
    return [pattern for patterns in used for pattern in patterns]


def matches(name: str, patterns: Iterable[str]) -> bool:
    """Whether a name matches any pattern, with `*` and `?`."""
    return any(fnmatch(name, pattern) for pattern in patterns)
