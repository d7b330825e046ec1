"""Reproduces a table: plans, trains, evaluates, and prints published numbers beside ours.

The same command resumes.

    python -m experiments.reproduce --table=base_to_novel --data_dir=records --clip=ViT-B-16.pt \\
        --workdir=runs/tables
    python -m experiments.reproduce --table=few_shot --datasets=hmdb51 --dry_run \\
        --device_kind=H100 --devices=8 --data_dir=records --clip=ViT-B-16.pt --workdir=runs/tables
    python -m experiments.reproduce --table=ablations --datasets=ucf101 \\
        --only='*confidence_off*,*16shot_s?' \\
        --data_dir=records --clip=ViT-B-16.pt --workdir=runs/tables
    python -m experiments.reproduce --table=base_to_novel --methods=vtd,vifi,clip \\
        --rivals=checkpoints --data_dir=records --clip=ViT-B-16.pt --workdir=runs/tables
    python -m experiments.reproduce --table=all --workdir=runs/scenes
    python -m experiments.reproduce --table=all --workdir=runs/scenes --tables_only

Tables: base_to_novel, few_shot, zero_shot, fully_supervised, ablations, irrelevant (scenes only),
or all. Every data set, list and seed that is present is run. Without --data_dir that is the
embedded default: rendered scenes and the small CLIP that ships.

Writes TABLE.md, .csv, .json and TABLE*.png into the workdir. Every run has a folder below runs/
with its settings, checkpoints, output and the scores of every video. --tables_only makes the tables
again from these, without a device. --dry_run needs no weights: it takes the sizes that go with the
CLIP's name.

With other methods in --methods, TABLE_paired.md, .csv and .json compare them with VTD-CLIP on the
same videos.
"""

import contextlib
import functools
from pathlib import Path

from absl import flags

from experiments.common import download_flag, hosts
from experiments.common.number_lists import whole_numbers
from experiments.reproduce import execute
from experiments.reproduce import request as requests
from experiments.reproduce.cost import ASSUMED
from vtd_jax.console.status import Line
from vtd_jax.cost.estimate import DEVICES, HERE
from vtd_jax.errors import UserError
from vtd_jax.locks import locked_outputs
from vtd_jax.parallel.preemption import Preemption
from vtd_jax.parallel.processes import on_all, on_first
from vtd_jax.rivals.kinds import COMPUTED
from vtd_jax.terminal import counted

flags.adopt_module_key_flags(download_flag)
_TABLE = flags.DEFINE_enum("table", None, [*requests.TABLES, "all"], "which table", required=True)
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "folder of tables and runs; created if missing", required=True
)
_DATA_DIR = flags.DEFINE_string(
    "data_dir", None, "what experiments.build_data wrote; without it, rendered scenes"
)
_CLIP = flags.DEFINE_string(
    "clip", None, "CLIP by name (ViT-B/16, hf:ORG/MODEL) or file; scenes take the one that ships"
)
_DATASETS = flags.DEFINE_list(
    "datasets", [], "hmdb51, ucf101, ssv2, kinetics400, kinetics600; default: all that are present"
)
_SPLITS = flags.DEFINE_list(
    "splits", ["1", "2", "3"], "which of the three 16-shot lists of base-to-novel"
)
_SEEDS = flags.DEFINE_list(
    "seeds",
    ["0"],
    "seeds of the training where there is one list to learn on; the 16-shot lists are seeds "
    "themselves",
)
_ONLY = flags.DEFINE_list("only", [], "patterns of run names (see --dry_run), with * and ?")
_SOURCE = flags.DEFINE_string(
    "source",
    "auto",
    "zero-shot transfer: auto trains on Kinetics-400 if that is present; none; or a workdir or "
    "file",
)
_FEW_SHOT_VAL = flags.DEFINE_enum(
    "few_shot_val",
    "split1",
    ["split1", "mean"],
    "few-shot on HMDB-51 and UCF-101: evaluate on the validation list of split 1, or take the mean "
    "over those of the 3 splits as ViFi-CLIP does (some of their videos are learnt on)",
)
_METHODS = flags.DEFINE_list(
    "methods",
    ["vtd", "clip"],
    "whose rows: vtd, clip (CLIP as it is), vtd_frames (our variant, model.votes=frames), and "
    "other methods by their authors' checkpoints: "
    f"{', '.join(COMPUTED)}",
)
_RIVALS = flags.DEFINE_string(
    "rivals", None, "folder of other methods' checkpoints, METHOD/TABLE….pth; --dry_run names them"
)
_SET = flags.DEFINE_multi_string(
    "set", [], "FIELD=VALUE of every run's config, noted in the table; may be repeated"
)
_DRY_RUN = flags.DEFINE_bool("dry_run", False, "print runs, steps, FLOPs and times, and do nothing")
_KIND = flags.DEFINE_enum(
    "device_kind", HERE, [HERE, *DEVICES], "for --dry_run: the device to estimate times for"
)
_DEVICES = flags.DEFINE_integer(
    "devices", 1, "for --dry_run: number of devices to estimate times for", lower_bound=1
)
_UTILIZATION = flags.DEFINE_float(
    "utilization",
    None,
    f"for --dry_run: share of the peak that is reached; default: by the device's compiler where it "
    f"is installed (make aot, for TPUs), else {ASSUMED:g}",
    0.001,
    1.0,
)
_TABLES_ONLY = flags.DEFINE_bool(
    "tables_only", False, "make the tables from finished runs, without a device"
)


def request() -> requests.Request:
    """The flags."""
    return requests.Request(
        _TABLE.value, Path(_WORKDIR.value), _DATA_DIR.value, _CLIP.value, tuple(_DATASETS.value),
        whole_numbers("splits", _SPLITS.value, "some of 1, 2, 3", allowed=(1, 2, 3)),
        whole_numbers("seeds", _SEEDS.value, "different whole numbers, as 0,1,2"),
        tuple(_ONLY.value), _SOURCE.value, requests.changes(_SET.value), _FEW_SHOT_VAL.value,
        tuple(dict.fromkeys(_METHODS.value)), Path(_RIVALS.value) if _RIVALS.value else None,
    )  # fmt: skip


def main() -> str:
    """Plans the tables, makes their runs, and writes them."""
    asked, failed = on_all(request), []
    on_all(requests.check_outputs_of, asked)
    with contextlib.ExitStack() as stack:
        if not _TABLES_ONLY.value:
            with Line("reading the CLIP and the lists"):
                made = on_all(functools.partial(requests.make, dry=_DRY_RUN.value), asked)
            if _DRY_RUN.value:
                return requests.show(made, _KIND.value, _DEVICES.value, _UTILIZATION.value)
            # --tables_only takes no lock: each of its files is replaced atomically
            on_first(stack.enter_context, locked_outputs([("--workdir", asked.workdir, True)]))
            on_first(made.planner.data.prepare)
            on_first(requests.keep, made, asked.workdir)
            with Preemption() as preemption:
                failed = execute.execute(
                    made.runs, asked.workdir, made.weights, preemption, made.legacy_weights
                )
        try:
            with Line("making tables and plots"):
                wrote = on_first(requests.tables, asked.table, asked.workdir)
        except UserError:
            if not failed:
                raise
    if failed:
        are = "is" if len(failed) == 1 else "are"
        raise UserError(
            f"{counted(len(failed), 'run')} failed and {are} not in the tables: {'; '.join(failed)}"
        )
    return f"wrote {', '.join(wrote)}"


if __name__ == "__main__":
    hosts.run(
        main, __doc__, catch_sigterm=True, resumes="the same command resumes with what is finished"
    )
