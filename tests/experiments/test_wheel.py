"""The wheel in an environment of its own, outside the checkout: `vtd` predicts with what a bare
install has, and with all of it trains, evaluates and builds.
"""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from support.small_run import ROOT
from vtd_jax.scenes.sets import SceneSet, write_scene_sets

pytestmark = [pytest.mark.slow, pytest.mark.command]

# a module that the environment imports when Python starts: what `hidden` lists is not there
HIDING = """
import json, os, sys
hidden = set(json.loads(os.environ.get("HIDDEN_MODULES", "[]")))
class Hiding:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in hidden:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Hiding())
"""


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _closure(requirements: list[str]) -> set[str]:
    """Packages that pip installs for these requirements, without other extras."""
    found: set[tuple[str, str]] = set()

    def add(requirement: Requirement) -> None:
        for extra in ("", *requirement.extras):
            key = (_normal(requirement.name), extra)
            if key in found:
                continue
            found.add(key)
            for text in metadata.requires(requirement.name) or ():
                one = Requirement(text)
                if one.marker is None or one.marker.evaluate({"extra": extra}):
                    add(one)

    for text in requirements:
        add(Requirement(text))
    return {name for name, _ in found}


def _beyond(bare: set[str]) -> list[str]:
    """Modules that are installed here and come with no package of a bare install."""
    return sorted(
        module
        for module, packages in metadata.packages_distributions().items()
        if not {_normal(one) for one in packages} & (bare | {"vtd-jax", "pip", "setuptools"})
    )


class Installed:
    """An environment with the wheel, and a folder with a decoy to run it in."""

    def __init__(self, folder: Path):
        # of a copy: a build leaves folders beside what it builds
        source, self.folder = folder / "source", folder / "elsewhere"
        self.source = source
        source.mkdir()
        for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
            shutil.copy(ROOT / name, source)
        for name in ("vtd_jax", "experiments", "data"):
            ignore = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, source / name, ignore=ignore)
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
        call = [*pip, "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", folder, source]
        subprocess.run(call, check=True)
        (wheel,) = folder.glob("*.whl")
        self.bin = folder / "environment" / "bin"
        call = [sys.executable, "-m", "venv", "--without-pip", self.bin.parent]
        subprocess.run(call, check=True)
        call = [*pip, "--python", self.bin / "python", "install", "-q", "--no-deps", wheel]
        subprocess.run(call, check=True)
        (self.packages,) = self.bin.parent.glob("lib/python*/site-packages")
        # the packages of this environment, but not its editable install, which is a .pth of its own
        (self.packages / "hiding.py").write_text(HIDING)
        libraries = Path(metadata.distribution("jax").locate_file(""))
        (self.packages / "libraries.pth").write_text(f"import hiding\n{libraries}\n")
        (distribution,) = metadata.distributions(path=[str(self.packages)], name="vtd-jax")
        asked = [Requirement(text) for text in distribution.requires or ()]
        bare = [str(one) for one in asked if "extra" not in str(one.marker)]
        self.hidden = _beyond(_closure(bare))
        # a user's own folders of these names must not be found instead
        for name in ("experiments", "data"):
            (self.folder / name).mkdir(parents=True)
            (self.folder / name / "__init__.py").write_text("raise RuntimeError('a decoy')")

    def run(self, *call: str, bare: bool = False) -> subprocess.CompletedProcess:
        """Runs a program of the environment in the folder."""
        environment = {
            name: value
            for name, value in os.environ.items()
            if name not in ("PYTHONPATH", "PYTHONHOME")
        }
        environment["HIDDEN_MODULES"] = json.dumps(self.hidden if bare else [])
        call = (str(self.bin / call[0]), *call[1:])
        return subprocess.run(
            call, cwd=self.folder, env=environment, capture_output=True, text=True
        )

    def said(self, *call: str, bare: bool = False) -> str:
        """The last line that `vtd` prints."""
        done = self.run("vtd", *call, bare=bare)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Iterator[Installed]:
    """The wheel, and rendered clips in `scenes`."""
    made = Installed(tmp_path_factory.mktemp("wheel"))
    scenes = SceneSet(7, classes=4, train=4, val=2, length=8)
    write_scene_sets([(scenes, made.folder / "scenes")])
    yield made
    shutil.rmtree(made.bin.parents[1], ignore_errors=True)


def test_what_is_hidden_is_what_extras_bring(installed):
    extras = {"tensorflow_datasets", "array_record", "grain", "tensorboardX", "matplotlib"}
    assert extras | {"transformers", "pytest"} <= set(installed.hidden)
    assert not {"jax", "flax", "av", "cv2", "orbax", "numpy", "msgspec"} & set(installed.hidden)


def test_nothing_of_ours_is_in_the_way(installed):
    tops = {path.name for path in installed.packages.iterdir() if path.suffix == ""}
    assert tops - {"__pycache__"} == {"vtd_jax"}
    code = "import sys; sys.path.remove(''); import vtd_jax; print(vtd_jax.__file__); import {}"
    for name in ("experiments", "data"):
        done = installed.run("python", "-c", code.format(name))
        assert str(installed.packages) in done.stdout
        assert f"No module named '{name}'" in done.stderr


def test_an_editable_install_is_found_from_the_folder_of_the_checkout(installed, tmp_path):
    checkout, environment = tmp_path / "vtd_jax", tmp_path / "environment"
    shutil.copytree(installed.source, checkout)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    (packages,) = environment.glob("lib/python*/site-packages")
    libraries = metadata.distribution("setuptools").locate_file("")
    (packages / "libraries.pth").write_text(f"{libraries}\n")
    python = str(environment / "bin" / "python")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", python]
    call = [*pip, "install", "-q", "--no-deps", "--no-build-isolation", "-e", checkout]
    subprocess.run(call, check=True)
    code = "from importlib.util import find_spec; print(find_spec('vtd_jax').origin)"
    call = [python, "-c", code]
    done = subprocess.run(call, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(checkout / "vtd_jax" / "__init__.py")


def test_a_bare_install_lists_commands_and_predicts(installed):
    done = installed.run("vtd", "--help", bare=True)
    assert done.returncode == 0, done.stderr
    assert "\n  build-data " in done.stdout
    names = (installed.folder / "scenes" / "base_labels.csv").read_text().splitlines()[1:]
    labels = ",".join(line.partition(",")[2] for line in names)
    flags = ("--video=scenes/videos/base_val_*.mp4", f"--labels={labels}", "--frames=4")
    said = installed.said(
        "predict", *flags, "--json=a.json", "--csv=a.csv", "--report=pages", bare=True
    )
    assert said == "4 videos: wrote a.json, a.csv, pages/index.html"
    page = (installed.folder / "pages" / "index.html").read_text()
    assert "vtd predict" in page
    assert "decoy" not in page
    assert len(json.loads((installed.folder / "a.json").read_text())["videos"]) == 4
    # the same by its other name
    assert installed.said("report", *flags, bare=True) == "4 videos: wrote report/index.html"
    assert (installed.folder / "report" / "base_val_000_000.html").is_file()


def test_a_bare_install_searches(installed):
    clips = "scenes/videos/novel_val_*.mp4"
    said = installed.said("index", clips, "--out=clips.index", "--frames=4", bare=True)
    assert said.startswith("clips.index: 4 videos (4 added")
    done = installed.run("vtd", "search", "clips.index", "red circle", "--top=1", bare=True)
    assert done.returncode == 0, done.stderr
    assert "novel_val_" in done.stdout
    code = "import vtd_jax; print(len(vtd_jax.Index.open('clips.index')))"
    done = installed.run("python", "-c", code, bare=True)
    assert (done.stdout, done.stderr) == ("4\n", "")


def test_a_bare_install_says_what_is_missing(installed):
    commands = ast.literal_eval(
        installed.run(
            "python",
            "-c",
            "import sys; from vtd_jax.installed import vtd; "
            "sys.path.insert(0, str(vtd.folder_of_commands())); "
            "from experiments.common import program; "
            "print({name: program.NEEDS.get(name, ()) for name in program.commands()})",
        ).stdout
    )
    assert len(commands) > 15
    for name, extras in commands.items():
        dashed = name.replace("_", "-")
        done = installed.run("vtd", name, "--help", bare=True)
        assert done.returncode == 0, done.stderr
        assert "vtd " in done.stdout
        # such a help ends with the line, that of a command that could be imported has flags
        if extras and done.stdout.endswith("(--help then says more)\n"):
            done = installed.run("vtd", name, bare=True)
            brought = re.escape(f"pip install 'vtd-jax[{','.join(extras)}]'")
            line = rf"error: vtd {dashed} needs [\w-]+: {brought}\n"
            assert (done.returncode, done.stdout) == (2, ""), name
            assert re.fullmatch(line, done.stderr), done.stderr
    done = installed.run("vtd", "demo", bare=True)
    assert done.returncode == 2
    assert "error: vtd demo needs" in done.stderr
    assert not (installed.folder / "demo_output").exists()


def test_the_whole_of_it_builds_trains_evaluates_and_reads_the_run(installed):
    lists = [
        f"--{flag}=scenes/{name}"
        for half in ("base_train", "base_val", "novel_val")
        for flag, name in (
            ("list", f"{half}.txt"),
            ("labels", f"{half.partition('_')[0]}_labels.csv"),
        )
    ]
    made = ("--video_dir=scenes/videos", "--data_dir=records", "--name=scenes")
    assert "wrote records/" in installed.said("build-data", *lists, *made)
    said = installed.said(
        "train", "--config=scenes", "--workdir=run", "--config.data.data_dir=records",
        "--config.optimizer.epochs=1", "--config.data.batch_size=4", "--config.data.frames=4",
        "--config.data.workers=1", "--config.data.drop_remainder=false",
    )  # fmt: skip
    assert said.startswith("trained to step 2: ")
    said = installed.said("evaluate", "--workdir=run")
    assert "wrote run/results.md" in said
    # a bare install reads what was trained
    flags = ("--video=scenes/videos/novel_val_000_000.mp4", "--labels=red circle,blue star")
    said = installed.said("predict", "--model=run", *flags, "--json=b.json", bare=True)
    assert said == "1 video: wrote b.json"
    about = json.loads((installed.folder / "b.json").read_text())["about"]
    assert "run" in about["model"]
    said = installed.said("export", "--workdir=run", "--out=tuned.safetensors", bare=True)
    assert said.startswith("wrote tuned.safetensors: ")
    said = installed.said("predict", "--model=tuned.safetensors", *flags, "--top=1", bare=True)
    assert said.startswith("1 video: ")


def test_builders_and_children_are_found(installed):
    """`data/NAME`, which TFDS reads, and a command that starts others in processes."""
    videos = installed.folder / "classes" / "red"
    videos.mkdir(parents=True)
    shutil.copy(installed.folder / "scenes" / "videos" / "base_val_000_000.mp4", videos)
    done = installed.run(
        "vtd", "tfds-build", "data/video_folder", "--manual_dir=classes", "--data_dir=tfds"
    )
    assert done.returncode == 0, done.stderr
    assert list((installed.folder / "tfds" / "video_folder").rglob("*.array_record*"))
    code = (
        "import sys; from vtd_jax.installed import vtd; "
        "sys.path.insert(0, str(vtd.folder_of_commands())); "
        "from experiments.benchmark import child; print(child._child('none', '{}', cache='x'))"
    )
    done = installed.run("python", "-c", code)
    # the child starts, and refuses settings without fields
    assert "Options.__init__() missing" in done.stdout, done.stdout + done.stderr
