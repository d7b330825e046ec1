"""Miniature official downloads: the folders and annotation files of each data set, with small real
videos.

Class `i` (in the order of the class ids) has `videos_per_class + EXTRA[i]` training videos and 2
validation videos in every official split, so 5 classes of 2 have 3, 2, 4, 2, 5: classes 1 and 3 are
novel, 0, 2 and 4 base.
"""

import csv
import json
from pathlib import Path

from support.video_files import make_video

EXTRA = (1, 0, 2, 0, 3, 1)
VAL = 2

# in the order of the class ids: `kick ball` before `kick`, as the site's archives list
HMDB51 = ("brush_hair", "climb", "climb_stairs", "kick_ball", "kick", "wave")
UCF101 = (
    "ApplyEyeMakeup",
    "BoxingPunchingBag",
    "HandstandPushups",
    "HandstandWalking",
    "Typing",
    "YoYo",
)
SSV2 = (
    "Holding [something] next to [something]",
    "Poking a hole into [some substance]",
    "Putting [something] that can't roll onto a slanted surface, so it slides down",
    "Putting [number of] [something] onto [something]",
    "[Something] falling like a rock",
    "Turning [something] upside down",
)
KINETICS400 = (
    "abseiling",
    "air drumming",
    "passing American football (in game)",
    "passing American football (not in game)",
    "shuffling cards",
    "zumba",
)
NASTY = (
    "#437_How_To_{0}_u_cm_np1_fr_med_{1}",
    "50_FIRST_DATES_{0}_f_cm_np1_fr_med_{1}",
    "THE_PROTECTOR_[2];_part_(1)_{0}_h_cm_np2_le_bad_{1}",
    "a  b & c's, 100% + {0}=x_u_nm_np1_ri_goo_{1}",
)


def _video(path: Path, index: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    make_video(path, 6 + index % 5, width=32, height=24)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, newline="")


def make_hmdb51(folder: Path, classes: int = 5, videos_per_class: int = 2) -> Path:
    """HMDB-51: `hmdb51_org/CLASS/*.avi` and `testTrainMulti_7030_splits/`; a class has one unused
    video a split.
    """
    for i, name in enumerate(HMDB51[:classes]):
        roles = [1] * (videos_per_class + EXTRA[i]) + [2] * VAL + [0]
        files = [NASTY[j % len(NASTY)].format(name, j) + ".avi" for j in range(len(roles))]
        for j, file in enumerate(files):
            _video(folder / "hmdb51_org" / name / file, j)
        for split in (1, 2, 3):
            lines = (f"{file} {roles[(j + split) % len(roles)]} \n" for j, file in enumerate(files))
            _write(
                folder / f"testTrainMulti_7030_splits/{name}_test_split{split}.txt", "".join(lines)
            )
    return folder


def make_ucf101(folder: Path, classes: int = 5, videos_per_class: int = 2) -> Path:
    """UCF-101: `UCF-101/CLASS/*.avi` and `ucfTrainTestlist/` with its Windows line ends."""
    names = UCF101[:classes]
    lists = folder / "ucfTrainTestlist"
    _write(
        lists / "classInd.txt", "".join(f"{i} {name}\r\n" for i, name in enumerate(names, start=1))
    )
    train, test = {s: [] for s in (1, 2, 3)}, {s: [] for s in (1, 2, 3)}
    for i, name in enumerate(names):
        spoken = name.replace("HandstandP", "HandStandP")
        files = [
            f"{name}/v_{spoken}_g{j:02d}_c01.avi"
            for j in range(1, videos_per_class + EXTRA[i] + VAL + 1)
        ]
        for j, file in enumerate(files):
            _video(folder / "UCF-101" / file, j)
            for split in (1, 2, 3):
                tested = (j + split) % len(files) < VAL
                (test if tested else train)[split].append(file if tested else f"{file} {i + 1}")
    for split in (1, 2, 3):
        _write(lists / f"trainlist0{split}.txt", "".join(f"{line}\r\n" for line in train[split]))
        _write(lists / f"testlist0{split}.txt", "".join(f"{line}\r\n" for line in test[split]))
    return folder


def make_ssv2(
    folder: Path, classes: int = 5, videos_per_class: int = 2, naming: str = "labels"
) -> Path:
    """Something-Something v2: `20bn-something-something-v2/ID.webm` and the JSON files.

    Args:
      naming: "labels" for `labels/train.json`, "v2" for `something-something-v2-train.json`.
    """
    prefix = {"labels": "labels/", "v2": "something-something-v2-"}[naming]
    lists = {"train": [], "validation": []}
    number = 9
    for i, template in enumerate(SSV2[:classes]):
        for j in range(videos_per_class + EXTRA[i] + VAL):
            number += 91
            _video(folder / f"20bn-something-something-v2/{number}.webm", j)
            row = {
                "id": str(number),
                "label": template.replace("[", "").replace("]", ""),
                "template": template,
            }
            lists["validation" if j < VAL else "train"].append(row | {"placeholders": ["a cup"]})
    names = [template.replace("[", "").replace("]", "") for template in SSV2[:classes]]
    written = {
        **lists,
        "test": [{"id": "7"}],
        "labels": {name: str(i) for i, name in enumerate(names)},
    }
    for name, value in written.items():
        _write(folder / f"{prefix}{name}.json", json.dumps(value))
    return folder


def make_kinetics400(
    folder: Path, naming: str = "id", classes: int = 5, videos_per_class: int = 2
) -> Path:
    """Kinetics-400 as one downloads it.

    Args:
      naming: "id" for `train/ID_START_END.mp4` with `annotations/*.csv`; "class_folders" for
        `train/CLASS_WITH_UNDERSCORES/ID_START_END.mp4` without any CSV.
    """
    rows = {"train": [], "val": []}
    for i, name in enumerate(KINETICS400[:classes]):
        for j in range(videos_per_class + EXTRA[i] + VAL):
            split = "val" if j < VAL else "train"
            video, start = f"-{'abcdef'[i]}B_2lodo{j:02d}"[:11], 7 * j
            rows[split].append([name, video, start, start + 10, split, 0])
            inner = "" if naming == "id" else name.replace(" ", "_") + "/"
            _video(folder / split / f"{inner}{video}_{start:06d}_{start + 10:06d}.mp4", j)
    if naming == "id":
        for split, found in rows.items():
            path = folder / "annotations" / f"{split}.csv"
            path.parent.mkdir(exist_ok=True)
            with path.open("w", newline="") as file:
                csv.writer(file).writerow(
                    ["label", "youtube_id", "time_start", "time_end", "split", "is_cc"]
                )
                csv.writer(file, quoting=csv.QUOTE_NONNUMERIC).writerows(found)
        _write(
            folder / "annotations/test.csv", "youtube_id,time_start,time_end,split\n0,84,94,test\n"
        )
    elif naming != "class_folders":
        raise ValueError(naming)
    return folder


def make_class_folders(folder: Path, classes: int = 4, videos_per_class: int = 2) -> Path:
    """Any videos: `CLASS/…/file` of several kinds, a class without videos, a note at the top."""
    for i, name in enumerate(("left_turn", "right turn", "stop", "wave #1")[:classes]):
        for j in range(videos_per_class + EXTRA[i]):
            inner = "" if j % 2 else "day one/"
            _video(folder / name / f"{inner}take {j}.{('mp4', 'avi')[j % 2]}", j)
    (folder / "not yet").mkdir()
    _write(folder / "notes.txt", "nothing\n")
    return folder


# official downloads: name -> what makes one, and how
OFFICIAL = {
    "hmdb51": (make_hmdb51, {}),
    "ucf101": (make_ucf101, {}),
    "ssv2": (make_ssv2, {}),
    "ssv2 older": (make_ssv2, {"naming": "v2"}),
    "kinetics400": (make_kinetics400, {}),
    "kinetics400 folders": (make_kinetics400, {"naming": "class_folders"}),
}
