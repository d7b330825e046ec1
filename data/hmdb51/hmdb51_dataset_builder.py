"""Makes `hmdb51` known to TFDS; what it does is in `vtd_jax.video.ingest.builder`."""

from vtd_jax.video.ingest.builder import VideoRecordsBuilder, benchmark_configs


class Builder(VideoRecordsBuilder):
    """Records of HMDB-51 from the official download; see README.md."""

    BUILDER_CONFIGS = benchmark_configs("hmdb51")
