"""Finds clips of an index by a text, by an example, or by labels, without reading a video.

Examples:
  python -m experiments.search clips.index 'a dog catches a frisbee'
  python -m experiments.search clips.index 'a red car' 'somebody sings' --top=20 --json=found.json
  python -m experiments.search clips.index --video=example.mp4
  python -m experiments.search clips.index --labels='arm wrestling,hugging' --csv=labels.csv
  python -m experiments.search clips.index 'a dog' --vocabulary=words.txt
  python -m experiments.search clips.index --check

INDEX is a folder that experiments.index wrote. The score of a clip for a text is the method's logit
without its scale, -1..1; "at" is the second of the best frame. --labels classifies every clip as
experiments.predict does, and writes the same files. The model is that of the index; --model gives
another one with the same image tower, such as a run that learnt only text prompts, or the path of
the weights, which an index alone does not open.
"""

import datetime
from typing import Any

from absl import flags

from experiments.common import cli, download_flag, limit_flags, program
from experiments.common.word_flags import given_words
from experiments.configs._templates import read_templates
from experiments.predict import model_flags
from experiments.predict.model_flags import CHECKPOINT, CLIP
from experiments.search import outputs
from vtd_jax.backend import describe_devices
from vtd_jax.clip.toy import toy_note
from vtd_jax.console.progress import Progress
from vtd_jax.console.status import Line
from vtd_jax.errors import UserError
from vtd_jax.output_checks import weights_read
from vtd_jax.printable import listed, utf8
from vtd_jax.retrieval.index import Index
from vtd_jax.terminal import counted, log
from vtd_jax.video.lists.addresses import named

MODEL = flags.DEFINE_string(
    "model",
    None,
    "CLIP by name or file, tuned .safetensors, or workdir of a run; default: that of the index",
)
VIDEO = flags.DEFINE_multi_string(
    "video",
    [],
    "an example, a file or address (https://…): find clips like it; may be given several times",
)
LABELS = flags.DEFINE_string(
    "labels", None, "'a,b,c', or a file with one a line: classify every clip"
)
VOCABULARY = flags.DEFINE_string(
    "vocabulary",
    None,
    "words that name frames: 'a,b,c', or a file with one a line; default with --labels: the labels",
)
TEMPLATES = flags.DEFINE_string(
    "templates", None, "zero-shot: a text with {} for the query or label, or a file of some"
)
POOLING = flags.DEFINE_enum(
    "pooling",
    None,
    ["confidence", "mean", "softmax_mean"],
    "how frames become logits; default: as trained, else confidence",
)
TOP = flags.DEFINE_integer("top", 10, "number of best clips, or of labels, to show", lower_bound=1)
JSON = flags.DEFINE_string("json", None, "JSON file to write, with everything")
CSV = flags.DEFINE_string("csv", None, "CSV file to write, a row a clip")
CHECK = flags.DEFINE_bool("check", False, "read the whole index and compare its checksums")
CACHE = flags.DEFINE_string(
    "cache", None, "folder for text features; default: $VTD_JAX_CACHE, else ~/.cache/vtd_jax"
)
flags.adopt_module_key_flags(limit_flags)
flags.adopt_module_key_flags(download_flag)
flags.adopt_module_key_flags(model_flags)


def main(folder: str, *queries: str) -> str:
    """Checks the flags, opens the index, and searches or classifies."""
    asked = [bool(queries or VIDEO.value), LABELS.value is not None, CHECK.value]
    if sum(asked) != 1:
        raise UserError(
            "expected one of these: texts behind the index or --video=EXAMPLE, to find clips; "
            "--labels=…, to classify all clips; --check, to compare checksums"
        )
    files = outputs.Files.of(JSON.value, CSV.value)
    files.check(
        [
            (f"the index {folder}", folder),
            *((f"--video={video}", video) for video in VIDEO.value),
            *weights_read("--model", MODEL.value),
            *weights_read("--clip", CLIP.value),
            *((f"--{one.name}={one.value}", one.value) for one in (LABELS, VOCABULARY, TEMPLATES)),
        ]
    )
    if CLIP.value is not None and MODEL.value is None:
        raise UserError(f"--clip={CLIP.value}: is for a tuned file or a run; give --model too")
    templates = read_templates(TEMPLATES.value)[1] if TEMPLATES.value else None
    settings = {holder.name: holder.value for holder in (CLIP, CHECKPOINT, POOLING, CACHE)}
    index = Index.open(folder, MODEL.value, templates=templates, **settings)
    if CHECK.value:
        with Line(f"reading {folder}"):
            return (
                f"{folder}: {counted(index.check(), 'video')}, all files are as they were written"
            )
    if not len(index):
        raise UserError(f"{folder}: no videos in it; {program.spelled('index')} adds some")
    with Line(f"loading {MODEL.value or index.about.model}"):
        model = index.predictor
    if note := toy_note(model.model.clip.config):
        log(f"note: {note}")
    limits = model.label_room, model.tokenizer
    words = given_words(VOCABULARY.value, "--vocabulary", *limits)
    if words is not None:
        with Progress("encoding the vocabulary", noun="word") as progress:
            model.encode_vocabulary(words, progress.update)
    about = _about(folder, index)
    with files.locked():
        if LABELS.value is not None:
            labels = given_words(LABELS.value, "--labels", *limits)
            outputs.classify(index, labels, words, TOP.value, files, about)
        else:
            found = _found(index, queries, words)
            outputs.show(found, TOP.value)
            files.write(found, about)
    return f"{counted(len(index), 'video')} searched{files.written()}"


def _found(
    index: Index, queries: tuple[str, ...], words: tuple[str, ...] | None
) -> list[outputs.Answer]:
    """The clips for every text and example."""
    found = []
    with Line(f"searching {counted(len(index), 'video')}"):
        if queries:
            hits = index.search(list(queries), TOP.value, vocabulary=words)
            found += [outputs.Answer(query, list(one)) for query, one in zip(queries, hits)]
        for video in VIDEO.value:
            found.append(
                outputs.Answer(
                    utf8(named(video)), index.similar(video, TOP.value, vocabulary=words)
                )
            )
    return found


def _about(folder: str, index: Index) -> dict[str, Any]:
    model, config = index.predictor, index.predictor.model.config
    templates = {"templates": listed(config.templates, 1)} if config.templates else {}
    return {
        "index": utf8(folder),
        "videos": f"{len(index)}",
        "model": utf8(model.description),
        "weights": model.weights,
        "encoder": index.about.encoder,
        "frames": f"{index.frames}",
        "pooling": config.pooling,
        "preprocess": index.about.preprocess,
        "device": describe_devices(),
        "date": f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M} UTC",
        "command": utf8(program.line()),
    } | templates


if __name__ == "__main__":
    cli.run(main, __doc__, positional=("INDEX", "QUERY", "…"), needed=1, device=True)
