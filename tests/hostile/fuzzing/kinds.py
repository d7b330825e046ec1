"""The kinds of files that are fuzzed, and in which module each kind's targets are."""

import importlib

from hostile.fuzzing.target import Target

# kind: module of `hostile`, beginnings of the names of its targets
KINDS = {
    "checkpoints": (
        "targets_weights",
        ("archive", "script", "safetensors", "hugging_face", "tuned", "release"),
    ),
    "encoders": ("targets_weights", ("siglip", "tokenizer")),
    "records": ("targets_videos", ("records_",)),
    "videos": ("targets_videos", ("video_",)),
    "lists": ("targets_texts", ("list",)),
    "labels": ("targets_texts", ("labels", "annotations")),
    "json": ("targets_texts", ("json", "journal")),
    "arrays": ("targets_texts", ("arrays", "index")),
    "runs": ("targets_runs", ("",)),
}
# bytes that reading a small file may take
RESIDENT = 2**30


def load(kind: str) -> dict[str, Target]:
    """The targets of a kind, by name."""
    module, names = KINDS[kind]
    found = importlib.import_module(f"hostile.fuzzing.{module}").TARGETS
    return {name: target for name, target in found.items() if name.startswith(names)}
