"""A synthetic index of any size, and a child process that searches it and measures itself."""

import json
import resource
import sys
import time
from pathlib import Path

import numpy as np

from support.helpers import random_state
from vtd_jax.clip.config import CLIPConfig
from vtd_jax.clip.weights.checkpoints import save_clip
from vtd_jax.predict.loading import load
from vtd_jax.retrieval.encoder import encoder_fingerprint
from vtd_jax.retrieval.shard_files import Row, with_shard
from vtd_jax.retrieval.store import Contents, write_contents

# small towers, but features as wide as those of a ViT-B
WIDE = CLIPConfig(512, 32, 1, 64, 16, 64, text_layers=1)
QUERY = "a dog catches a frisbee"


def write(folder: Path, clips: int, frames: int = 16, planted: int = 0) -> Path:
    """Writes `clip.safetensors` and an index whose clip number `planted` fits `QUERY` best."""
    weights, index = folder / "clip.safetensors", folder / "index"
    save_clip(weights, WIDE, random_state(WIDE))
    predictor = load(weights)
    code = np.asarray(predictor.encode_words((QUERY,)))[0]
    index.mkdir()
    contents = Contents(
        encoder_fingerprint(predictor.model), frames, 512, str(weights), "", "", {}, ("/videos",)
    )
    rng, shards = np.random.default_rng(0), []
    base = rng.standard_normal((contents.clips_a_shard, frames, 512), dtype=np.float32)
    for first in range(0, clips, len(base)):
        # other numbers for every shard, in less time than random ones
        features = np.roll(base, first // len(base) * 7 + 1, axis=2).astype(np.float16)
        features = features[: clips - first]
        if first <= planted < first + len(features):
            features[planted - first, frames // 2] = code
        rows = [
            Row(0, f"{first + i}.mp4", 1, 1, frames, 1.0, [*range(frames)], [0.0] * frames)
            for i in range(len(features))
        ]
        contents = with_shard(index, contents, features, rows)
        shards.append(len(rows))
    write_contents(index, contents)
    return index


def _memory() -> dict[str, int]:
    """Lines of /proc/self/status about memory, MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    found = dict(line.split(":", 1) for line in lines)
    return {name: int(found[name].split()[0]) // 1024 for name in ("VmHWM", "VmRSS", "RssAnon")}


def main() -> None:
    """Searches the index in `sys.argv[1]`; prints what it found and took, as JSON."""
    from vtd_jax.retrieval.index import Index

    folder = Path(sys.argv[1])
    index = Index.open(folder, folder.parent / "clip.safetensors")
    texts = [QUERY, *(f"query {i}" for i in range(15))]
    index.predictor.encode_words(tuple(texts))
    before, seconds, hits = _memory(), {}, []
    for name, asked in (("first", QUERY), ("again", QUERY), ("of 16", texts)):
        begun = time.perf_counter()
        hits = index.search(asked, 10)
        seconds[name] = round(time.perf_counter() - begun, 2)
    found = [(hit.video, hit.score) for hit in hits[0]]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(json.dumps(dict(before=before, after=_memory(), peak=peak, seconds=seconds, hits=found)))


if __name__ == "__main__":
    main()
