"""Makes `video_folder` known to TFDS; what it does is in `vtd_jax.video.build`."""

from vtd_jax.video.build import VideoRecordsBuilder
from vtd_jax.video.inputs import VideoFolderConfig


class Builder(VideoRecordsBuilder):
    """Records of a list of videos; see README.md beside this file."""

    BUILDER_CONFIGS = [VideoFolderConfig(name="manual", description="list.txt, labels.csv, videos in --manual_dir")]  # noqa: RUF012
