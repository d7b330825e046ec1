"""Keeps the frame features of videos in an index, which is searched without the videos.

Examples:
  python -m experiments.index clips/ --out=clips.index --model=ViT-B/16
  python -m experiments.index more_clips/ 'talks/**/*.mp4' --out=clips.index
  python -m experiments.index clips/ --out=clips.index --drop_missing
  python -m experiments.search clips.index 'a dog catches a frisbee'

FOLDER is a folder, a file, a glob, or an address (https://… of a file; gs://… and s3://… also of
folders), whose videos are copied into the cache first, after a question or with --download. The
same command resumes after an interruption, and later adds what is new: videos of the index are read
again only if their size or time of change differs. Videos that are gone stay in the index, and are
counted; --drop_missing takes them out, the last ones of a folder, too, but not those of a folder
that is not there. A video that cannot be read is reported and counted, the others are finished, and
the exit status is 2. An index has one encoder, number of frames and preprocessing; those of an
existing one are the default.
"""

from pathlib import Path

from absl import flags

from experiments.common import cli, download_flag, limit_flags, reading_flags
from experiments.predict import job, model_flags, weight_flags
from experiments.predict.model_flags import CHECKPOINT, CLIP
from experiments.predict.weight_flags import ACTIVATION, HEAD_WIDTH
from vtd_jax.clip.toy import toy_note
from vtd_jax.console.progress import Progress
from vtd_jax.console.status import Line
from vtd_jax.errors import UserError
from vtd_jax.output_checks import Output, check_outputs, weights_read
from vtd_jax.predict.predictor import Predictor
from vtd_jax.printable import listed, utf8
from vtd_jax.retrieval.build import Summary, build, check_before_loading, check_place
from vtd_jax.retrieval.encoder import load_encoder
from vtd_jax.retrieval.store import read_contents
from vtd_jax.terminal import counted, log

OUT = flags.DEFINE_string("out", None, "folder of the index, new or existing", required=True)
MODEL = flags.DEFINE_string(
    "model",
    None,
    "CLIP by name (ViT-B/16, hf:ORG/MODEL) or file, tuned .safetensors, or workdir of a run; "
    "default: that of the index, else tiny",
)
FRAMES = flags.DEFINE_integer(
    "frames",
    None,
    "frames of a video; default: those of the index, else as trained, else 16",
    lower_bound=1,
)
PREPROCESS = flags.DEFINE_enum(
    "preprocess",
    None,
    ["clip", "release"],
    "how frames are scaled and cropped; default: as in the index, else as trained, else clip",
)
DTYPE = flags.DEFINE_enum(
    "dtype",
    None,
    ["float32", "bfloat16"],
    "dtype that the towers compute in; default: as in the index, else as trained",
)
RESTART = flags.DEFINE_bool("restart", False, "discard an existing index")
DROP_MISSING = flags.DEFINE_bool(
    "drop_missing", False, "take videos out of the index that are gone from the folders given"
)
flags.adopt_module_key_flags(limit_flags)
flags.adopt_module_key_flags(download_flag)
flags.adopt_module_key_flags(model_flags)
flags.adopt_module_key_flags(weight_flags)
flags.adopt_module_key_flags(reading_flags)
_LOADED = (CLIP, CHECKPOINT, PREPROCESS, DTYPE, ACTIVATION, HEAD_WIDTH)


def _model(folder: Path) -> tuple[Predictor, str]:
    """The model of the flags or of the index, and what the index calls it."""
    contents = None if RESTART.value else read_contents(folder)
    settings = {holder.name: holder.value for holder in _LOADED}
    source = MODEL.value or "tiny"
    if not RESTART.value:
        check_before_loading(folder, MODEL.value, settings, FRAMES.value)
    if contents is None or MODEL.value is not None:
        return job.load_model(source, None, **settings), source
    if CLIP.value is not None:
        raise UserError(f"--clip={CLIP.value}: is for a tuned file or a run; give --model too")
    with Line(f"loading {contents.model}"):
        found = load_encoder(folder, contents, None, settings)
    if note := toy_note(found.model.clip.config):
        log(f"note: {note}")
    return found, contents.model


def main(*given: str) -> str:
    """Checks the flags, loads the model, and encodes what is not in the index."""
    folder = Path(OUT.value)
    inputs = [(f"FOLDER={one}", one) for one in given]
    inputs += [*weights_read("--model", MODEL.value), *weights_read("--clip", CLIP.value)]
    check_outputs([Output("--out", folder, folder=True)], inputs)
    if RESTART.value:
        check_place(folder)
    model, source = _model(folder)
    log(f"preprocess: {model.fit.describe(model.size)}")
    progress = Progress("index", 0, "video")

    def plan(count: int) -> None:
        progress.total = count
        if count:
            progress.show()

    def finished(video: str, error: str) -> None:
        progress.add(1, bool(error), error)

    with progress:
        done = build(
            folder, given, model, source=source,
            settings={holder.name: holder.value for holder in _LOADED},
            frames=FRAMES.value, how=reading_flags.given(), restart=RESTART.value,
            drop_missing=DROP_MISSING.value, flag="FOLDER", on_plan=plan, on_video=finished,
        )  # fmt: skip
    return _closing(folder, done)


def _closing(folder: Path, done: Summary) -> str:
    if done.missing:
        what = "taken out" if DROP_MISSING.value else "kept; --drop_missing takes them out"
        names = listed([utf8(name) for name in done.missing], 3)
        count = counted(len(done.missing), "video")
        log(f"note: gone, such as {names}: {count} of the index; {what}")
    parts = [f"{done.added} added", f"{done.unchanged} unchanged"]
    parts += [f"{done.changed} encoded again"] if done.changed else []
    said = f"{folder}: {counted(done.clips, 'video')} ({', '.join(parts)})"
    if done.failed:
        raise UserError(f"{len(done.failed)} could not be read (see above); {said}")
    return said


if __name__ == "__main__":
    cli.run(main, __doc__, positional=("FOLDER", "…"), needed=1, device=True)
