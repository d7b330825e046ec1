"""The walls of the house: imports point down only, and the model needs no data libraries."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# what a package of vtd_jax may import from the others
ALLOWED = {
    "untrusted": set(),
    "clip": {"untrusted"},
    "model": {"clip", "untrusted"},
    "video": {"untrusted"},
    "train": {"clip", "model", "video", "untrusted"},
    "evaluate": {"clip", "model", "video", "train", "untrusted"},
    "explain": {"clip", "model", "video", "train", "untrusted"},
}


def _imports(path):
    """Names of modules that a file imports, wherever in the file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("package", ALLOWED)
def test_imports_point_down(package):
    files = sorted((ROOT / "vtd_jax" / package).rglob("*.py"))
    assert files
    for path in files:
        for name in _imports(path):
            parts = name.split(".")
            assert parts[0] not in ("experiments", "data", "tests"), f"{path.name} imports {name}"
            if parts[0] == "vtd_jax" and len(parts) > 1 and parts[1] in ALLOWED:
                assert parts[1] == package or parts[1] in ALLOWED[package], f"{package}/{path.name} imports {name}"


def test_every_package_has_its_wall():
    found = {path.parent.name for path in (ROOT / "vtd_jax").glob("*/__init__.py")}
    assert found == set(ALLOWED)


@pytest.mark.parametrize(
    "module, absent",
    [
        ("vtd_jax", ("jax", "flax", "tensorflow_datasets", "grain", "tensorflow")),
        ("vtd_jax.model.vtd_clip", ("tensorflow_datasets", "tensorflow", "grain", "av", "cv2", "orbax", "matplotlib")),
        ("vtd_jax.clip.checkpoints", ("tensorflow_datasets", "grain", "av", "cv2", "torch", "transformers")),
        ("vtd_jax.train.step", ("tensorflow_datasets", "grain", "av", "cv2", "matplotlib")),
    ],
)
def test_the_model_imports_without_data_libraries(module, absent):
    code = f"import sys, {module}; print([m for m in {absent!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_no_file_is_too_long():
    for folder in ("vtd_jax", "experiments", "data", "tests"):
        for path in (ROOT / folder).rglob("*.py"):
            assert len(path.read_text().splitlines()) <= 350, path


def test_folders_are_removed_in_one_place():
    # shutil.rmtree waits for the writer of a pipe, and does nothing to a link where errors are ignored
    for folder in ("vtd_jax", "experiments"):
        for path in (ROOT / folder).rglob("*.py"):
            assert path.name == "files.py" or "rmtree" not in path.read_text(), f"{path}: use files.remove_tree"


def test_figures_are_made_and_saved_in_one_place():
    # where names of strangers are no formulas, and a letter without a font is a box
    for folder in ("vtd_jax", "experiments"):
        for path in (ROOT / folder).rglob("*.py"):
            made = any(word in path.read_text() for word in (" Figure(", ".savefig(", "pyplot", "parse_math"))
            assert path == ROOT / "vtd_jax" / "figures.py" or not made, f"{path}: use vtd_jax.figures"


def test_no_path_of_one_machine_and_no_tensorflow_import():
    for folder in ("vtd_jax", "experiments", "data"):
        for path in (ROOT / folder).rglob("*.py"):
            # the benchmark is compared with PyTorch in a file of its own, imported only where PyTorch is
            absent = ("tensorflow",) if path.name == "_benchmark_torch.py" else ("tensorflow", "torch")
            assert not any(name.split(".")[0] in absent for name in _imports(path)), path
