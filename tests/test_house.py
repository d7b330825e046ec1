"""Structure of the code: imports point down only, folders stay small, light things load light."""

import ast
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# what a package of vtd_jax may import from the others; modules beside the packages may be imported
# by all
ALLOWED = {
    "console": set(),
    "installed": set(),
    "untrusted": set(),
    "clip": {"console", "installed", "untrusted"},
    "video": {"console", "installed", "untrusted"},
    "scenes": {"video"},
    "model": {"clip", "console", "untrusted"},
    # other methods' checkpoints, as settings and arrays of our model
    "rivals": {"clip", "model", "train"},
    "parallel": {"console", "model", "untrusted"},
    # frame features are made of batches
    "cache": {"clip", "console", "model", "parallel", "untrusted", "video"},
    "train": {"cache", "clip", "console", "model", "parallel", "untrusted", "video"},
    "evaluate": {"cache", "clip", "model", "parallel", "train", "untrusted", "video"},
    "predict": {"cache", "clip", "console", "model", "train", "untrusted", "video"},
    "retrieval": {
        "cache",
        "clip",
        "console",
        "installed",
        "model",
        "predict",
        "untrusted",
        "video",
    },
    "report": {"installed", "predict", "untrusted", "video"},
    "app": {"clip", "model", "predict", "report", "untrusted", "video"},
    "cost": {"clip", "evaluate", "installed", "model", "parallel", "train", "video"},
}
_MOST_FILES, _MOST_LINES = 17, 350
# results have methods that draw them, and what draws stands above results: this file alone imports
# it, in a function, when such a method is called
_UPWARD = {ROOT / "vtd_jax" / "predict" / "display" / "shown.py": "report"}
# a script that is copied beside what it serves, and so has to be one file
_ALONE = ROOT / "vtd_jax" / "predict" / "serve_example.py"


def _imports(path):
    """Names of modules that a file imports, wherever in the file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _packages(path):
    """The packages of vtd_jax that a file imports from."""
    for name in _imports(path):
        parts = name.split(".")
        assert parts[0] not in ("experiments", "data", "tests"), f"{path} imports {name}"
        if parts[0] == "vtd_jax" and len(parts) > 1 and parts[1] in ALLOWED:
            yield parts[1]


@pytest.mark.parametrize("package", ALLOWED)
def test_imports_point_down(package):
    files = sorted((ROOT / "vtd_jax" / package).rglob("*.py"))
    assert files
    for path in files:
        wrong = set(_packages(path)) - ALLOWED[package] - {package, _UPWARD.get(path)}
        assert not wrong, f"{path.relative_to(ROOT)} imports from {', '.join(wrong)}"


def test_upward_imports_wait_for_a_call():
    for path, above in _UPWARD.items():
        assert above in set(_packages(path))
        tree = ast.parse(path.read_text())
        at_once = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
        assert not any(f"vtd_jax.{above}" in ast.unparse(node) for node in at_once)


def test_no_allowed_arrow_is_unused():
    for package, allowed in ALLOWED.items():
        files = (ROOT / "vtd_jax" / package).rglob("*.py")
        assert allowed <= {name for path in files for name in _packages(path)}, package


def test_no_arrows_form_a_circle():
    left = dict(ALLOWED)
    while ground := [package for package, allowed in left.items() if not allowed & left.keys()]:
        for package in ground:
            del left[package]
    assert not left


def test_modules_beside_the_packages_stand_on_the_ground():
    for path in (ROOT / "vtd_jax").glob("*.py"):
        # `vtd_jax.load` and all others are looked up when they are first used
        public = {"clip", "model", "predict", "retrieval", "video"}
        allowed = public if path.name == "__init__.py" else {"untrusted"}
        assert set(_packages(path)) <= allowed, path


def test_every_package_has_its_wall():
    found = {path.parent.name for path in (ROOT / "vtd_jax").glob("*/__init__.py")}
    assert found == set(ALLOWED)


@pytest.mark.slow
@pytest.mark.parametrize(
    "module, absent",
    [
        ("vtd_jax", ("jax", "flax", "tensorflow_datasets", "grain", "tensorflow")),
        (
            "vtd_jax.model.vtd_clip",
            ("tensorflow_datasets", "tensorflow", "grain", "av", "cv2", "orbax", "matplotlib"),
        ),
        (
            "vtd_jax.clip.weights.checkpoints",
            ("tensorflow_datasets", "grain", "av", "cv2", "torch", "transformers"),
        ),
        ("vtd_jax.train.step", ("tensorflow_datasets", "grain", "av", "cv2", "matplotlib")),
        (
            "vtd_jax.predict.loading",
            ("optax", "orbax", "tensorstore", "tensorflow_datasets", "grain", "rich", "tensorflow"),
        ),
        (
            "vtd_jax.retrieval.index",
            ("optax", "orbax", "tensorstore", "tensorflow_datasets", "grain", "tensorflow"),
        ),
        ("vtd_jax.train.config", ("jax", "flax", "optax", "orbax", "tensorflow_datasets")),
    ],
)
def test_what_is_light_loads_light(module, absent):
    # flax.nnx itself imports optax and rich: forgotten, they show where ours imports them again
    flax = "" if "flax" in absent else "import flax.nnx"
    code = f"""
import sys
{flax}
for name in {absent!r}:
    sys.modules.pop(name, None)
import {module}
print([name for name in {absent!r} if name in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_files_and_folders_stay_small():
    for top in ("vtd_jax", "experiments", "data", "tests"):
        for folder in [ROOT / top, *(path for path in (ROOT / top).rglob("*") if path.is_dir())]:
            files = list(folder.glob("*.py"))
            assert len(files) <= _MOST_FILES, f"{folder}: {len(files)} files"
            for path in files:
                lines = len(path.read_text().splitlines())
                assert lines <= _MOST_LINES or path == _ALONE, f"{path}: {lines} lines"


def test_folders_are_removed_in_one_place():
    # shutil.rmtree waits for the writer of a pipe, and does nothing to a link where errors are
    # ignored
    for folder in ("vtd_jax", "experiments"):
        for path in (ROOT / folder).rglob("*.py"):
            assert path.name == "files.py" or "rmtree" not in path.read_text(), (
                f"{path}: use files.remove_tree"
            )


def test_figures_are_made_and_saved_in_one_place():
    # where names of strangers are no formulas, and a letter without a font is a box
    for folder in ("vtd_jax", "experiments"):
        for path in (ROOT / folder).rglob("*.py"):
            made = any(
                word in path.read_text()
                for word in (" Figure(", ".savefig(", "pyplot", "parse_math")
            )
            assert path == ROOT / "vtd_jax" / "figures.py" or not made, (
                f"{path}: use vtd_jax.figures"
            )


@pytest.mark.slow
def test_no_tensorflow_and_no_torch_import():
    for folder in ("vtd_jax", "experiments", "data"):
        for path in (ROOT / folder).rglob("*.py"):
            # the benchmark's side in PyTorch is imported only where PyTorch is
            absent = ("tensorflow",) if path.name == "torch_side.py" else ("tensorflow", "torch")
            assert not any(name.split(".")[0] in absent for name in _imports(path)), path


@pytest.mark.slow
def test_the_wheel_holds_every_module_and_every_data_file(tmp_path):
    # of a copy: a build leaves folders beside what it builds
    source = tmp_path / "source"
    source.mkdir()
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    ignore = shutil.ignore_patterns("__pycache__")
    for name in ("vtd_jax", "experiments", "data"):
        shutil.copytree(ROOT / name, source / name, ignore=ignore)
    call = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*call, "--wheel-dir", tmp_path, source], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    expected = set()
    for name in ("vtd_jax", "experiments", "data"):
        # in site-packages, `experiments` and `data` would be in the way of everyone's own
        where = "" if name == "vtd_jax" else "vtd_jax/_bundled/"
        files = (path for path in (source / name).rglob("*") if path.is_file())
        expected |= {f"{where}{path.relative_to(source).as_posix()}" for path in files}
    assert held == expected
