"""Other people's files have one reader each: JSON, CSV, arrays, videos, records; nothing else opens
them.
"""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent

# a call -> what to use instead
DOORS = {
    "json.load": "vtd_jax.untrusted.json_text",
    "json.loads": "vtd_jax.untrusted.json_text",
    "msgspec.json.decode": "vtd_jax.untrusted.json_text",
    "csv.reader": "vtd_jax.untrusted.csv_text",
    "csv.DictReader": "vtd_jax.untrusted.csv_text",
    "np.load": "vtd_jax.untrusted.arrays",
    "np.loadtxt": "vtd_jax.untrusted.arrays",
    "np.fromfile": "vtd_jax.untrusted.arrays",
    "np.memmap": "vtd_jax.untrusted.arrays",
    "pq.ParquetFile": "vtd_jax.untrusted.parquet",
    "pq.read_table": "vtd_jax.untrusted.parquet",
    "pickle.load": "nothing: a pickle runs code",
    "pickle.loads": "nothing: a pickle runs code",
    "av.open": "vtd_jax.video.codec.opening",
    "cv2.imread": "vtd_jax.video.codec.opening",
    "cv2.VideoCapture": "vtd_jax.video.codec.opening",
    "Image.open": "vtd_jax.video.codec.opening",
    "tfds.builder_from_directory": "vtd_jax.video.records",
    "tfds.load": "vtd_jax.video.records",
}
# file -> calls that it may make, and why
ALLOWED = {
    "vtd_jax/untrusted/json_text.py": ({"msgspec.json.decode", "json.loads"}, "the reader"),
    "vtd_jax/untrusted/csv_text.py": ({"csv.reader"}, "the reader"),
    "vtd_jax/untrusted/arrays.py": ({"np.memmap"}, "the reader"),
    "vtd_jax/untrusted/parquet.py": ({"pq.ParquetFile"}, "the reader"),
    "vtd_jax/predict/inline_words.py": ({"csv.reader"}, "of what a user types"),
    "vtd_jax/video/codec/opening.py": ({"av.open"}, "the door"),
    "experiments/weights/pictures.py": (
        {"Image.open"},
        "of published pictures, bounded, and blended and scaled as OpenAI's code does it",
    ),
    "vtd_jax/scenes/render.py": ({"av.open"}, "writes"),
    "experiments/benchmark/readers.py": (
        {"av.open", "cv2.VideoCapture"},
        "of a video that it wrote itself",
    ),
    "vtd_jax/predict/serve_example.py": (
        {"av.open", "json.loads", "np.load"},
        "runs without this package",
    ),
    "vtd_jax/predict/serve.py": ({"json.loads"}, "of what json.dumps made a line before"),
    "vtd_jax/predict/journal.py": ({"json.loads"}, "of what json.dumps made a line before"),
    "vtd_jax/train/config.py": ({"json.loads"}, "of what json.dumps made a line before"),
    "vtd_jax/parallel/processes.py": ({"pickle.loads"}, "between the processes of one run"),
    "vtd_jax/manifest.py": ({"json.loads"}, "of what json.dumps made a line before"),
    "experiments/benchmark/child.py": ({"json.loads"}, "between a process and its child"),
}


def _calls(path):
    """Dotted names of what a file calls, with lines."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node.lineno


@pytest.mark.parametrize("folder", ["vtd_jax", "experiments", "data"])
def test_files_are_read_by_their_readers_only(folder):
    wrong = []
    for path in sorted((ROOT / folder).rglob("*.py")):
        name = str(path.relative_to(ROOT))
        allowed = ALLOWED.get(name, (set(), ""))[0]
        wrong += [
            f"{name}:{line}: {call}, use {DOORS[call]}"
            for call, line in _calls(path)
            if call in DOORS and call not in allowed
        ]
    assert not wrong, "\n".join(["", *wrong])


def test_what_is_allowed_is_there():
    for name, (calls, _) in ALLOWED.items():
        lacking = calls - {call for call, _ in _calls(ROOT / name)}
        assert not lacking, (
            f"{name}: no {', '.join(sorted(lacking))} any more: take it off the list"
        )
