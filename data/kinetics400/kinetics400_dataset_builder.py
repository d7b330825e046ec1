"""Makes `kinetics400` known to TFDS; what it does is in `vtd_jax.video.ingest.builder`."""

from vtd_jax.video.ingest.builder import VideoRecordsBuilder, benchmark_configs


class Builder(VideoRecordsBuilder):
    """Records of Kinetics-400 from the official download; see README.md."""

    BUILDER_CONFIGS = benchmark_configs("kinetics400")
