"""Names videos with any labels, without training or with what a run learnt, and shows why.

Examples:
  python -m experiments.predict --model=ViT-B/16 --video=clip.mp4 \\
      --labels='arm wrestling,hugging'
  python -m experiments.predict --model=runs/hmdb51 --video=clips/ --json=scores.json \\
      --csv=scores.csv
  python -m experiments.predict --model=ViT-B-16.pt --video='clips/**/*.mp4' --labels=labels.txt \\
      --report=report
  python -m experiments.predict --model=ViT-B-16.pt --video=clip.mp4 --labels=labels.txt \\
      --vocabulary=words.txt
  python -m experiments.predict --model=ViT-B-16.pt --video=match.mp4 --labels=labels.txt \\
      --window=8 --report=out
  python -m experiments.predict --model=ViT-B-16.pt --video=clips/ --labels=labels.txt \\
      --truth=folders --report=out

--video takes files, folders, globs and addresses (https://…; gs://… and s3://… also as folders and
globs), any number of them; videos at addresses are copied into the cache first, after a question or
with --download. Thousands of videos run in bounded memory; after an interruption the same command
resumes. A video that cannot be read is reported and counted, the others are finished, and the exit
status is 2. --model=tiny, the default, is the small CLIP of this repository: it knows coloured
shapes only.
"""

import datetime
from collections.abc import Sequence
from typing import Any

from absl import flags

from experiments.common import cli, download_flag, limit_flags, program, reading_flags
from experiments.predict import job, model_flags, weight_flags
from experiments.predict.model_flags import CHECKPOINT, CLIP
from experiments.predict.weight_flags import ACTIVATION, HEAD_WIDTH
from vtd_jax.errors import UserError
from vtd_jax.output_checks import weights_read
from vtd_jax.untrusted.raised import MAX_MOMENTS
from vtd_jax.video.lists.find import find_videos

VIDEO = flags.DEFINE_multi_string(
    "video", [], "file, folder, glob or address (https://…, gs://…); may be given several times"
)
LABELS = flags.DEFINE_string(
    "labels", None, "'a,b,c', or a file with one a line; default: the names that were learnt"
)
MODEL = flags.DEFINE_string(
    "model",
    "tiny",
    "CLIP by name (ViT-B/16, hf:ORG/MODEL) or file, tuned .safetensors, workdir of a run, or tiny",
)
VOCABULARY = flags.DEFINE_string(
    "vocabulary",
    None,
    "words that name frames: 'a,b,c', or a file with one a line; default: the labels",
)
TEMPLATES = flags.DEFINE_string(
    "templates", None, "zero-shot: a text with {} for the label, or a file of some"
)
POOLING = flags.DEFINE_enum(
    "pooling",
    None,
    ["confidence", "mean", "softmax_mean"],
    "how frames become logits; default: as trained, else confidence",
)
PREPROCESS = flags.DEFINE_enum(
    "preprocess",
    None,
    ["clip", "release"],
    "how frames are scaled and cropped; default: as trained, else clip",
)
DTYPE = flags.DEFINE_enum(
    "dtype",
    None,
    ["float32", "bfloat16"],
    "dtype that the towers compute in; default: as trained, else float32",
)
FRAMES = flags.DEFINE_integer(
    "frames",
    None,
    "frames looked at in a video or window; default: as trained, else 16",
    lower_bound=1,
)
TOP = flags.DEFINE_integer("top", 5, "number of best labels to show", lower_bound=1)
WINDOW = flags.DEFINE_float(
    "window",
    None,
    "length of a window, seconds: cut videos into windows, and find what is shown when",
)
STRIDE = flags.DEFINE_float(
    "stride", None, "with --window: seconds from window to window; default: half a window"
)
THRESHOLD = flags.DEFINE_float(
    "threshold", 0.25, "with --window: score from which a window shows a label that is not its best"
)
JSON = flags.DEFINE_string("json", None, "JSON file to write, with everything")
CSV = flags.DEFINE_string(
    "csv", None, "CSV file to write, a row a video, with --window a row a segment"
)
REPORT = flags.DEFINE_string(
    "report", None, "folder to write: a page a video and an index, to open in a browser"
)
FIGURES = flags.DEFINE_string("figures", None, "folder to write: a PNG and a PDF a video")
TRUTH = flags.DEFINE_string(
    "truth", None, "known labels: 'folders' the videos are in, or a .csv of file,label rows"
)
RESTART = flags.DEFINE_bool("restart", False, "throw away what an interrupted run finished")
CACHE = flags.DEFINE_string(
    "cache", None, "folder for text features; default: $VTD_JAX_CACHE, else ~/.cache/vtd_jax"
)
flags.DEFINE_integer(
    MAX_MOMENTS.flag, None, f"{MAX_MOMENTS.what}; default: {MAX_MOMENTS.default:,}", lower_bound=1
)
flags.adopt_module_key_flags(limit_flags)
flags.adopt_module_key_flags(download_flag)
flags.adopt_module_key_flags(model_flags)
flags.adopt_module_key_flags(weight_flags)
flags.adopt_module_key_flags(reading_flags)
# flags that are fields of a request, and arguments of `vtd_jax.load`
_REQUEST = (
    LABELS, VOCABULARY, FRAMES, TOP, WINDOW, STRIDE, THRESHOLD, JSON, CSV, REPORT, FIGURES, RESTART,
    TRUTH,
)  # fmt: skip
_MODEL = (CLIP, CHECKPOINT, POOLING, PREPROCESS, DTYPE, CACHE, ACTIVATION, HEAD_WIDTH)


def _values(holders: Sequence[flags.FlagHolder]) -> dict[str, Any]:
    """Values by the names of their flags."""
    return {holder.name: holder.value for holder in holders}


def main() -> str:
    """Checks the flags, loads the model, and names the videos."""
    request = job.Request(
        **_values(_REQUEST),
        how=reading_flags.given(),
        command=program.line(),
        date=f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M} UTC",
        inputs=[
            *((f"--video={source}", source) for source in VIDEO.value),
            *weights_read("--model", MODEL.value),
            *weights_read("--clip", CLIP.value),
            (f"--templates={TEMPLATES.value}", TEMPLATES.value),
        ],
    )
    videos = find_videos(VIDEO.value, "--video")
    request.validate(videos)
    if CLIP.value is not None and not flags.FLAGS["model"].present:
        raise UserError(
            f"--clip={CLIP.value}: is for a tuned file or a run (--model) whose CLIP has moved; "
            f"to name videos with this CLIP as it is, give --model={CLIP.value}"
        )
    model = job.load_model(MODEL.value, TEMPLATES.value, **_values(_MODEL))
    return job.run(request, videos, model)


if __name__ == "__main__":
    cli.run(main, __doc__, device=True)
