"""Makes `ssv2` known to TFDS; what it does is in `vtd_jax.video.ingest.builder`."""

from vtd_jax.video.ingest.builder import VideoRecordsBuilder, benchmark_configs


class Builder(VideoRecordsBuilder):
    """Records of Something-Something v2 from the official download; see README.md."""

    BUILDER_CONFIGS = benchmark_configs("ssv2")
