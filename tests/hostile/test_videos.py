"""Videos of strangers through the commands: the flags that raise limits, and pipes."""

import os

import pytest

from hostile import harness
from hostile.corpus.videos import gif_frames, mkv_late
from support.video_files import make_video

pytestmark = pytest.mark.command

ZERO_SHOT = ["--labels=red,blue", "--frames=2"]


def test_limits_of_predict_are_raised_by_flags(tmp_path):
    video, out = make_video(tmp_path / "a.mp4", 4), tmp_path / "out.json"
    flags = [f"--video={video}", f"--json={out}", *ZERO_SHOT]
    settings = dict(folder=tmp_path, outputs=[out])
    # a frame counts as scaled up to a short side of 512
    low = ["--max_frame_pixels=1000"]
    harness.check_refused("predict", flags + low, texts=["a.mp4", "--max_frame_pixels"], **settings)
    harness.check_right("predict", [*flags, "--max_frame_pixels=1000000"], **settings)


def test_a_timeline_of_nothing_is_refused(tmp_path):
    video, out = gif_frames(tmp_path, 100, 16), tmp_path / "out.json"
    late = mkv_late(tmp_path)
    flags = [f"--video={video}", f"--json={out}", "--window=0.001", "--max_moments=1", *ZERO_SHOT]
    settings = dict(folder=tmp_path, outputs=[out])
    harness.check_safe("predict", flags, texts=["frames.gif", "--max_moments"], **settings)
    harness.check_safe(
        "predict", [f"--video={late}", f"--json={out}", "--window=8", *ZERO_SHOT], **settings
    )


def test_pipes_are_no_videos(tmp_path):
    for name in ("a.mp4", "list/red/b.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        os.mkfifo(tmp_path / name)
    out, records = tmp_path / "out.json", tmp_path / "records"
    flags = [f"--video={tmp_path}/a.mp4", f"--json={out}", *ZERO_SHOT]
    harness.check_refused("predict", flags, folder=tmp_path, outputs=[out], texts=["a.mp4"])
    (tmp_path / "list/blue").mkdir()
    make_video(tmp_path / "list/red/good.mp4", 4)
    make_video(tmp_path / "list/blue/good.mp4", 4)
    flags = [
        f"--source={tmp_path}/list",
        f"--data_dir={records}",
        "--on_error=skip",
        "--workers=1",
        "--name=all",
    ]
    done = harness.run(
        "build_data", flags, folder=tmp_path, outputs=[records], limits=harness.Limits(cpu=60)
    )
    assert done.status == 0, done
