"""Turns videos and lists of them into records that training and evaluation read.

Examples:
  python -m experiments.build_data --dataset=hmdb51 --source=hmdb51 --data_dir=records
  python -m experiments.build_data --dataset=ucf101 --source=ucf101 --splits=ViFi-CLIP \\
      --only='base_*,novel_val' --data_dir=records
  python -m experiments.build_data --source=my_videos --data_dir=records --holdout=0.2
  python -m experiments.build_data --list=train.txt --list=val.txt --labels=labels.csv \\
      --video_dir=clips --data_dir=records
  python -m experiments.build_data --dataset=hmdb51 --source=hmdb51 --check_only \\
      --report=problems.json
  python -m experiments.build_data --source=hf:ORG/DATASET --data_dir=records --download

--source is an official download as it is unpacked (the documentation shows each), or a
folder with a sub-folder of videos for each class, or hf:ORG/DATASET[@REVISION], a data set of the
Hugging Face Hub, whose licence is yours to check. Lists have `file class_id` lines, label CSVs
`id,name` rows; --splits reads a tree of published ones. Where a protocol has no list, its rule
makes one from --seed, and tables call it an own split. Every video is stored once, however many
lists name it, in DATA_DIR/DATASET/NAME/; running again with other lists adds these. Every video is
decoded to its end: a bad one stops the build, or is left out and reported with --on_error=skip. The
same command resumes an interrupted build. --beam_runner builds on a cluster.
"""

from pathlib import Path

from absl import flags

from experiments.build_data import flags as given
from experiments.build_data import hub, outputs
from experiments.common import cli, program
from vtd_jax.errors import UserError
from vtd_jax.terminal import log, say, show_table
from vtd_jax.video.copies.beside import note_copies
from vtd_jax.video.copies.known import NamedCopy, known_as, read_known
from vtd_jax.video.ingest import records, validate
from vtd_jax.video.ingest.config import BuildConfig
from vtd_jax.video.ingest.run import beam_config

flags.adopt_module_key_flags(given)


def main() -> str:
    """Builds or checks; returns the closing line."""
    config = given.read_config()
    if given.CHECK_ONLY.value:
        try:
            return check(config)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(
                "a check keeps nothing; the same command starts again"
            ) from None
    if given.REPORT.value:
        raise UserError(
            "--report belongs to --check_only; skipped videos of a build are listed in its "
            "metadata.json"
        )
    if not given.DATA_DIR.value:
        raise UserError(
            "--data_dir is missing: name the folder for the records, or give --check_only"
        )
    outputs.check_records(config, Path(given.DATA_DIR.value))
    beam = None
    if given.BEAM_RUNNER.value or given.BEAM_OPTIONS.value:
        beam = beam_config(given.BEAM_RUNNER.value, given.BEAM_OPTIONS.value)
    known = read_known(program.KNOWN_COPIES)
    built = records.build_records(
        hub.resolved(config),
        given.DATA_DIR.value,
        overwrite=given.OVERWRITE.value,
        download_config=beam,
        announce=log,
    )
    copies = note_copies(built.path)
    for line in built.lists:
        say(line)
    for name, copy in copies.items():
        say(f"data of {name}: {NamedCopy(copy, known_as(copy, config.dataset, known)).describe()}")
    return records.closing(built, config)


def check(config: BuildConfig) -> str:
    """Prints problems by kind; raises UserError if a build would stop at any of them."""
    report = Path(given.REPORT.value) if given.REPORT.value else None
    if report:
        outputs.check_report(config, report)
        validate.Checked.check_path(report, "--report")
    checked = validate.check_videos(hub.resolved(config))
    if report:
        # before printing, where a closed pipe may end the command
        checked.save(report)
    if kinds := checked.kinds():
        rows = [
            (level, kind, f"{count}", first.where, first.file, first.reason)
            for level, kind, count, first in kinds
        ]
        columns = ("level", "kind", "how many", "the first: where", "file", "reason")
        more = (
            f"all of them are in {report}"
            if report
            else "--report=FILE.json or .csv lists all of them"
        )
        show_table(
            f"Problems by kind; {more}", columns, rows, numbers={"how many"}, less=("level",)
        )
    validate.require_good(checked)
    return f"{validate.describe(checked)}: all whole; no records were written"


if __name__ == "__main__":
    cli.run(
        main,
        __doc__,
        keeps_programs=False,
        resumes="finished shards are kept; the same command resumes",
    )
