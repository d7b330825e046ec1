import pytest

from vtd_jax.errors import UserError
from vtd_jax.video.find import find_videos


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for name in ("b.mp4", "a.MOV", "deep/er/c.webm", "notes.txt", ".hidden.mp4", "[1].mp4", "noending"):
        path = tmp_path / "clips" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "sources, expected",
    [
        (["clips"], ["[1].mp4", "a.MOV", "b.mp4", "deep/er/c.webm"]),
        (["clips/noending"], ["noending"]),
        (["clips/[1].mp4"], ["[1].mp4"]),
        (["clips/*.mp4"], ["[1].mp4", "b.mp4"]),
        (["clips/**/*"], ["[1].mp4", "a.MOV", "b.mp4", "deep/er/c.webm"]),
        (["clips/de*"], ["deep/er/c.webm"]),
        (["clips/b.mp4", "clips", "clips/b.mp4"], ["b.mp4", "[1].mp4", "a.MOV", "deep/er/c.webm"]),
    ],
)
def test_files_folders_and_globs(folder, sources, expected):
    assert [str(path) for path in find_videos(sources)] == [f"clips/{name}" for name in expected]


@pytest.mark.parametrize(
    "sources, message",
    [
        ([], "--video: none given"),
        (["nothing.mp4"], "--video=nothing.mp4: no such file or folder"),
        (["clips/*.avi"], r"--video=clips/\*.avi: no video matches"),
        (["empty"], "--video=empty: no videos in this folder"),
    ],
)
def test_nothing_to_look_at_is_told(folder, sources, message):
    (folder / "empty").mkdir()
    with pytest.raises(UserError, match=message):
        find_videos(sources)
