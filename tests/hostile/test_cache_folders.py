"""Cache folders that someone else filled: computed again with a warning, nothing in them runs."""

import os

import pytest

from hostile import harness
from support.video_files import make_video
from vtd_jax.cache.programs import FOLDER

pytestmark = pytest.mark.command

WORDS = 256


def _header(text, body=b""):
    head = text.encode()
    return len(head).to_bytes(8, "little") + head + body


def _rows(shape, end, kind="F32", crc="00000000"):
    return (
        f'{{"__metadata__":{{"crc32":"{crc}"}},"rows":{{"dtype":"{kind}","shape":{shape},'
        f'"data_offsets":[0,{end}]}}}}'
    )


LIES = {
    "terabytes": _header(_rows([WORDS, 999999999999], WORDS * 999999999999 * 4)),
    "overlapping": _header(_rows([WORDS, 4], 8), bytes(8)),
    "pickled": b"\x80\x04cos\nsystem\n(S'true'\ntR.",
    "acting": _header("\x1b]0;x\x07\x1b[31m"),
    "other": _header(_rows([1], 4, crc="2144df1c"), bytes(4)),
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
    (file,) = (folder / "cache").glob("text-*.safetensors")
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
