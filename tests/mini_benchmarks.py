"""A mini layout of the four benchmarks: few generated videos, under the real names, folders,
classes and lists.

    python tests/mini_benchmarks.py --splits=../shared/splits --out=/tmp/mini

writes `/tmp/mini/{hmdb51,ucf101,ssv2,kinetics400}` as the official downloads lie, each with its
annotation files, and `/tmp/mini/splits` with the lists that are in `--splits`, line by line, but
for the videos that were not made. Label files are copied as they are. It prints the commands that
build the records. The colour of a video follows its class.
"""

import argparse
import csv
import json
import shlex
import shutil
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import av
import numpy as np

from support.video_files import CODECS

HALVES = "base2novel_splits"
FRAMES, WIDTH, HEIGHT, COLOURS = 8, 64, 48, 12


@dataclass(frozen=True)
class Layout:
    """A data set: its folder in the tree, the stems of its label files (all, base, novel), where
    videos lie, and how many videos of a class are taken of each list, so that a step of the
    release's batch size and accumulation fits."""

    folder: str
    labels: tuple[str, str, str]
    place: str
    videos: int


LAYOUTS = {
    "hmdb51": Layout(
        "hmdb_splits",
        ("hmdb_51_labels", "hmdb_51_base_labels", "hmdb_51_novel_labels"),
        "hmdb51_org/{folder}/{file}",
        3,
    ),
    "ucf101": Layout(
        "ucf_splits",
        ("ucf_101_labels", "ucf_101_base_labels", "ucf_101_novel_labels"),
        "UCF-101/{folder}/{file}",
        2,
    ),
    "ssv2": Layout(
        "ssv2_splits",
        ("ssv2_labels", "ssv2_174_base_labels", "ssv2_174_novel_labels"),
        "20bn-something-something-v2/{file}",
        1,
    ),
    "kinetics400": Layout(
        "k400_splits",
        ("kinetics_400_labels", "kinetics_400_base_labels", "kinetics_400_novel_labels"),
        "{file}",
        1,
    ),
}


@dataclass
class Chosen:
    """What was taken of one data set: class names by id, the class of every video, and what the
      lists keep.

    Attributes:
      names: of all classes.
      classes: file as listed -> class name.
      lists: path below `datasets_splits` -> the lines that stay.
      roles: file -> names of the lists that hold it.
    """

    names: list[str]
    classes: dict[str, str] = field(default_factory=dict)
    lists: dict[str, list[str]] = field(default_factory=dict)
    roles: dict[str, set[str]] = field(default_factory=dict)


def make(splits: Path, out: Path) -> Path:
    """Writes the four downloads, and the lists filtered to them.

    Args:
      splits: the tree of real lists, with `datasets_splits/` and `labels/`.
      out: folder for everything; files of the same names are replaced.
    """
    for dataset in LAYOUTS:
        chosen = choose(splits, dataset)
        suffix = Path(next(iter(chosen.classes))).suffix
        pictures = [_encoded(number, suffix) for number in range(COLOURS)]
        place = {name: number for number, name in enumerate(chosen.names)}
        for file, name in chosen.classes.items():
            path = (
                out
                / dataset
                / LAYOUTS[dataset].place.format(folder=name.replace(" ", "_"), file=file)
            )
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(pictures[place[name] % COLOURS])
        ANNOTATE[dataset](out / dataset, chosen)
        for listed, lines in chosen.lists.items():
            _write(out / "splits/datasets_splits" / listed, lines)
    shutil.copytree(splits / "labels", out / "splits/labels", dirs_exist_ok=True)
    return out


def choose(splits: Path, dataset: str) -> Chosen:
    """Takes the first videos of every class of every list, those that other lists took before any
    new ones.
    """
    layout, tree = LAYOUTS[dataset], splits / "datasets_splits"
    labels = [_names(splits / "labels" / f"{stem}.csv") for stem in layout.labels]
    found = (
        path
        for folder in (f"{HALVES}/{layout.folder}", layout.folder)
        for path in (tree / folder).glob("*.txt")
    )
    # short lists first: the long ones hold the same videos
    paths = sorted(found, key=lambda path: (path.stat().st_size, str(path)))
    chosen, lists = Chosen(labels[0]), {}
    for path in paths:
        whole = path.parent.parent.name != HALVES
        names = labels[0] if whole else labels[2 if path.stem.startswith("novel") else 1]
        lists[path] = [
            (file, names[int(number)])
            for file, _, number in (line.rpartition(" ") for line in path.read_text().splitlines())
        ]
        taken = Counter(name for file, name in lists[path] if file in chosen.classes)
        for file, name in lists[path]:
            if file not in chosen.classes and taken[name] < layout.videos:
                chosen.classes[file] = name
                taken[name] += 1
    for path in paths:
        lines = path.read_text().splitlines()
        kept = [line for line, (file, _) in zip(lines, lists[path]) if file in chosen.classes]
        chosen.lists[str(path.relative_to(tree))] = kept
        for file, name in lists[path]:
            if file in chosen.classes:
                assert chosen.classes[file] == name, (
                    f"{path}: {file} is {name} here and {chosen.classes[file]} before"
                )
                chosen.roles.setdefault(file, set()).add(path.stem)
    return chosen


def _names(path: Path) -> list[str]:
    with path.open(newline="") as file:
        return [row["name"] for row in csv.DictReader(file)]


def _encoded(number: int, suffix: str) -> bytes:
    """A video of one of the colours that brightens from frame to frame."""
    codec, settings = CODECS[suffix[1:]]
    # three levels of red, two of green and of blue
    colour = np.array(
        [40 + 60 * (number % 3), 40 + 120 * (number // 3 % 2), 40 + 120 * (number // 6)]
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"video{suffix}"
        with av.open(str(path), "w") as container:
            stream = container.add_stream(codec, rate=25, options=settings)
            stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
            for index in range(FRAMES):
                image = np.broadcast_to(colour + 5 * index, (HEIGHT, WIDTH, 3)).astype(np.uint8)
                container.mux(
                    stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(image), "rgb24"))
                )
            container.mux(stream.encode(None))
        return path.read_bytes()


def _write(path: Path, lines: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))


def _tested(chosen: Chosen, file: str, number: str) -> bool:
    """Whether a video is one of the validation list of an official split."""
    return bool(
        chosen.roles[file]
        & ({"base_val", "novel_val", "val1"} if number == "1" else {f"val{number}"})
    )


def _hmdb51(folder: Path, chosen: Chosen) -> None:
    """`CLASS_test_splitN.txt`; the training videos of splits 2 and 3 are not in the tree, so all
    others are those.
    """
    for name in chosen.names:
        files = [file for file, its in chosen.classes.items() if its == name]
        for number in "123":
            lines = [f"{file} {2 if _tested(chosen, file, number) else 1} " for file in files]
            _write(
                folder
                / f"testTrainMulti_7030_splits/{name.replace(' ', '_')}_test_split{number}.txt",
                lines,
            )


def _ucf101(folder: Path, chosen: Chosen) -> None:
    """`classInd.txt`, `trainlist0N.txt` and `testlist0N.txt`; as for HMDB-51, all others are
    training videos.
    """
    lists = folder / "ucfTrainTestlist"
    _write(lists / "classInd.txt", [f"{i} {name}" for i, name in enumerate(chosen.names, start=1)])
    number_of = {name: i for i, name in enumerate(chosen.names, start=1)}
    for number in "123":
        train, test = [], []
        for file, name in chosen.classes.items():
            tested = _tested(chosen, file, number)
            (test if tested else train).append(
                f"{name}/{file}" if tested else f"{name}/{file} {number_of[name]}"
            )
        _write(lists / f"trainlist0{number}.txt", train)
        _write(lists / f"testlist0{number}.txt", test)


def _ssv2(folder: Path, chosen: Chosen) -> None:
    """`labels/labels.json`, `train.json` and `validation.json`."""
    rows = {"train": [], "validation": []}
    for file, name in chosen.classes.items():
        tested = chosen.roles[file] & {"base_val", "novel_val", "validation"}
        template = name.replace("something", "[something]").replace("Something", "[Something]")
        row = {
            "id": file.removesuffix(".webm"),
            "label": name,
            "template": template,
            "placeholders": ["a cup"],
        }
        rows["validation" if tested else "train"].append(row)
    ids = {name: str(i) for i, name in enumerate(chosen.names)}
    for stem, value in {**rows, "labels": ids}.items():
        _write(folder / f"labels/{stem}.json", [json.dumps(value)])


def _kinetics400(folder: Path, chosen: Chosen) -> None:
    """`annotations/train.csv` and `val.csv`."""
    (folder / "annotations").mkdir(parents=True, exist_ok=True)
    for split in ("train", "val"):
        with (folder / f"annotations/{split}.csv").open("w", newline="") as out:
            writer = csv.writer(out)
            writer.writerow(["label", "youtube_id", "time_start", "time_end", "split"])
            for file, name in chosen.classes.items():
                half, _, clip = file.removesuffix(".mp4").partition("/")
                if half == split:
                    video, start, end = clip.rsplit("_", 2)
                    writer.writerow([name, video, int(start), int(end), split])


ANNOTATE = {"hmdb51": _hmdb51, "ucf101": _ucf101, "ssv2": _ssv2, "kinetics400": _kinetics400}


def main() -> None:
    """Makes the layout and prints the commands that build its records."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--splits",
        type=Path,
        required=True,
        help="tree of real lists: datasets_splits/ and labels/",
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    args = parser.parse_args()
    out = make(args.splits, args.out)
    for dataset in LAYOUTS:
        places = (
            f"--source={out / dataset}",
            f"--splits={out / 'splits'}",
            f"--data_dir={out / 'records'}",
        )
        print(
            shlex.join(("python", "-m", "experiments.build_data", f"--dataset={dataset}", *places))
        )


if __name__ == "__main__":
    main()
