import pytest

from vtd_jax.errors import UserError
from vtd_jax.video.lists.find import find_videos


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for name in (
        "b.mp4",
        "a.MOV",
        "deep/er/c.webm",
        "notes.txt",
        ".hidden.mp4",
        "[1].mp4",
        "noending",
    ):
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
        (
            [
                "clips/b.mp4",
                "./clips/b.mp4",
                "clips/deep/../b.mp4",
                "{here}/clips/b.mp4",
                "link/b.mp4",
            ],
            ["b.mp4"],
        ),
        (["clips/b.mp4", "clips", "clips/b.mp4"], ["b.mp4", "[1].mp4", "a.MOV", "deep/er/c.webm"]),
    ],
)
def test_files_folders_and_globs(folder, sources, expected):
    (folder / "link").symlink_to("clips")
    sources = [source.format(here=folder) for source in sources]
    assert [str(path) for path in find_videos(sources)] == [f"clips/{name}" for name in expected]


@pytest.mark.parametrize(
    "sources, message",
    [
        ([], "sources: none given"),
        (["nothing.mp4"], "sources=nothing.mp4: no such file or folder"),
        (["clips/*.avi"], r"sources=clips/\*.avi: no video matches"),
        (
            ["clips/B.mp4"],
            "sources=clips/B.mp4: no such file or folder; was 'clips/b.mp4' meant, which is there?",
        ),
        (["Clips\\deep\\er\\c.webm"], "no such file or folder; was 'clips/deep/er/c.webm' meant"),
        (["x" * 300], "sources=x+: no such file or folder$"),
        (["empty"], "sources=empty: no videos in this folder"),
        (["clips", ""], "sources=: is empty, expected a file, a folder or a glob"),
    ],
)
def test_nothing_to_look_at_is_reported(folder, sources, message):
    (folder / "empty").mkdir()
    with pytest.raises(UserError, match=message):
        find_videos(sources)


def test_links_are_names_of_their_own(folder):
    (folder / "clips/same.mp4").symlink_to("b.mp4")
    found = find_videos(["clips/same.mp4", "clips/b.mp4", "./clips/same.mp4"])
    assert [path.name for path in found] == ["same.mp4", "b.mp4"]
