"""Cache folders that someone else filled: computed again with a warning, nothing in them runs."""

import os
import zlib

import pytest

from hostile import harness
from support.video_files import make_video
from vtd_jax.cache.programs import FOLDER

pytestmark = pytest.mark.command

WORDS = 256


def _signed(content):
    return content + zlib.crc32(content).to_bytes(4, "little")


def _header(text, body=b""):
    head = text.encode("latin-1").ljust(117) + b"\n"
    return _signed(b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head + body)


# files with a right checksum, which is no secret
LIES = {
    "terabytes": _header(
        f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({WORDS}, 999999999999)}}"
    ),
    "pickled": _header(
        f"{{'descr': '|O', 'fortran_order': False, 'shape': ({WORDS},)}}",
        b"cos\nsystem\n(S'true'\ntR.",
    ),
    "acting": _header("\x1b]0;x\x07\x1b[31m"),
    "pipe": None,
}


@pytest.fixture(scope="module")
def known(tmp_path_factory):
    """Flags of a search among words whose features are in the cache, and its environment."""
    folder = tmp_path_factory.mktemp("known")
    make_video(folder / "a.mp4", 4)
    (folder / "words.txt").write_text("".join(f"word {place}\n" for place in range(WORDS)))
    flags = [
        f"--video={folder / 'a.mp4'}",
        "--labels=red,blue",
        "--frames=2",
        f"--vocabulary={folder / 'words.txt'}",
    ]
    settings = dict(folder=folder, outputs=[folder / "cache"])
    settings["env"] = harness.small_run_environment() | {"VTD_JAX_CACHE": str(folder / "cache")}
    harness.check_right("predict", flags, **settings)
    (file,) = (folder / "cache").glob("text-*.npy")
    return flags, settings, file


@pytest.mark.parametrize("name", LIES)
def test_text_features_that_lie_are_computed_again(name, known):
    flags, settings, file = known
    whole = file.read_bytes()
    file.unlink()
    os.mkfifo(file) if name == "pipe" else file.write_bytes(LIES[name])
    harness.check_right("predict", flags, texts=["damaged text features"], **settings)
    assert file.read_bytes() == whole


def test_programs_of_others_are_not_loaded(known):
    flags, settings, file = known
    programs = file.parent / FOLDER
    programs.mkdir(exist_ok=True)
    programs.chmod(0o777)
    # as without the variables of JAX, which are the user's own choice
    kept = {
        name: value
        for name, value in settings["env"].items()
        if not name.startswith("JAX_COMPILATION")
    }
    settings = settings | {"env": kept, "cold": True}
    text = "is not used for compiled programs"
    done = harness.check_right("predict", flags, texts=[text], **settings)
    assert len([line for line in done.stderr.splitlines() if line.startswith("warning: ")]) == 1
    assert list(programs.rglob("*-cache")) == []
